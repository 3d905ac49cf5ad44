// Resource limits (setrlimit(2)) that every sandboxed process gets; memory and process counts are its
// cgroup's business.
#pragma once

#include <cerrno>
#include <cstdint>
#include <sys/resource.h>

namespace nullbox::sandbox {

struct ProcessLimits {
    uint64_t open_files = 1024;
    uint64_t locked_memory_bytes = uint64_t{8} << 20;
};

// After fork. Soft and hard alike, so that nothing can be raised again; no core file, ever: it would hold
// the process's secrets. 0 or errno.
inline int apply_limits(const ProcessLimits& limits) noexcept {
    const rlimit files{limits.open_files, limits.open_files};
    const rlimit locked{limits.locked_memory_bytes, limits.locked_memory_bytes};
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_NOFILE, &files) < 0 || ::setrlimit(RLIMIT_MEMLOCK, &locked) < 0 ||
        ::setrlimit(RLIMIT_CORE, &none) < 0)
        return errno;
    return 0;
}

} // namespace nullbox::sandbox
