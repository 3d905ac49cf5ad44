// The named groups of system calls. A group is what a kind of program needs, not what is harmless; the reason
// of each line says what for. Two rules hold in all of them: no memory is both written and run (mmap and
// mprotect refuse PROT_EXEC; our programs are static, nothing is loaded later), and no call whose flags a
// filter cannot read is let through when a readable form exists (clone3 answers ENOSYS, libc then uses
// clone).
#include <algorithm>
#include <array>
#include <cerrno>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/text.h"
#include "sandbox/seccomp.h"

namespace nullbox::sandbox {

using Rules = std::vector<SyscallRule>;

static void allow(Rules& rules, const char* reason, std::initializer_list<int> calls) {
    for (int call : calls) rules.push_back({.syscall = call, .arguments = {}, .reason = reason});
}
static void allow_if(Rules& rules, const char* reason, int call, ArgumentCheck check) {
    rules.push_back({.syscall = call, .arguments = {check}, .reason = reason});
}

static Rules basic() {
    Rules rules;
    allow(rules, "read, write and close what is open",
          {SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_close, SYS_close_range, SYS_dup, SYS_dup2,
           SYS_dup3, SYS_fcntl, SYS_fstat, SYS_lseek, SYS_pipe2});
    allow(rules, "wait for events and time",
          {SYS_poll,
           SYS_ppoll,
           SYS_epoll_create1,
           SYS_epoll_ctl,
           SYS_epoll_wait,
           SYS_epoll_pwait,
           SYS_epoll_pwait2,
           SYS_pause,
           SYS_eventfd2,
           SYS_signalfd4,
           SYS_timerfd_create,
           SYS_timerfd_settime,
           SYS_timerfd_gettime,
           SYS_clock_gettime,
           SYS_clock_getres,
           SYS_clock_nanosleep,
           SYS_nanosleep,
           SYS_gettimeofday,
           SYS_time,
           SYS_restart_syscall});
    allow(rules, "memory", {SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk});
    for (int call : {SYS_mmap, SYS_mprotect})
        allow_if(rules, "memory that is never executable", call, {.index = 2, .value = 0, .mask = PROT_EXEC});
    allow(rules, "signals to itself, and their handlers",
          {SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending, SYS_rt_sigtimedwait,
           SYS_rt_sigsuspend, SYS_sigaltstack, SYS_tgkill});
    allow(rules, "what libc does before main and at the end",
          {SYS_arch_prctl, SYS_set_tid_address, SYS_set_robust_list, SYS_rseq, SYS_prlimit64, SYS_getrandom,
           SYS_exit, SYS_exit_group, SYS_uname, SYS_sysinfo});
    allow(rules, "who and where am I",
          {SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
           SYS_getresuid, SYS_getresgid, SYS_getgroups, SYS_getrusage, SYS_getcpu, SYS_times,
           SYS_sched_getaffinity, SYS_sched_yield, SYS_capget});
    allow(rules, "locks", {SYS_futex});
    allow(rules, "name itself, restrict itself further", {SYS_prctl});
    for (auto request : std::initializer_list<unsigned>{FIONREAD, FIONBIO, TCGETS})
        allow_if(rules, "is it a terminal, how much is there to read", SYS_ioctl,
                 {.index = 1, .value = request});
    return rules;
}

static Rules files() {
    Rules rules;
    allow(rules, "open and look up (Landlock says which)",
          {SYS_open, SYS_openat, SYS_openat2, SYS_creat, SYS_stat, SYS_lstat, SYS_newfstatat, SYS_statx,
           SYS_access, SYS_faccessat, SYS_faccessat2, SYS_readlink, SYS_readlinkat, SYS_getdents64,
           SYS_statfs, SYS_fstatfs, SYS_getcwd, SYS_chdir, SYS_fchdir});
    allow(rules, "read and write at a place, and make it last",
          {SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_truncate,
           SYS_ftruncate, SYS_fallocate, SYS_fsync, SYS_fdatasync, SYS_sync_file_range, SYS_syncfs,
           SYS_fadvise64, SYS_sendfile, SYS_copy_file_range});
    allow(rules, "make, rename and remove",
          {SYS_mkdir, SYS_mkdirat, SYS_rmdir, SYS_unlink, SYS_unlinkat, SYS_rename, SYS_renameat,
           SYS_renameat2, SYS_link, SYS_linkat, SYS_symlink, SYS_symlinkat});
    allow(rules, "modes, owners, times, locks",
          {SYS_chmod, SYS_fchmod, SYS_fchmodat, SYS_chown, SYS_fchown, SYS_fchownat, SYS_lchown, SYS_umask,
           SYS_utimensat, SYS_flock});
    allow(rules, "files without a name", {SYS_memfd_create});
    allow(rules, "see a folder change", {SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch});
    return rules;
}

static void use_sockets(Rules& rules) {
    allow(rules, "use a socket",
          {SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_connect, SYS_getsockname, SYS_getpeername,
           SYS_getsockopt, SYS_setsockopt, SYS_shutdown, SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg,
           SYS_sendmmsg, SYS_recvmmsg});
}

static Rules unix_sockets() {
    Rules rules;
    use_sockets(rules);
    for (int call : {SYS_socket, SYS_socketpair})
        allow_if(rules, "talk to other services", call, {.index = 0, .value = AF_UNIX});
    return rules;
}

static Rules network() {
    Rules rules;
    use_sockets(rules);
    for (auto family : std::initializer_list<unsigned>{AF_INET, AF_INET6})
        allow_if(rules, "IP; no raw frames", SYS_socket, {.index = 0, .value = family});
    return rules;
}

static Rules network_control() {
    Rules rules;
    use_sockets(rules);
    for (auto family : std::initializer_list<unsigned>{AF_NETLINK, AF_PACKET})
        allow_if(rules, "links, addresses, rules; DHCP before there is an address", SYS_socket,
                 {.index = 0, .value = family});
    for (auto request : std::initializer_list<unsigned>{TUNSETIFF, TUNSETVNETHDRSZ, TUNSETVNETLE,
                                                        TUNSETOFFLOAD, SIOCGIFINDEX})
        allow_if(rules, "make taps, and learn their numbers", SYS_ioctl, {.index = 1, .value = request});
    return rules;
}

static Rules clock() {
    Rules rules;
    allow(rules, "set the clock, or make it run slower or faster",
          {SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime});
    return rules;
}

static Rules splice() {
    Rules rules;
    allow(rules, "bytes from one descriptor to another that stay in the kernel", {SYS_splice});
    return rules;
}

static Rules threads() {
    Rules rules;
    allow_if(rules, "start a thread, but no process", SYS_clone,
             {.index = 0, .value = CLONE_THREAD, .mask = CLONE_THREAD});
    rules.push_back({.syscall = SYS_clone3,
                     .arguments = {},
                     .reason = "its flags are in memory, where no filter can read them",
                     .refuse_with = ENOSYS});
    allow(rules, "threads' places and priorities",
          {SYS_sched_setaffinity, SYS_sched_getparam, SYS_sched_getscheduler, SYS_sched_get_priority_max,
           SYS_sched_get_priority_min, SYS_membarrier, SYS_get_robust_list});
    return rules;
}

static Rules process() {
    Rules rules;
    allow(rules, "make processes, wait for them, end them",
          {SYS_clone, SYS_clone3, SYS_fork, SYS_vfork, SYS_execve, SYS_execveat, SYS_wait4, SYS_waitid,
           SYS_kill, SYS_tkill, SYS_pidfd_open, SYS_pidfd_send_signal, SYS_pidfd_getfd});
    allow(rules, "sessions and groups of processes",
          {SYS_setsid, SYS_setpgid, SYS_getpgid, SYS_getpgrp, SYS_getsid, SYS_setpriority, SYS_getpriority});
    return rules;
}

static Rules privileges() {
    Rules rules;
    allow(rules, "become another user, hold fewer capabilities",
          {SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setgroups,
           SYS_setfsuid, SYS_setfsgid, SYS_capset});
    return rules;
}

static Rules namespaces() {
    Rules rules;
    allow(rules, "make namespaces and a root folder of one's own",
          {SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_open_tree,
           SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr,
           SYS_sethostname});
    return rules;
}

static Rules restriction() {
    Rules rules;
    allow(rules, "put a tighter sandbox on itself or its children",
          {SYS_seccomp, SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self,
           SYS_setrlimit, SYS_getrlimit});
    return rules;
}

static Rules kvm() {
    Rules rules;
    // The type byte of every KVM request (_IO('...')); the descriptor it goes to decides the rest.
    allow_if(rules, "virtual machines", SYS_ioctl, {.index = 1, .value = KVMIO << 8, .mask = 0xff00});
    return rules;
}

static Rules tap() {
    Rules rules;
    for (auto request : std::initializer_list<unsigned>{TUNGETIFF, TUNGETVNETHDRSZ, TUNSETOFFLOAD})
        allow_if(rules, "a network card's other end that somebody else made", SYS_ioctl,
                 {.index = 1, .value = request});
    return rules;
}

static Rules locked_memory() {
    Rules rules;
    allow(rules, "memory that is never swapped or read by others",
          {SYS_mlock, SYS_mlock2, SYS_munlock, SYS_mlockall, SYS_munlockall, SYS_memfd_secret});
    return rules;
}

struct Group {
    const char* name;
    Rules (*rules)();
};
constexpr std::array kGroups = {
    Group{"@basic", basic},
    Group{"@files", files},
    Group{"@unix", unix_sockets},
    Group{"@network", network},
    Group{"@network-control", network_control},
    Group{"@clock", clock},
    Group{"@splice", splice},
    Group{"@threads", threads},
    Group{"@process", process},
    Group{"@privileges", privileges},
    Group{"@namespaces", namespaces},
    Group{"@restriction", restriction},
    Group{"@kvm", kvm},
    Group{"@tap", tap},
    Group{"@locked-memory", locked_memory},
};

std::vector<std::string_view> syscall_group_names() {
    std::vector<std::string_view> names;
    for (const auto& group : kGroups) names.emplace_back(group.name);
    return names;
}

// Every name libseccomp knows for this architecture.
static std::vector<std::string> known_syscalls() {
    std::vector<std::string> names;
    for (int number = 0; number < 512; number++)
        if (char* name = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number)) {
            names.emplace_back(name);
            std::free(name);
        }
    return names;
}

