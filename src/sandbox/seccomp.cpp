#include "sandbox/seccomp.h"

#include <algorithm>
#include <cerrno>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"
#include "sandbox/seccomp_program.h"

namespace nullbox::sandbox {

std::string syscall_name(int number) {
    char* name = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
    std::string text = name ? std::string(name) : cat("system call ", number);
    std::free(name);
    return text;
}

Result<SyscallFilter> SyscallFilter::compile(std::span<const SyscallRule> rules) {
    for (const auto& rule : rules)
        if (rule.syscall < 0 ||
            std::ranges::any_of(rule.arguments, [](auto& check) { return check.index > 5; }))
            return error(
                cat("seccomp rule for ", syscall_name(rule.syscall), ": no such system call or argument"));
    SyscallFilter filter;
    filter.program_ = seccomp_program(rules);
    if (filter.program_.size() > BPF_MAXINSNS)
        return error(cat("the seccomp filter has ", filter.program_.size(),
                         " instructions, the kernel takes ", BPF_MAXINSNS));
    return filter;
}

int SyscallFilter::install(Threads threads) const noexcept {
    sock_fprog program{.len = static_cast<unsigned short>(program_.size()),
                       .filter = const_cast<sock_filter*>(program_.data())};
    unsigned long flags = threads == Threads::All ? SECCOMP_FILTER_FLAG_TSYNC : 0;
    long failed = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (failed < 0) return errno;
    return failed > 0 ? ESRCH : 0; // TSYNC names the thread that has a filter of its own
}

Result<> install_syscall_filter(std::span<const SyscallRule> rules, Threads threads) {
    auto filter = TRY(SyscallFilter::compile(rules));
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return errno_error("set no_new_privs");
    if (int failed = filter.install(threads)) return errno_error(failed, "install the seccomp filter");
    return {};
}

} // namespace nullbox::sandbox
