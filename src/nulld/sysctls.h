// Kernel settings at boot (the Kernel Self Protection Project's list and the network's), as a table with the
// reason of each.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace nullbox::nulld {

struct Sysctl {
    const char* name; // below /proc/sys
    const char* value;
    const char* reason;
};
std::span<const Sysctl> sysctl_table();

struct SysctlReport {
    std::vector<std::string> absent; // names this kernel does not have: for the log, once
    std::vector<std::string> failed; // sentences: for status
};
SysctlReport apply_sysctls(const std::string& root = "/proc/sys");

} // namespace nullbox::nulld
