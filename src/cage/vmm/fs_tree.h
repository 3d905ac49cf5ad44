// The shared folder itself: the only file that turns a guest's nodes and names into descriptors and looks at
// what lies there. Every step is one name beneath one folder's descriptor, through openat2 with
// RESOLVE_BENEATH, NO_SYMLINKS and NO_XDEV; what is found is compared with what the node stood for.
//
// Regular files and folders of the share's own file system exist; all else (symbolic links, devices, pipes,
// sockets, mounts) does not: it is not listed, found, opened or replaced. Nothing but an operator of the host
// can have put it there.
#pragma once

#include <array>
#include <sys/stat.h>

#include "base/fd.h"
#include "cage/vmm/fs_inodes.h"

namespace nullbox::cage {

// Results here carry an errno value for the guest and no text: they are its ordinary answers.
inline Error failure(int code) { return Error{.code = code, .message = {}}; }
inline Error last_failure() { return failure(errno); }

class FsTree {
public:
    static constexpr size_t kOpenFolders = 64;

    static Result<FsTree> make(Fd root);
    FsTree(FsTree&&) = default;

    int root() const { return root_.get(); }
    uint64_t root_number() const { return root_number_; }
    void clear() { cached_ = {}; }

    // A folder's descriptor (O_PATH), borrowed until the call after the next: two can be used together.
    Result<int> folder(const InodeTable& inodes, uint64_t node);
    // What has this name, ENOENT if it is nothing for a guest.
    Result<struct stat> look(int folder, const std::string& name) const;
    // A file or folder that is there, with the inode number it must have (ESTALE).
    Result<Fd> open(int folder, const std::string& name, int flags, uint64_t number) const;
    // A new regular file; EEXIST if anything has this name.
    Result<Fd> create(int folder, const std::string& name, int flags, mode_t mode) const;
    // A folder again, for reading.
    Result<Fd> reopen(int folder) const;
    bool visible(const struct stat& status) const;

private:
    FsTree(Fd root, const struct stat& status)
        : root_(std::move(root)), root_number_(status.st_ino), device_(status.st_dev) {}
    Result<Fd> open_checked(int folder, const std::string& name, int flags, uint64_t number) const;
    int cached(uint64_t node);

    struct OpenFolder {
        uint64_t node = 0; // 0: free
        uint64_t used = 0;
        Fd fd;
    };
    Fd root_;
    uint64_t root_number_;
    dev_t device_;
    std::array<OpenFolder, kOpenFolders> cached_{};
    uint64_t uses_ = 0;
};

} // namespace nullbox::cage
