// How much a share may hold: the bytes of all files together (each rounded up to a block, holes counted as
// bytes) and the number of files and folders. Counted once, before the first growth; from then on this VM's
// own changes are added. What another VM adds to the same folder meanwhile, the next count sees.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "cage/vmm/fs_tree.h"

namespace nullbox::cage {

class FsQuota {
public:
    struct Limits {
        uint64_t most_bytes = 0; // 0: none
        uint64_t most_files = 0; // 0: none
    };
    explicit FsQuota(Limits limits) : limits_(limits) {}

    bool limited() const { return limits_.most_bytes || limits_.most_files; }
    const Limits& limits() const { return limits_; }
    uint64_t used_bytes() const { return bytes_; }
    uint64_t used_files() const { return files_; }

    // Walks the tree if that has not been done. Deeper than a guest can reach: EOVERFLOW, so no growth.
    Result<> count(const FsTree& tree);
    // After count(). ENOSPC, and nothing taken, if it does not fit.
    Result<> grow(uint64_t old_size, uint64_t new_size);
    Result<> add_file();
    void shrink(uint64_t old_size, uint64_t new_size);
    void remove_file();

private:
    Limits limits_;
    bool counted_ = false;
    uint64_t bytes_ = 0, files_ = 0;
};

} // namespace nullbox::cage
