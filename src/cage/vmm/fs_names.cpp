// FsOperations: what concerns names. See fs_operations.h.
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

#include "cage/vmm/fs_operations.h"
#include "cage/vmm/system_calls.h"

namespace nullbox::cage {

Result<> FsOperations::lookup(uint64_t parent, Arguments arguments, Chain& chain) {
    auto name = arguments.name();
    if (int wrong = arguments.error()) return failure(wrong);
    int folder = TRY(tree_.folder(inodes_, parent));
    auto status = TRY(tree_.look(folder, name));
    // Asked first: a node the guest does not hear of would never be forgotten.
    if (chain.writable_bytes() < sizeof(fuse_entry_out)) return failure(EINVAL);
    return answer(chain, TRY(entry(parent, name, status)));
}

Result<> FsOperations::forget(uint64_t node, Arguments arguments) {
    auto what = arguments.fixed<fuse_forget_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    inodes_.forget(node, what.nlookup);
    return {};
}

Result<> FsOperations::forget_batch(Arguments arguments) {
    auto batch = arguments.fixed<fuse_batch_forget_in>();
    // The count is not believed: what is there, is there.
    if (batch.count != arguments.left() / sizeof(fuse_forget_one)) return failure(EINVAL);
    for (uint32_t i = 0; i < batch.count; ++i) {
        auto one = arguments.fixed<fuse_forget_one>();
        inodes_.forget(one.nodeid, one.nlookup);
    }
    return {};
}

Result<> FsOperations::make_node(uint64_t parent, Arguments arguments, Chain& chain) {
    auto what = arguments.fixed<fuse_mknod_in>();
    auto name = arguments.name();
    if (int wrong = arguments.error()) return failure(wrong);
    if (!S_ISREG(what.mode)) return failure(EPERM);
    if (chain.writable_bytes() < sizeof(fuse_entry_out)) return failure(EINVAL);
    Fd file = TRY(create_file(parent, name, O_RDONLY, what.mode));
    struct stat status{};
    if (status_of_open(file.get(), &status) < 0) return last_failure();
    return answer(chain, TRY(entry(parent, name, status)));
}

Result<> FsOperations::make_folder(uint64_t parent, Arguments arguments, Chain& chain) {
    arguments.fixed<fuse_mkdir_in>();
    auto name = arguments.name();
    if (int wrong = arguments.error()) return failure(wrong);
    if (chain.writable_bytes() < sizeof(fuse_entry_out)) return failure(EINVAL);
    TRY(may_grow());
    int folder = TRY(tree_.folder(inodes_, parent));
    TRY(quota_.add_file());
    if (::mkdirat(folder, name.c_str(), kSharedFolderMode) < 0) {
        auto failed = last_failure();
        quota_.remove_file();
        return failed;
    }
    auto status = TRY(tree_.look(folder, name));
    return answer(chain, TRY(entry(parent, name, status)));
}

Result<> FsOperations::remove(uint64_t parent, Arguments arguments, bool folder) {
    auto name = arguments.name();
    if (int wrong = arguments.error()) return failure(wrong);
    TRY(must_be_writable());
    int at = TRY(tree_.folder(inodes_, parent));
    auto status = TRY(tree_.look(at, name));
    if (::unlinkat(at, name.c_str(), folder ? AT_REMOVEDIR : 0) < 0) return last_failure();
    quota_.remove_file();
    // An open file keeps its bytes until it is released.
    if (!folder && status.st_nlink == 1 && !handle_of_number(status.st_ino))
        quota_.shrink(static_cast<uint64_t>(status.st_size), 0);
    return {};
}

Result<> FsOperations::rename(uint64_t parent, Arguments arguments, bool has_flags) {
    uint64_t new_parent = 0;
    uint32_t flags = 0;
    if (has_flags) {
        auto what = arguments.fixed<fuse_rename2_in>();
        new_parent = what.newdir, flags = what.flags;
    } else {
        new_parent = arguments.fixed<fuse_rename_in>().newdir;
    }
    auto old_name = arguments.name();
    auto new_name = arguments.name();
    if (int wrong = arguments.error()) return failure(wrong);
    if (flags & ~static_cast<uint32_t>(RENAME_NOREPLACE)) return failure(EINVAL);
    return move(parent, old_name, new_parent, new_name, flags == 0);
}

Result<> FsOperations::move(uint64_t from, const std::string& old_name, uint64_t to,
                            const std::string& new_name, bool replace) {
    TRY(must_be_writable());
    int old_folder = TRY(tree_.folder(inodes_, from));
    int new_folder = TRY(tree_.folder(inodes_, to));
    auto moved = TRY(tree_.look(old_folder, old_name));
    auto replaced = tree_.look(new_folder, new_name);
    // With nothing to replace that the guest can see, nothing it cannot see is replaced either.
    bool replaces = replace && replaced;
    if (rename_at(old_folder, old_name.c_str(), new_folder, new_name.c_str(),
                  replaces ? 0 : RENAME_NOREPLACE) < 0)
        return last_failure();
    inodes_.move({.parent = to, .name = new_name, .number = moved.st_ino, .folder = S_ISDIR(moved.st_mode)});
    if (!replaces || replaced->st_ino == moved.st_ino) return {};
    quota_.remove_file();
    if (S_ISREG(replaced->st_mode) && replaced->st_nlink == 1 && !handle_of_number(replaced->st_ino))
        quota_.shrink(static_cast<uint64_t>(replaced->st_size), 0);
    return {};
}

Result<> FsOperations::access(uint64_t node, Arguments arguments) {
    auto what = arguments.fixed<fuse_access_in>();
    if (int wrong = arguments.error()) return failure(wrong);
    auto status = TRY(status_of(node));
    uint32_t may = attributes_of(status, options_.view).mode & 7;
    if ((what.mask & W_OK) && !options_.view.writable) return failure(EROFS);
    if (what.mask & 7 & ~may) return failure(EACCES);
    return {};
}

} // namespace nullbox::cage
