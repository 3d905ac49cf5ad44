// FsOperations: open files and folders. See fs_operations.h.
#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cage/vmm/fs_operations.h"
#include "cage/vmm/system_calls.h"

namespace nullbox::cage {

// What of a guest's flags reaches the host's open. Truncation is done by resize(), which knows the quota.
static Result<int> host_flags(uint32_t flags, bool writable) {
    auto access = static_cast<int>(flags & O_ACCMODE);
    if (access == O_ACCMODE) return failure(EINVAL);
    if ((access != O_RDONLY || (flags & O_TRUNC)) && !writable) return failure(EROFS);
    return access | static_cast<int>(flags & (O_APPEND | O_DSYNC | O_SYNC));
}

// --- Opening

// A file that has lost its name can be opened no more.
Result<Fd> FsOperations::open_node(uint64_t node, int flags) {
    const Inode* inode = inodes_.find(node);
    if (!inode) return failure(ESTALE);
    if (inode->folder) {
        if ((flags & O_ACCMODE) != O_RDONLY) return failure(EISDIR);
        return tree_.reopen(TRY(tree_.folder(inodes_, node)));
    }
    int parent = TRY(tree_.folder(inodes_, inode->parent));
    return tree_.open(parent, inode->name, flags, inode->number);
}

Result<Fd> FsOperations::create_file(uint64_t parent, const std::string& name, int flags, uint32_t mode) {
    TRY(may_grow());
    int folder = TRY(tree_.folder(inodes_, parent));
    TRY(quota_.add_file());
    auto file = tree_.create(folder, name, flags, shared_file_mode(mode));
    if (!file) quota_.remove_file();
    return file;
}

Result<uint64_t> FsOperations::keep(Fd fd, uint64_t node, uint64_t number, bool folder) {
    if (handles_.size() >= kMostHandles) return failure(ENFILE);
    handles_[next_handle_] = {.fd = std::move(fd), .node = node, .number = number, .folder = folder};
    return next_handle_++;
}

Result<FsOperations::Handle*> FsOperations::handle(uint64_t number, bool folder) {
    auto found = handles_.find(number);
    if (found == handles_.end() || found->second.folder != folder) return failure(EBADF);
    return &found->second;
}

const FsOperations::Handle* FsOperations::handle_of_number(uint64_t number) const {
    auto found = std::ranges::find_if(handles_, [&](auto& entry) { return entry.second.number == number; });
    return found == handles_.end() ? nullptr : &found->second;
}

Result<> FsOperations::open(uint64_t node, Arguments arguments, Chain& chain) {
    auto what = arguments.fixed<fuse_open_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    int flags = TRY(host_flags(what.flags, options_.view.writable));
    const Inode* inode = inodes_.find(node);
    if (!inode) return failure(ESTALE);
    if (inode->folder) return failure(EISDIR);
    if (chain.writable_bytes() < sizeof(fuse_open_out)) return failure(EINVAL);
    uint64_t number = inode->number;
    Fd file = TRY(open_node(node, flags));
    if ((what.flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY) TRY(resize(file, 0));
    return answer(chain, fuse_open_out{.fh = TRY(keep(std::move(file), node, number, false))});
}

Result<> FsOperations::create(uint64_t parent, Arguments arguments, Chain& chain) {
    auto what = arguments.fixed<fuse_create_in>();
    auto name = arguments.name();
    if (int wrong = arguments.error()) return failure(wrong);
    TRY(must_be_writable());
    int flags = TRY(host_flags(what.flags, true));
    if (chain.writable_bytes() < sizeof(fuse_entry_out) + sizeof(fuse_open_out)) return failure(EINVAL);
    if (handles_.size() >= kMostHandles) return failure(ENFILE); // before there is a file that nobody opened
    auto file = create_file(parent, name, flags, what.mode);
    if (!file && file.error().code == EEXIST && !(what.flags & O_EXCL)) {
        // Another VM was first.
        int folder = TRY(tree_.folder(inodes_, parent));
        auto there = TRY(tree_.look(folder, name));
        if (S_ISDIR(there.st_mode)) return failure(EISDIR);
        file = tree_.open(folder, name, flags, there.st_ino);
        if (file && (what.flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY) TRY(resize(*file, 0));
    }
    struct stat status{};
    Fd opened = TRY(std::move(file));
    if (status_of_open(opened.get(), &status) < 0) return last_failure();
    auto out = TRY(entry(parent, name, status));
    uint64_t number = TRY(keep(std::move(opened), out.nodeid, status.st_ino, false));
    TRY(answer(chain, out));
    return answer(chain, fuse_open_out{.fh = number});
}

Result<> FsOperations::open_folder(uint64_t node, Arguments arguments, Chain& chain) {
    arguments.fixed<fuse_open_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    if (chain.writable_bytes() < sizeof(fuse_open_out)) return failure(EINVAL);
    int folder = TRY(tree_.folder(inodes_, node));
    uint64_t number = inodes_.find(node)->number;
    Fd opened = TRY(tree_.reopen(folder));
    return answer(chain, fuse_open_out{.fh = TRY(keep(std::move(opened), node, number, true))});
}

Result<> FsOperations::release(Arguments arguments) {
    auto what = arguments.fixed<fuse_release_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    auto found = handles_.find(what.fh);
    if (found == handles_.end()) return failure(EBADF);
    Handle closed = std::move(found->second);
    handles_.erase(found);
    struct stat status{};
    bool last = !closed.folder && !handle_of_number(closed.number);
    if (last && status_of_open(closed.fd.get(), &status) == 0 && status.st_nlink == 0)
        quota_.shrink(static_cast<uint64_t>(status.st_size), 0); // it had lost its name before
    return {};
}

// --- Files

Result<> FsOperations::read(Arguments arguments, Chain& chain) {
    auto what = arguments.fixed<fuse_read_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    Handle* file = TRY(handle(what.fh, false));
    if (what.size > kMostDataBytes || what.size > chain.writable_bytes() || what.offset > INT64_MAX)
        return failure(EINVAL);
    auto pieces = chain.writable(what.size);
    ssize_t count = 0;
    do count = read_at(file->fd.get(), pieces, static_cast<off_t>(what.offset));
    while (count < 0 && errno == EINTR);
    if (count < 0) return last_failure();
    chain.skip_writable(static_cast<uint64_t>(count));
    return {};
}

Result<> FsOperations::write(Chain& chain) {
    fuse_write_in what{};
    if (!chain.read(std::as_writable_bytes(std::span(&what, 1)))) return failure(EINVAL);
    Handle* file = TRY(handle(what.fh, false));
    if (what.size > kMostDataBytes || what.size != chain.readable_bytes() || what.offset > INT64_MAX)
        return failure(EINVAL);
    if (chain.writable_bytes() < sizeof(fuse_write_out)) return failure(EINVAL);
    TRY(may_grow());
    uint64_t old_size = 0, new_size = 0;
    if (quota_.limited()) {
        struct stat status{};
        if (status_of_open(file->fd.get(), &status) < 0) return last_failure();
        int flags = ::fcntl(file->fd.get(), F_GETFL);
        old_size = static_cast<uint64_t>(status.st_size);
        new_size = std::max(old_size, (flags & O_APPEND ? old_size : what.offset) + what.size);
        TRY(quota_.grow(old_size, new_size));
    }
    auto pieces = chain.readable();
    ssize_t count = 0;
    do count = write_at(file->fd.get(), pieces, static_cast<off_t>(what.offset));
    while (count < 0 && errno == EINTR);
    auto failed = last_failure();
    if (quota_.limited() && count != static_cast<ssize_t>(what.size)) {
        struct stat status{};
        if (status_of_open(file->fd.get(), &status) == 0)
            quota_.shrink(new_size, std::clamp(static_cast<uint64_t>(status.st_size), old_size, new_size));
    }
    if (count < 0) return failed;
    return answer(chain, fuse_write_out{.size = static_cast<uint32_t>(count)});
}

Result<> FsOperations::sync(Arguments arguments) {
    auto what = arguments.fixed<fuse_fsync_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    auto found = handles_.find(what.fh);
    if (found == handles_.end()) return failure(EBADF);
    int fd = found->second.fd.get();
    if ((what.fsync_flags & FUSE_FSYNC_FDATASYNC ? ::fdatasync(fd) : ::fsync(fd)) < 0) return last_failure();
    return {};
}

Result<> FsOperations::allocate(Arguments arguments) {
    auto what = arguments.fixed<fuse_fallocate_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    Handle* file = TRY(handle(what.fh, false));
    // Other modes hold blocks that no size shows.
    if (what.mode != 0) return failure(EOPNOTSUPP);
    if (what.offset > INT64_MAX || what.length > INT64_MAX - what.offset) return failure(EFBIG);
    TRY(may_grow());
    struct stat status{};
    if (status_of_open(file->fd.get(), &status) < 0) return last_failure();
    auto old_size = static_cast<uint64_t>(status.st_size);
    uint64_t new_size = std::max(old_size, what.offset + what.length);
    TRY(quota_.grow(old_size, new_size));
    if (::fallocate(file->fd.get(), 0, static_cast<off_t>(what.offset), static_cast<off_t>(what.length)) <
        0) {
        auto failed = last_failure();
        quota_.shrink(new_size, old_size);
        return failed;
    }
    return {};
}

Result<> FsOperations::seek(Arguments arguments, Chain& chain) {
    auto what = arguments.fixed<fuse_lseek_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    Handle* file = TRY(handle(what.fh, false));
    if (what.whence != SEEK_DATA && what.whence != SEEK_HOLE) return failure(EINVAL);
    off_t at = ::lseek(file->fd.get(), static_cast<off_t>(what.offset), static_cast<int>(what.whence));
    if (at < 0) return last_failure();
    return answer(chain, fuse_lseek_out{.offset = static_cast<uint64_t>(at)});
}

// --- Folders

// One more entry into listing_; false if it has no room.
bool FsOperations::list(const Handle& folder, const DirectoryEntry& found, bool with_attributes,
                        size_t room) {
    DirectoryEntry shown = found;
    std::string name(found.name);
    bool dots = name == "." || name == "..";
    if (dots) shown.number = folder.number; // what is above the share is not the guest's to know
    if (found.type != DT_REG && found.type != DT_DIR && found.type != DT_UNKNOWN) return true;
    Result<struct stat> status = failure(ENOENT);
    if (!dots && (with_attributes || found.type == DT_UNKNOWN)) {
        status = tree_.look(folder.fd.get(), name);
        if (!status) return true; // gone again, or nothing for a guest
        shown.type = S_ISDIR(status->st_mode) ? DT_DIR : DT_REG;
    }
    if (listing_.size() + directory_entry_bytes(shown, with_attributes) > room) return false;
    fuse_entry_out attributes{}; // no node: the guest takes the name only
    if (with_attributes && status)
        if (auto known = entry(folder.node, name, *status)) attributes = *known;
    append_directory_entry(listing_, shown, with_attributes ? &attributes : nullptr);
    return true;
}

Result<> FsOperations::read_folder(Arguments arguments, Chain& chain, bool with_attributes) {
    auto what = arguments.fixed<fuse_read_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    Handle* folder = TRY(handle(what.fh, true));
    int fd = folder->fd.get();
    size_t room = std::min<uint64_t>({what.size, chain.writable_bytes(), kMostDirectoryBytes});
    if (what.offset != folder->position && ::lseek(fd, static_cast<off_t>(what.offset), SEEK_SET) < 0)
        return last_failure();
    folder->position = what.offset;
    listing_.clear();
    alignas(dirent64) char entries[8192];
    for (bool full = false; !full;) {
        long count = ::syscall(SYS_getdents64, fd, entries, sizeof entries);
        if (count < 0) return last_failure();
        if (count == 0) break;
        for (long at = 0; at < count && !full;) {
            auto* found = reinterpret_cast<dirent64*>(entries + at);
            at += found->d_reclen;
            const DirectoryEntry entry_found{.number = found->d_ino,
                                             .next = static_cast<uint64_t>(found->d_off),
                                             .type = found->d_type,
                                             .name = found->d_name};
            full = !list(*folder, entry_found, with_attributes, room);
            if (!full) folder->position = static_cast<uint64_t>(found->d_off);
        }
        // The kernel stands behind all that it gave, not behind what fitted.
        if (full && listing_.empty()) return failure(EINVAL); // nothing at all would read as the end
        if (full && ::lseek(fd, static_cast<off_t>(folder->position), SEEK_SET) < 0) return last_failure();
    }
    if (!chain.write(std::as_bytes(std::span(listing_)))) return failure(EINVAL);
    return {};
}

} // namespace nullbox::cage