static Error unknown_name(std::string_view name) {
    auto calls = known_syscalls();
    std::vector<std::string_view> known(calls.begin(), calls.end());
    auto groups = syscall_group_names();
    known.insert(known.end(), groups.begin(), groups.end());
    auto near = closest(name, known);
    std::string hint = near.empty() ? std::string() : cat("; did you mean \"", near, "\"?");
    if (near.empty() && name.starts_with('@')) {
        hint = "; the groups are";
        for (auto group : groups) hint += cat(" ", group);
    }
    return error(cat("unknown system call ", name.starts_with('@') ? "group " : "", "\"", printable(name, 64),
                     "\"", hint));
}

Result<std::vector<SyscallRule>> resolve_syscalls(const std::vector<std::string>& names) {
    Rules rules;
    for (const auto& name : names) {
        auto group = std::ranges::find_if(kGroups, [&](const Group& each) { return name == each.name; });
        if (group != kGroups.end()) {
            std::ranges::move(group->rules(), std::back_inserter(rules));
            continue;
        }
        int number = ::seccomp_syscall_resolve_name_arch(SCMP_ARCH_NATIVE, name.c_str());
        if (number < 0) return unknown_name(name);
        rules.push_back({.syscall = number, .arguments = {}, .reason = "named in the configuration"});
    }
    return rules;
}

} // namespace nullbox::sandbox
