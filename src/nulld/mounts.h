// The mounts of stage 2, as a table: what, where, with which flags and why. The data partition is not in it
// (data_partition.h).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace nullbox::nulld {

struct MountEntry {
    const char* type;
    const char* target;
    unsigned long flags; // MS_*
    const char* options;
    bool required; // false: a kernel or firmware may lack it, which is not worth a line
    const char* reason;
};
std::span<const MountEntry> mount_table();

// Mounts all; returns what is wrong, a sentence each. A later mount does not depend on an earlier one's luck.
std::vector<std::string> mount_all();

struct MountedAt {
    std::string source, target, type, options;
};
// /proc/self/mountinfo's text, in the order of mounting.
std::vector<MountedAt> parse_mountinfo(std::string_view text);
std::vector<MountedAt> current_mounts();

} // namespace nullbox::nulld
