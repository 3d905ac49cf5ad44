// /var: the data partition if there is one, else memory. The data partition is an ext4 file system with a
// file `.nullbox-data` at its root; a stranger's disk is looked at read-only, without replaying its journal,
// and left alone.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace nullbox::nulld {

struct DataPartition {
    std::string device;                // "/dev/vda"; empty: /var is memory, nothing is kept
    std::vector<std::string> problems; // sentences for status: more than one, damaged, ...
};

// The block devices' names in order ("nvme0n1p3", "vda"), without those that cannot hold it.
std::vector<std::string> candidate_devices(const std::string& sys_class_block = "/sys/class/block");

// The first 2 KiB of a device: is it ext4?
struct Ext4Superblock {
    bool recorded_errors = false; // the kernel saw damage the last time
    bool clean = false; // unmounted in order, with nothing in its journal: mounting it writes nothing
};
bool looks_like_ext4(std::span<const std::byte> start, Ext4Superblock* found);

// Mounts one or the other at /var. Never fails: the worst is a tmpfs and a problem.
DataPartition mount_var();

} // namespace nullbox::nulld
