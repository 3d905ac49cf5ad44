#include "nulld/service_child.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"
#include "sandbox/namespaces.h"

namespace nullbox::nulld {

std::string to_text(const SetupFailure& failure, const ServicePlan& plan) {
    std::string what = "set up";
    switch (failure.stage) {
    case Stage::Session:
        what = "start a session";
        break;
    case Stage::Descriptors:
        what = "connect its output";
        break;
    case Stage::OomScore:
        what = "set oom_score_adj";
        break;
    case Stage::Mounts:
        what = "make its mount namespace private";
        break;
    case Stage::Limits:
        what = "set resource limits";
        break;
    case Stage::WorkingDirectory:
        what = cat("change to working directory ", plan.working_directory);
        break;
    case Stage::NoNewPrivileges:
        what = "set no_new_privs";
        break;
    case Stage::BoundingSet:
        what = "limit the capability bounding set";
        break;
    case Stage::User:
        what = cat("become uid ", plan.user.uid);
        break;
    case Stage::Landlock:
        what = "enforce Landlock";
        if (plan.files && failure.rule < plan.files->rules().size())
            what = cat("allow ", plan.files->rules()[failure.rule].path, " (Landlock)");
        break;
    case Stage::Seccomp:
        what = "install its system call filter";
        break;
    case Stage::Execute:
        what = cat("execute ", plan.program);
        break;
    }
    return errno_error(failure.code, cat("cannot ", what)).message;
}

// Each returns 0 or an errno value.
static int errno_if(bool failed) noexcept { return failed ? errno : 0; }

static int default_signals() noexcept {
    for (int number = 1; number < NSIG; number++) ::signal(number, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    return errno_if(::sigprocmask(SIG_SETMASK, &none, nullptr) < 0);
}

static int connect_descriptors(const ChildDescriptors& from) noexcept {
    if (::dup2(from.null, 0) < 0 || ::dup2(from.output, 1) < 0 || ::dup2(from.output, 2) < 0 ||
        ::dup2(from.notify, kNotifyFd) < 0)
        return errno;
    // All of PID 1's are CLOEXEC; this is for the one that some day is not.
    return errno_if(::syscall(SYS_close_range, kNotifyFd + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0);
}

static int ordinary_oom_score() noexcept {
    int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    int failed = errno_if(fd < 0 || ::write(fd, "0", 1) != 1);
    if (fd >= 0) ::close(fd);
    return failed;
}

namespace {
struct Reporter {
    int status_fd;
    void operator()(Stage stage, int code, uint32_t rule = kNoRule) const noexcept {
        if (!code) return;
        SetupFailure failure{.stage = stage, .code = code, .rule = rule};
        (void)!::write(status_fd, &failure, sizeof failure);
        ::_exit(127);
    }
};
} // namespace

static void enforce_files(const sandbox::LandlockPolicy& files, const Reporter& step) noexcept {
    auto failure = files.enforce();
    auto rule = failure.rule ? static_cast<uint32_t>(failure.rule - files.rules().data()) : kNoRule;
    step(Stage::Landlock, failure.code, rule);
}

// The sandbox of a service, top to bottom. The namespaces and the control group are already its own: clone3
// made the process in them. A network namespace stays as it is made: empty, with not even its loopback up.
void become_service(const ServicePlan& plan, ChildDescriptors descriptors) noexcept {
    Reporter step{descriptors.status};
    step(Stage::Session, errno_if(::setsid() < 0));
    step(Stage::Session, default_signals());
    step(Stage::Descriptors, connect_descriptors(descriptors));
    step(Stage::OomScore, ordinary_oom_score()); // PID 1's own is -1000
    if (plan.namespaces & CLONE_NEWNS) step(Stage::Mounts, sandbox::receive_mounts_only());
    step(Stage::Limits, sandbox::apply_limits(plan.limits));
    ::umask(077);
    step(Stage::WorkingDirectory, errno_if(::chdir(plan.working_directory.c_str()) < 0));
    step(Stage::NoNewPrivileges, errno_if(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0));
    step(Stage::BoundingSet, sandbox::limit_bounding_set(plan.capabilities));
    step(Stage::User, sandbox::become_user(plan.user, plan.capabilities));
    if (plan.files) enforce_files(*plan.files, step);
    if (plan.syscalls) step(Stage::Seccomp, plan.syscalls->install());
    ::execve(plan.program.c_str(), plan.arguments.data(), plan.environment.data());
    step(Stage::Execute, errno);
    ::_exit(127);
}

} // namespace nullbox::nulld
