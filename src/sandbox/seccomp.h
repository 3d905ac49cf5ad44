// System call allow-lists (seccomp(2), mode filter). What is not in the list kills
// the whole process: a program that strays from its list has a bug or an intruder.
//
// A filter is compiled before fork or before the thread that will live under it starts, and installed later
// by a function that allocates nothing. Every entry has a reason in words. A filter is inherited over fork
// and exec; filters stack, and the strictest answer counts.
#pragma once

#include <cstdint>
#include <linux/filter.h>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nullbox::sandbox {

// (argument & mask) must equal value. The kernel reads most arguments as 32 bits wide; the default mask
// compares those, so that set high bits neither pass nor fail a check.
struct ArgumentCheck {
    unsigned index; // 0..5
    uint64_t value;
    uint64_t mask = 0xffffffff;
};

struct SyscallRule {
    int syscall;                          // SYS_read
    std::vector<ArgumentCheck> arguments; // all must hold; several rules for one call: any may. One per index
    const char* reason;                   // why the process needs it
    int refuse_with = 0; // an errno: the call fails with it instead of killing (a probe that libc makes)
};

enum class Threads { Calling, All }; // All: every thread of the process gets the filter (TSYNC)

class SyscallFilter {
public:
    // Rules may overlap: an unconditional rule covers the conditional ones, allowing covers refusing.
    static Result<SyscallFilter> compile(std::span<const SyscallRule> rules);
    // After fork, and in a thread: allocates nothing. 0 or an errno value; with Threads::All a thread that
    // cannot take the filter gives ESRCH. Needs no_new_privs or CAP_SYS_ADMIN.
    int install(Threads threads = Threads::Calling) const noexcept;
    std::span<const sock_filter> program() const { return program_; }

private:
    std::vector<sock_filter> program_;
};

// no_new_privs, compile and install in one, for a program that restricts itself.
Result<> install_syscall_filter(std::span<const SyscallRule> rules, Threads threads = Threads::Calling);

// Names as nulld.toml has them: system calls ("ftruncate") and groups ("@basic"); syscall_groups.cpp lists
// the groups. An unknown name is an error with the nearest one.
Result<std::vector<SyscallRule>> resolve_syscalls(const std::vector<std::string>& names);
std::vector<std::string_view> syscall_group_names();
// "openat", or "system call 999".
std::string syscall_name(int number);

} // namespace nullbox::sandbox
