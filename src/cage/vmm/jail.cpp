#include "cage/vmm/jail.h"

#include <algorithm>
#include <cerrno>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"
#include "cage/vmm/fs.h"
#include "cage/vmm/vsock.h"
#include "cage/vmm_channel.h"
#include "sandbox/capabilities.h"
#include "sandbox/landlock.h"

namespace nullbox::cage {

using sandbox::SyscallRule;

static Result<> step(int failed, std::string_view what) {
    if (failed) return errno_error(failed, cat("jail: ", what));
    return {};
}
static int code(int answer) { return answer < 0 ? errno : 0; }

// An empty, read-only root; the old one is gone. "." twice: the old root is stacked on the new one and taken
// off (pivot_root(2)), so no folder has to be made for it.
static Result<> leave_file_system() {
    TRY(step(code(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr)),
             "make mounts private (a Landlock policy on cage would forbid it: it must have none)"));
    TRY(step(code(::mount("none", "/tmp", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k")),
             "mount an empty root"));
    TRY(step(code(::chdir("/tmp")), "enter the empty root"));
    TRY(step(code(static_cast<int>(::syscall(SYS_pivot_root, ".", "."))), "change the root"));
    TRY(step(code(::umount2(".", MNT_DETACH)), "let go of the old root"));
    return step(code(::chdir("/")), "enter the new root");
}

static bool writes_folders(const JailOptions& options) {
    return std::ranges::any_of(options.folders, &JailOptions::Folder::writable);
}

// A share's open files and folders, and the way down while it is counted.
static uint64_t most_descriptors(const JailOptions& options) {
    constexpr uint64_t kShare = FsOperations::kMostHandles + FsTree::kOpenFolders + kMostDepth;
    uint64_t wanted = 128 + 2 * VsockDevice::kMostStreams + options.folders.size() * kShare;
    // Where cage itself may have fewer, a guest that opens very many files is told so.
    rlimit now{};
    return ::getrlimit(RLIMIT_NOFILE, &now) == 0 ? std::min<uint64_t>(wanted, now.rlim_max) : wanted;
}

static Result<> limit_resources(const JailOptions& options) {
    auto limit = [](int what, uint64_t most) {
        const rlimit both{most, most};
        return code(::setrlimit(static_cast<__rlimit_resource>(what), &both));
    };
    TRY(step(limit(RLIMIT_CORE, 0), "forbid core files")); // guest memory in a file
    TRY(step(limit(RLIMIT_NOFILE, most_descriptors(options)), "limit descriptors"));
    TRY(step(limit(RLIMIT_MEMLOCK, 0), "limit locked memory"));
    if (!options.writes_disks && !writes_folders(options))
        TRY(step(limit(RLIMIT_FSIZE, 0), "forbid growing files"));
    return {};
}

static sandbox::LandlockPolicy folders_only(const JailOptions& options) {
    sandbox::LandlockPolicy policy;
    for (const auto& folder : options.folders)
        folder.writable ? policy.write_folder(folder.descriptor) : policy.read_folder(folder.descriptor);
    return policy;
}

Result<> enter_jail(const JailOptions& options) {
    // Whoever takes this process over is this uid, which owns nothing ...
    TRY(step(sandbox::become_user({options.uid, options.uid}, {}), "become the VM's own user"));
    // ... sees no process, no network, no message queue and no mount ...
    TRY(step(code(::unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                            CLONE_NEWCGROUP)),
             "leave the namespaces"));
    TRY(leave_file_system());
    // ... can hold no privilege again, not even in its own namespace ...
    TRY(step(sandbox::limit_bounding_set({}), "empty the bounding set"));
    TRY(step(sandbox::keep_only({}), "drop capabilities"));
    TRY(step(code(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)), "set no_new_privs"));
    TRY(limit_resources(options));
    // ... cannot be traced by its like, and opens no file but beneath its guest's folders, even one that
    // would be mounted here ...
    TRY(step(code(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)), "forbid tracing"));
    TRY(step(folders_only(options).enforce().code, "enforce Landlock"));
    // ... and has only the system calls below, which its threads take upon themselves.
    return {};
}

static void for_locks_and_end(std::vector<SyscallRule>& rules) {
    rules.push_back({SYS_futex, {}, "a lock that another thread holds; a paused vCPU waits"});
    rules.push_back({SYS_rt_sigreturn, {}, "after the kick out of KVM_RUN; a handler of the sanitizers'"});
    rules.push_back({SYS_rt_sigprocmask, {}, "abort(), when one of our own checks fails; pthread_kill()"});
    rules.push_back({SYS_gettid, {}, "abort()"});
    rules.push_back({SYS_getpid, {}, "abort(), pthread_kill()"});
    rules.push_back({SYS_tgkill, {}, "abort(); the device thread kicks vCPUs"});
    rules.push_back({SYS_exit_group, {}, "the end of the VM"});
}

