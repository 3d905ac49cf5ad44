// Landlock (landlock(7)): which files a process may reach, whatever its uid. Denied unless listed; on newer
// kernels also no TCP, no abstract Unix socket and no signal to a process outside of the sandbox. Raw system
// calls; the running kernel's version is probed, and the best it has is used.
//
// A policy names paths; they are opened when it is enforced. Enforcing allocates nothing, so it works after
// fork. It is inherited, and stacks: a child can only be tighter.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace nullbox::sandbox {

class LandlockPolicy {
public:
    LandlockPolicy& read(std::string path);    // read files and list folders beneath
    LandlockPolicy& write(std::string path);   // also write, make, rename and remove beneath
    LandlockPolicy& execute(std::string path); // read and execute: one file, or all beneath a folder
    LandlockPolicy& device(std::string path);  // read, write, ioctl on a device node
    // Beneath a folder's descriptor, borrowed until enforce(): files and folders only, whatever else one can
    // make.
    LandlockPolicy& read_folder(int descriptor);
    LandlockPolicy& write_folder(int descriptor);
    // A missing path is an error unless it is marked optional: then what is not there is not granted.
    LandlockPolicy& optional();               // marks the path added last
    LandlockPolicy& allow_tcp();              // otherwise no bind and no connect (kernel 6.7 on)
    LandlockPolicy& allow_outside_contacts(); // signals and abstract sockets out of the sandbox (6.12 on)

    struct PathRule {
        std::string path;
        uint64_t access;
        bool optional;
        int descriptor = -1; // instead of the path
    };
    struct Failure {
        int code = 0;                   // errno, 0: done
        const PathRule* rule = nullptr; // which path, if it was one
    };
    // After fork. Needs no_new_privs. A kernel without Landlock is a failure (EOPNOTSUPP or ENOSYS), never
    // an open door.
    Failure enforce() const noexcept;
    const std::vector<PathRule>& rules() const { return rules_; }

private:
    LandlockPolicy& add(std::string path, uint64_t access);
    std::vector<PathRule> rules_;
    bool tcp_ = false, outside_contacts_ = false;
};

// no_new_privs and enforce(), for a program that restricts itself.
Result<> enforce_landlock(const LandlockPolicy& policy);
// The kernel's Landlock version, 0 when it has none.
int landlock_version();

} // namespace nullbox::sandbox
