// Who asks, and what they may. It comes from the host: from an agent's manifest by way of cage, or from gate.
// Invariant: whoever may not read a namespace gets the same answer whether it exists or not.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "base/error.h"

namespace nullbox::ctxgraph {

struct Access {
    std::string author;      // "agent:NAME" or "operator:NAME"
    bool everything = false; // operators: all namespaces, no quota of their own
    std::set<std::string, std::less<>> read, write;
    uint64_t max_entries = UINT64_MAX, max_bytes = UINT64_MAX;

    bool may_read(std::string_view space) const { return everything || read.contains(space); }
    bool may_write(std::string_view space) const { return everything || write.contains(space); }
    bool knows(std::string_view space) const { return may_read(space) || may_write(space); }
};

// ENOENT for a namespace that is not theirs, EACCES for one that they may only write (or only read).
Result<> check_read(const Access& access, std::string_view space);
Result<> check_write(const Access& access, std::string_view space);

} // namespace nullbox::ctxgraph
