#include "nulld/spawn.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "nulld/service_child.h"

namespace nullbox::nulld {

Result<sandbox::Cgroup> make_service_group(const manifest::ServiceConfig& config,
                                           const std::string& cgroup_root) {
    auto group = TRY(sandbox::Cgroup::create(cat(cgroup_root, "/", config.name)));
    TRY(group.limit({.memory_max_bytes = config.memory_max_bytes,
                     .pids_max = config.pids_max,
                     .cpu_max_percent = config.cpu_max_percent}));
    if (!config.delegate_cgroup) return group;
    // A group whose controllers are handed down may hold no process itself (cgroups(7), "no internal
    // processes"): the service lives in a leaf, and makes its own groups beside it.
    TRY(group.enable_controllers_below());
    TRY(group.delegate_to(config.uid, config.gid));
    auto leaf = TRY(sandbox::Cgroup::create(group.path() + "/daemon"));
    TRY(leaf.delegate_to(config.uid, config.gid));
    return group;
}

static Result<> owned_folder(const std::string& path, uid_t uid, gid_t gid, mode_t mode) {
    TRY(make_directories(path));
    // The disk's content may be anybody's: a link in the folder's place leads nowhere.
    Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!folder || ::fchown(folder.get(), uid, gid) < 0 || ::fchmod(folder.get(), mode) < 0)
        return errno_error(cat("give ", path, " to uid ", uid));
    return {};
}

std::vector<std::string> prepare_folders(const manifest::ServiceConfig& config) {
    std::vector<std::string> problems;
    auto note = [&](Result<> result) {
        if (!result) problems.push_back(std::move(result.error().message));
    };
    // Others may pass through to its socket, and see nothing else.
    note(owned_folder(cat("/run/", config.name), config.uid, config.gid, 0711));
    // The folder itself, also one that came with the disk; what is in it stays whose it is.
    for (const auto& path : config.write_paths)
        if (path.starts_with("/var/")) note(owned_folder(path, config.uid, config.gid, 0700));
    for (const auto& path : config.devices) {
        if (::chown(path.c_str(), 0, config.gid) < 0 || ::chmod(path.c_str(), 0660) < 0)
            note(errno_error(cat("device ", path)));
    }
    return problems;
}

// clone3's child, like fork's, goes on from here with a copy of everything. With no threads in PID 1 that is
// safe; pidfd and group come without a race.
static pid_t clone_into(uint64_t namespaces, int group_fd, int* pidfd) {
    clone_args arguments{};
    arguments.flags = namespaces | CLONE_PIDFD | (group_fd >= 0 ? CLONE_INTO_CGROUP : 0);
    arguments.pidfd = reinterpret_cast<uint64_t>(pidfd);
    arguments.exit_signal = SIGCHLD;
    arguments.cgroup = group_fd >= 0 ? static_cast<uint64_t>(group_fd) : 0;
    return static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
}

// The child puts its descriptors on 0 to 3, so the originals must lie above.
static Result<Fd> moved_up(const Fd& fd) {
    int copy = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 16);
    if (copy < 0) return errno_error("duplicate descriptor");
    return Fd(copy);
}

Result<ServiceProcess> spawn_service(const ServicePlan& plan, const sandbox::Cgroup* group) {
    auto output = TRY(make_pipe().context("output"));
    auto notify = TRY(make_pipe().context("start-up descriptor"));
    auto setup = TRY(make_pipe().context("status pipe"));
    Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null) return errno_error("open /dev/null");
    Fd high_null = TRY(moved_up(null)), high_output = TRY(moved_up(output.write)),
       high_notify = TRY(moved_up(notify.write)), high_setup = TRY(moved_up(setup.write));
    Fd leaf; // a delegated group's process goes into its leaf "daemon"
    if (group) {
        leaf.reset(::openat(group->directory_fd(), "daemon", O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!leaf && errno != ENOENT)
            return errno_error(cat("open control group ", group->path(), "/daemon"));
    }
    int group_fd = leaf ? leaf.get() : group ? group->directory_fd() : -1;
    int pidfd = -1;
    pid_t pid = clone_into(plan.namespaces, group_fd, &pidfd);
    if (pid < 0) return errno_error("start a process");
    if (pid == 0)
        become_service(plan, {.null = high_null.get(),
                              .output = high_output.get(),
                              .notify = high_notify.get(),
                              .status = high_setup.get()});
    ServiceProcess process{.pid = pid,
                           .pidfd = Fd(pidfd),
                           .output = std::move(output.read),
                           .notify = std::move(notify.read),
                           .setup = std::move(setup.read)};
    // Only now: the parent's ends must not be nonblocking for the child, whose ends are other descriptions.
    for (int fd : {process.output.get(), process.notify.get(), process.setup.get()})
        (void)set_nonblocking(fd);
    return process;
}

} // namespace nullbox::nulld
