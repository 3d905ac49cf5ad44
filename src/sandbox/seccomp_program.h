// From rules to the program that the kernel runs at every system call (seccomp(2), classic BPF over struct
// seccomp_data). Pure. The numbers are cut into intervals of one answer each and found by bisection, so a
// call costs a handful of instructions however long the list is; what no rule names, another architecture's
// calls and x32 among it, kills the process. Written here because compiling with libseccomp takes PID 1
// longer than starting a service does; the tests hold the result against libseccomp's.
#pragma once

#include <linux/filter.h>
#include <span>
#include <vector>

#include "sandbox/seccomp.h"

namespace nullbox::sandbox {

// Rules may overlap as SyscallFilter::compile says. May be longer than the kernel takes (BPF_MAXINSNS).
std::vector<sock_filter> seccomp_program(std::span<const SyscallRule> rules);

} // namespace nullbox::sandbox
