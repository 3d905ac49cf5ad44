// FUSE's messages as they lie in a request (linux/fuse.h, protocol 7.31 and later; virtio 1.2, section 5.11):
// taking a request's arguments apart, and putting attributes together. No system calls.
//
// Invariant: a name that comes out of FuseArguments is one component: 1 to 255 bytes, no '/', no NUL, neither
// "." nor "..". Everything read here is guest-controlled; a request with a byte too many or too few is
// refused.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <linux/fuse.h>
#include <span>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <type_traits>

namespace nullbox::cage {

constexpr uint32_t kFuseMajor = 7, kLeastFuseMinor = 31, kMostFuseMinor = 38;
constexpr size_t kMostNameBytes = 255;
// The longest request but WRITE: two names, or a batch of nodes to forget.
constexpr size_t kMostArgumentBytes = 8192;

// Reads from the front. The first thing that is wrong sticks: error() says what, and all after it is empty.
class FuseArguments {
public:
    explicit FuseArguments(std::span<const std::byte> bytes) : bytes_(bytes) {}

    template <typename T>
        requires std::is_trivially_copyable_v<T>
    T fixed() {
        T value{};
        if (bytes_.size() < sizeof value) return fail(EINVAL), value;
        std::memcpy(&value, bytes_.data(), sizeof value);
        bytes_ = bytes_.subspan(sizeof value);
        return value;
    }
    std::string name();
    // The last call: 0, or the errno value to answer. Bytes left over are an error.
    int error() const { return error_ ? error_ : bytes_.empty() ? 0 : EINVAL; }
    bool cut_short() const { return error_ != 0; } // for what may be longer than we know
    size_t left() const { return bytes_.size(); }

private:
    void fail(int code) {
        if (!error_) error_ = code;
        bytes_ = {};
    }
    std::span<const std::byte> bytes_;
    int error_ = 0;
};

// Who everything in a share seems to belong to, in the guest, and whether it may be written.
struct FuseView {
    uint32_t uid = 0, gid = 0;
    bool writable = false;
};
// The mode is what this VM may do (the file's bits for others), the same for all users of the guest.
fuse_attr attributes_of(const struct stat& status, const FuseView& view);
// The mode on the host of what a guest makes: for every agent of the folder, executable if it is for anybody.
constexpr mode_t shared_file_mode(uint32_t wanted) { return wanted & 0111 ? 0777 : 0666; }
constexpr mode_t kSharedFolderMode = 0777;

// One entry of a directory; attributes: null for READDIR.
struct DirectoryEntry {
    uint64_t number; // the inode's
    uint64_t next;   // where to go on after this entry
    uint32_t type;   // DT_REG
    std::string_view name;
};
size_t directory_entry_bytes(const DirectoryEntry& entry, bool with_attributes);
void append_directory_entry(std::string& out, const DirectoryEntry& entry, const fuse_entry_out* attributes);

} // namespace nullbox::cage
