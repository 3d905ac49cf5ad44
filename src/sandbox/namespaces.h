// Namespaces (namespaces(7)) by the names that configuration uses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace nullbox::sandbox {

// {"mount", "net"} -> CLONE_NEWNS | CLONE_NEWNET, for clone3. An unknown name is an error with the nearest.
Result<uint64_t> namespace_flags(const std::vector<std::string>& names);

// After fork, in a new mount namespace: what is mounted here is not seen outside; what is mounted outside
// later is still seen here (the data partition, /run). 0 or errno.
int receive_mounts_only() noexcept;

// After fork, in a new network namespace: brings 127.0.0.1 up, which is all there is in it. 0 or errno.
int loopback_up() noexcept;

} // namespace nullbox::sandbox