Result<sandbox::SyscallFilter> vcpu_filter(const JailOptions&) {
    std::vector<SyscallRule> rules{
        {SYS_ioctl, {{.index = 1, .value = KVM_RUN}}, "run the guest"},
        {SYS_write, {}, "doorbells, interrupts and the end are eventfds; stderr for the early console"},
        {SYS_pause, {}, "wait for the end of the process"},
    };
    for_locks_and_end(rules);
    return sandbox::SyscallFilter::compile(rules);
}

static void for_memory(std::vector<SyscallRule>& rules) {
    constexpr uint64_t kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    rules.push_back({SYS_brk, {}, "the heap"});
    rules.push_back(
        {SYS_mmap,
         {{.index = 2, .value = 0, .mask = PROT_EXEC}, {.index = 3, .value = kAnonymous, .mask = kAnonymous}},
         "the heap; never executable, never a file"});
    rules.push_back({SYS_munmap, {}, "the heap"});
    rules.push_back({SYS_mremap, {}, "the heap: a buffer that grows"});
    rules.push_back(
        {SYS_mprotect, {{.index = 2, .value = 0, .mask = PROT_EXEC}}, "the heap grows; never executable"});
    rules.push_back({SYS_madvise, {}, "the heap gives memory back"});
}

// What they reach is Landlock's business, which looks at every path; here is only what can be done at all.
static void for_folders(std::vector<SyscallRule>& rules, const JailOptions& options) {
    if (options.folders.empty()) return;
    rules.push_back({SYS_openat2, {}, "shares: every file and folder, one name at a time"});
    rules.push_back({SYS_newfstatat, {}, "shares: what lies there"});
    rules.push_back({SYS_fstat, {}, "shares: the same, by libc's choice"});
    rules.push_back({SYS_fstatfs, {}, "shares: free space"});
    rules.push_back({SYS_getdents64, {}, "shares: listing"});
    rules.push_back({SYS_lseek, {}, "shares: listing on, holes in files"});
    rules.push_back({SYS_fsync, {}, "shares"});
    rules.push_back({SYS_fdatasync, {}, "shares"});
    if (!writes_folders(options)) return;
    rules.push_back({SYS_pwritev, {}, "writable shares: files"});
    rules.push_back({SYS_ftruncate, {}, "writable shares: sizes"});
    rules.push_back({SYS_fallocate, {}, "writable shares: sizes"});
    rules.push_back({SYS_fchmod, {}, "writable shares: the executable bits"});
    rules.push_back({SYS_utimensat, {}, "writable shares: times"});
    rules.push_back({SYS_mkdirat, {}, "writable shares"});
    rules.push_back({SYS_unlinkat, {}, "writable shares"});
    rules.push_back({SYS_renameat2, {}, "writable shares"});
    rules.push_back({SYS_renameat, {}, "writable shares: the same without flags, by libc's choice"});
}

Result<sandbox::SyscallFilter> device_filter(const JailOptions& options) {
    std::vector<SyscallRule> rules{
        {SYS_epoll_wait, {}, "the loop"},
        {SYS_epoll_pwait, {}, "the loop, by libc's choice"},
        {SYS_epoll_ctl, {}, "streams come and go"},
        {SYS_read, {}, "doorbells"},
        {SYS_write, {}, "interrupts; the log"},
        {SYS_writev, {}, "the log; the network card"},
        {SYS_preadv, {}, "disks, shared files"},
        {SYS_getrandom, {}, "the random device"},
        {SYS_socketpair, {{.index = 0, .value = AF_UNIX}}, "a guest's stream to the host"},
        {SYS_sendmsg, {}, "streams, and their other ends to cage"},
        {SYS_sendto, {}, "streams"},
        {SYS_recvmsg, {{.index = 0, .value = kVmmChannelFd}}, "cage's messages"},
        {SYS_readv, {}, "streams; the network card"},
        {SYS_shutdown, {}, "half-closed streams"},
        {SYS_fcntl, {}, "streams from cage are made nonblocking"},
        {SYS_close, {}, "streams"},
        {SYS_clock_gettime, {}, "timers, where the vDSO cannot"},
        {SYS_ioctl, {{.index = 1, .value = KVM_KVMCLOCK_CTRL}}, "a pause: the guest's watchdogs are told"},
    };
    if (options.writes_disks) {
        rules.push_back({SYS_pwritev, {}, "writable disks"});
        rules.push_back({SYS_fdatasync, {}, "writable disks: flush"});
    }
    if (options.has_net)
        rules.push_back({SYS_ioctl,
                         {{.index = 1, .value = TUNSETOFFLOAD}},
                         "the network card: what the guest's driver can take unfinished"});
    for_folders(rules, options);
    for_memory(rules);
    for_locks_and_end(rules);
    return sandbox::SyscallFilter::compile(rules);
}

} // namespace nullbox::cage
