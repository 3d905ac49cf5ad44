// What a VM process may still do once it has its descriptors: nothing but run its guest, and reach what lies
// beneath the folders that it shares with it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "sandbox/seccomp.h"

namespace nullbox::cage {

struct JailOptions {
    uint32_t uid = 0;            // the VM's own; also its gid
    bool writes_disks = false;   // some disk may be written
    bool logs_to_stderr = false; // the vCPU threads print the guest's early console
    bool has_net = false;
    struct Folder {
        int descriptor; // borrowed until enter_jail returns
        bool writable;
    };
    std::vector<Folder> folders;
};

// Gives up uid, capabilities, file system, network and limits. Before any thread starts.
Result<> enter_jail(const JailOptions& options);
// A line of a thread's list of system calls.
struct JailRule {
    sandbox::SyscallRule allowed;
    bool rare =
        false; // a workload may end without it; the reason says when it comes. All others a test sees used
};
// The lists of a vCPU's thread and of the device thread: at most kMostVcpuCalls and, both together,
// kMostCalls different calls, whatever the options.
constexpr size_t kMostVcpuCalls = 20, kMostCalls = 40;
std::vector<JailRule> vcpu_rules();
std::vector<JailRule> device_rules(const JailOptions& options);
// The same, compiled before the jail, installed last.
Result<sandbox::SyscallFilter> vcpu_filter();
Result<sandbox::SyscallFilter> device_filter(const JailOptions& options);

} // namespace nullbox::cage
