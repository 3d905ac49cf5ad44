#include "cage/vmm/fs_quota.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace nullbox::cage {

// What a file takes, in blocks; a size near the top of 64 bits must not become a small one.
static uint64_t blocks_of(uint64_t size) {
    constexpr uint64_t kBlock = 4096;
    return size / kBlock + (size % kBlock != 0);
}
static uint64_t bytes_between(uint64_t less, uint64_t more) {
    return (blocks_of(more) - blocks_of(less)) * 4096;
}

Result<> FsQuota::grow(uint64_t old_size, uint64_t new_size) {
    if (blocks_of(new_size) <= blocks_of(old_size)) return {};
    if (new_size > INT64_MAX) return failure(EFBIG);
    uint64_t more = bytes_between(old_size, new_size);
    if (limits_.most_bytes && (bytes_ > limits_.most_bytes || more > limits_.most_bytes - bytes_))
        return failure(ENOSPC);
    bytes_ += more;
    return {};
}

Result<> FsQuota::add_file() {
    if (limits_.most_files && files_ >= limits_.most_files) return failure(ENOSPC);
    ++files_;
    return {};
}

void FsQuota::shrink(uint64_t old_size, uint64_t new_size) {
    if (blocks_of(new_size) < blocks_of(old_size))
        bytes_ -= std::min(bytes_, bytes_between(new_size, old_size));
}

void FsQuota::remove_file() { files_ -= std::min<uint64_t>(files_, 1); }

Result<> FsQuota::count(const FsTree& tree) {
    if (counted_ || !limited()) return {};
    uint64_t bytes = 0, files = 0;
    std::vector<Fd> way; // the folders being read, from the share down
    way.push_back(TRY(tree.reopen(tree.root())));
    alignas(dirent64) char entries[8192];
    // Each folder is read a piece at a time and its folders at once, so a folder's place is kept by the
    // kernel; pieces of the parents are kept here.
    struct Pending {
        size_t depth;
        std::string name;
    };
    std::vector<Pending> folders;
    auto read_all = [&](size_t depth) -> Result<> {
        int folder = way[depth].get();
        for (;;) {
            long count = ::syscall(SYS_getdents64, folder, entries, sizeof entries);
            if (count < 0) return last_failure();
            if (count == 0) return {};
            for (long at = 0; at < count;) {
                auto* entry = reinterpret_cast<dirent64*>(entries + at);
                at += entry->d_reclen;
                std::string name = entry->d_name;
                if (name == "." || name == "..") continue;
                auto status = tree.look(folder, name);
                if (!status) continue; // gone again, or nothing for a guest
                ++files;
                if (S_ISDIR(status->st_mode))
                    folders.push_back({depth + 1, std::move(name)});
                else
                    bytes += bytes_between(0, static_cast<uint64_t>(status->st_size));
            }
        }
    };
    TRY(read_all(0));
    while (!folders.empty()) {
        Pending next = std::move(folders.back());
        folders.pop_back();
        if (next.depth > kMostDepth + 1) return failure(EOVERFLOW);
        way.resize(next.depth);
        auto status = tree.look(way.back().get(), next.name);
        if (!status) continue;
        auto folder = tree.open(way.back().get(), next.name, O_RDONLY | O_DIRECTORY, status->st_ino);
        if (!folder) continue;
        way.push_back(*std::move(folder));
        TRY(read_all(next.depth));
    }
    bytes_ = bytes, files_ = files, counted_ = true;
    return {};
}

} // namespace nullbox::cage
