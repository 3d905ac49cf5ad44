// An empty ext4 file system for a new file of zeros: what has to be written where. No mkfs is in the image,
// and all but a few blocks of an empty file system are zeros: groups other than the first are marked as not
// yet set up (uninit_bg), which the kernel does when it first uses one. There is no journal and no copy of
// the superblock: a scratch disk is never mounted twice.
//
// Follows Documentation/filesystems/ext4 of the kernel (superblock, group descriptors, inodes, directory
// entries); e2fsck is the judge in the test. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nullbox::cage {

constexpr uint64_t kLeastExt4Bytes = uint64_t{16} << 20;
constexpr uint64_t kMostExt4Bytes = uint64_t{1} << 40;

struct Extent {
    uint64_t offset = 0;
    std::vector<std::byte> bytes;
};
// bytes: a multiple of 1 MiB within the bounds above.
std::vector<Extent> empty_ext4(uint64_t bytes);

} // namespace nullbox::cage
