// Linux capabilities (capabilities(7)), by raw system call: a process ends up with exactly the set it was
// given, in every one of its capability sets, and can never gain another.
//
// The functions marked "after fork" allocate nothing and return an errno value (0: done), so that the child
// of a daemon can use them and report over a pipe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/error.h"

namespace nullbox::sandbox {

class CapabilitySet {
public:
    CapabilitySet() = default; // empty
    explicit CapabilitySet(uint64_t bits) : bits_(bits) {}
    // "CAP_NET_ADMIN"; an unknown name is an error with the nearest one.
    static Result<CapabilitySet> parse(const std::vector<std::string>& names);

    CapabilitySet& add(int capability) {
        bits_ |= uint64_t{1} << capability;
        return *this;
    }
    bool has(int capability) const { return (bits_ >> capability & 1) != 0; }
    bool empty() const { return bits_ == 0; }
    uint64_t bits() const { return bits_; }
    std::vector<std::string> names() const;
    bool operator==(const CapabilitySet&) const = default;

private:
    uint64_t bits_ = 0;
};

// After fork. Removes all others from the bounding set: no later exec, of whatever file, can give them back.
// Needs CAP_SETPCAP, so it comes before become_user().
int limit_bounding_set(CapabilitySet keep) noexcept;

struct User {
    uid_t uid;
    gid_t gid;
};
// After fork. Becomes that user with no supplementary groups, and holds exactly `keep` in the effective,
// permitted, inheritable and ambient sets (ambient: so that they survive exec of an ordinary file). uid 0
// gets no capability for being 0 either. Needs CAP_SETUID, CAP_SETGID and CAP_SETPCAP.
int become_user(User user, CapabilitySet keep) noexcept;

// After fork. Holds exactly `keep` (effective and permitted) without a change of user; nothing survives exec.
int keep_only(CapabilitySet keep) noexcept;

// For a test or a status answer: the effective set of the calling thread.
Result<CapabilitySet> effective_capabilities();

} // namespace nullbox::sandbox
