// FsOperations: attributes. See fs_operations.h.
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cage/vmm/fs_operations.h"
#include "cage/vmm/system_calls.h"

namespace nullbox::cage {

// How long the guest may believe what it was told: other VMs may write to the same folder.
constexpr uint64_t kValidSeconds = 1;

fuse_attr_out FsOperations::attributes(const struct stat& status) const {
    return {.attr_valid = kValidSeconds, .attr = attributes_of(status, options_.view)};
}

Result<fuse_entry_out> FsOperations::entry(uint64_t parent, const std::string& name,
                                           const struct stat& status) {
    auto node = inodes_.remember(
        {.parent = parent, .name = name, .number = status.st_ino, .folder = S_ISDIR(status.st_mode)});
    if (!node) return failure(ENOMEM);
    return fuse_entry_out{.nodeid = *node,
                          .entry_valid = kValidSeconds,
                          .attr_valid = kValidSeconds,
                          .attr = attributes_of(status, options_.view)};
}

// By its name; a file that has lost its name and is still open, by its descriptor.
Result<struct stat> FsOperations::status_of(uint64_t node) {
    const Inode* inode = inodes_.find(node);
    if (!inode) return failure(ESTALE);
    struct stat status{};
    if (inode->folder) {
        int folder = TRY(tree_.folder(inodes_, node));
        if (status_of_open(folder, &status) < 0) return last_failure();
        return status;
    }
    if (auto parent = tree_.folder(inodes_, inode->parent)) {
        auto named = tree_.look(*parent, inode->name);
        if (named && named->st_ino == inode->number) return named;
    }
    const Handle* open = handle_of_number(inode->number);
    if (!open) return failure(ESTALE);
    if (status_of_open(open->fd.get(), &status) < 0) return last_failure();
    return status;
}

Result<> FsOperations::get_attributes(uint64_t node, Arguments arguments, Chain& chain) {
    auto what = arguments.fixed<fuse_getattr_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    struct stat status{};
    if (what.getattr_flags & FUSE_GETATTR_FH) {
        Handle* file = TRY(handle(what.fh, false));
        if (status_of_open(file->fd.get(), &status) < 0) return last_failure();
    } else {
        status = TRY(status_of(node));
    }
    return answer(chain, attributes(status));
}

Result<> FsOperations::resize(const Fd& file, uint64_t size) {
    TRY(may_grow());
    struct stat status{};
    if (status_of_open(file.get(), &status) < 0) return last_failure();
    if (size > INT64_MAX) return failure(EFBIG);
    auto old_size = static_cast<uint64_t>(status.st_size);
    TRY(quota_.grow(old_size, size));
    if (::ftruncate(file.get(), static_cast<off_t>(size)) < 0) {
        auto failed = last_failure();
        quota_.shrink(size, old_size);
        return failed;
    }
    quota_.shrink(old_size, size);
    return {};
}

static timespec time_to_set(const fuse_setattr_in& what, uint32_t set, uint32_t now, uint64_t seconds,
                            uint32_t nanoseconds) {
    if (what.valid & now) return {.tv_nsec = UTIME_NOW};
    if (!(what.valid & set)) return {.tv_nsec = UTIME_OMIT};
    return {.tv_sec = static_cast<time_t>(seconds), .tv_nsec = nanoseconds % 1'000'000'000};
}

Result<> FsOperations::set_attributes(uint64_t node, Arguments arguments, Chain& chain) {
    auto what = arguments.fixed<fuse_setattr_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    TRY(must_be_writable());
    // An owner's name for what it owns already is no change.
    if (((what.valid & FATTR_UID) && what.uid != options_.view.uid) ||
        ((what.valid & FATTR_GID) && what.gid != options_.view.gid))
        return failure(EPERM);
    const Inode* inode = inodes_.find(node);
    if (!inode) return failure(ESTALE);
    bool folder = inode->folder;
    Fd opened;
    const Fd* file = &opened;
    if (what.valid & FATTR_FH)
        file = &TRY(handle(what.fh, false))->fd;
    else if (what.valid & FATTR_SIZE)
        opened = TRY(open_node(node, O_WRONLY));
    else
        opened = TRY(open_node(node, O_RDONLY));
    if (what.valid & FATTR_SIZE) TRY(resize(*file, what.size));
    // A folder stays open to every agent that shares it.
    if ((what.valid & FATTR_MODE) && !folder && ::fchmod(file->get(), shared_file_mode(what.mode)) < 0)
        return last_failure();
    const timespec times[2] = {time_to_set(what, FATTR_ATIME, FATTR_ATIME_NOW, what.atime, what.atimensec),
                               time_to_set(what, FATTR_MTIME, FATTR_MTIME_NOW, what.mtime, what.mtimensec)};
    constexpr uint32_t kTimes = FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_MTIME_NOW;
    if ((what.valid & kTimes) && ::futimens(file->get(), times) < 0) return last_failure();
    struct stat status{};
    if (status_of_open(file->get(), &status) < 0) return last_failure();
    return answer(chain, attributes(status));
}

} // namespace nullbox::cage
