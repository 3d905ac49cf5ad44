#include "nulld/sysctls.h"

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::nulld {

constexpr std::array kSysctls = {
    // What the kernel tells.
    Sysctl{"kernel/kptr_restrict", "2", "no kernel address in any file"},
    Sysctl{"kernel/dmesg_restrict", "1", "the kernel's log is for PID 1, which serves it to operators"},
    Sysctl{"kernel/perf_event_paranoid", "3", "no profiling of others"},
    Sysctl{"kernel/randomize_va_space", "2", "full address space randomisation"},
    Sysctl{"vm/mmap_rnd_bits", "32", "as many random bits as x86-64 has"},
    // What a process may do to others.
    Sysctl{"kernel/yama/ptrace_scope", "3", "nothing here debugs anything"},
    Sysctl{"kernel/unprivileged_bpf_disabled", "1",
           "no programs for the kernel, and no way to switch it back"},
    Sysctl{"net/core/bpf_jit_harden", "2", "constants of what programs remain are blinded"},
    Sysctl{"vm/unprivileged_userfaultfd", "0", "page faults held open are an exploiter's tool"},
    Sysctl{"dev/tty/ldisc_autoload", "0", "no unusual line disciplines"},
    Sysctl{"dev/tty/legacy_tiocsti", "0", "nobody types for somebody else"},
    Sysctl{"fs/protected_symlinks", "1", "links in /tmp lead nobody astray"},
    Sysctl{"fs/protected_hardlinks", "1", "the same for hard links"},
    Sysctl{"fs/protected_fifos", "2", "the same for pipes"},
    Sysctl{"fs/protected_regular", "2", "the same for files"},
    // What is left behind.
    Sysctl{"fs/suid_dumpable", "0", "no core file"},
    Sysctl{"kernel/core_pattern", "", "no core file, whatever a process's limit is"},
    // When the kernel is in trouble: stop and start again; the log is in pstore.
    Sysctl{"kernel/panic", "10", "a machine nobody stands beside comes back by itself"},
    Sysctl{"kernel/panic_on_oops", "1", "after an oops nothing can be trusted"},
    Sysctl{"kernel/warn_limit", "100", "an exploit that retries is noticed"},
    Sysctl{"kernel/oops_limit", "1", "the same"},
    // Memory. With transparent huge pages on, the kernel keeps ten times as much of a small machine idle.
    Sysctl{"vm/min_free_kbytes", "4096", "enough for what interrupts allocate; the rest is the agents'"},
    Sysctl{"vm/percpu_pagelist_high_fraction", "500",
           "pages that a VM gave back are everybody's at once, not kept aside for the CPU that freed them"},
    // Keys.
    Sysctl{"kernel/sysrq", "0", "the console has no back door"},
    Sysctl{"kernel/ctrl-alt-del", "0", "Ctrl-Alt-Del is a signal to PID 1, not a reset"},
    Sysctl{"kernel/kexec_load_disabled", "1", "no other kernel without the firmware's check"},
    // The network forwards nothing and believes nobody (egress owns all else about it).
    Sysctl{"net/ipv4/ip_forward", "0", "no packet passes through"},
    Sysctl{"net/ipv6/conf/all/forwarding", "0", "the same"},
    Sysctl{"net/ipv4/conf/all/rp_filter", "1", "no packet from an address that cannot be there"},
    Sysctl{"net/ipv4/conf/default/rp_filter", "1", "the same for links to come"},
    Sysctl{"net/ipv4/conf/all/accept_redirects", "0", "no router is taken at its word"},
    Sysctl{"net/ipv4/conf/default/accept_redirects", "0", "the same"},
    Sysctl{"net/ipv6/conf/all/accept_redirects", "0", "the same"},
    Sysctl{"net/ipv6/conf/default/accept_redirects", "0", "the same"},
    Sysctl{"net/ipv4/conf/all/send_redirects", "0", "we are no router"},
    Sysctl{"net/ipv4/conf/default/send_redirects", "0", "the same"},
    Sysctl{"net/ipv4/conf/all/accept_source_route", "0", "no sender picks the path"},
    Sysctl{"net/ipv4/conf/default/accept_source_route", "0", "the same"},
    Sysctl{"net/ipv6/conf/all/accept_source_route", "0", "the same"},
    Sysctl{"net/ipv6/conf/default/accept_ra", "0",
           "egress reads what routers announce, and nobody else (kEachLink: links that are there already)"},
    Sysctl{"net/ipv4/tcp_syncookies", "1", "a flood does not fill the table"},
    Sysctl{"net/ipv4/tcp_rfc1337", "1", "a late reset ends no connection"},
    Sysctl{"net/ipv4/icmp_echo_ignore_broadcasts", "1", "no part in amplification"},
};

std::span<const Sysctl> sysctl_table() { return kSysctls; }

// Of IPv6 "default" is for links to come only, and "all" for none: a card whose driver is in the kernel is
// there before us.
constexpr const char* kLinks6 = "net/ipv6/conf";
constexpr std::array kEachLink = {"accept_ra", "accept_redirects"};

static void apply(const std::string& root, const std::string& name, const char* value, SysctlReport& report) {
    // An empty value needs its newline: a write of no bytes does nothing.
    auto written = write_existing(cat(root, "/", name), cat(value, "\n"));
    if (written) return;
    if (written.error().code == ENOENT)
        report.absent.emplace_back(name);
    else
        report.failed.push_back(cat("sysctl ", name, ": ", written.error().message));
}

SysctlReport apply_sysctls(const std::string& root) {
    SysctlReport report;
    for (const auto& entry : kSysctls) apply(root, entry.name, entry.value, report);
    std::error_code none; // a kernel without IPv6
    for (const auto& link : std::filesystem::directory_iterator(cat(root, "/", kLinks6), none))
        for (const char* setting : kEachLink) {
            auto name = link.path().filename().string();
            if (name != "all" && name != "default")
                apply(root, cat(kLinks6, "/", name, "/", setting), "0", report);
        }
    return report;
}

} // namespace nullbox::nulld
