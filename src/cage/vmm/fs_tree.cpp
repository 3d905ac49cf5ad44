#include "cage/vmm/fs_tree.h"
#include "cage/vmm/system_calls.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace nullbox::cage {

static Result<Fd> open_beneath_one(int folder, const char* name, int flags, mode_t mode = 0) {
    open_how how{};
    how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC | O_NOFOLLOW;
    how.mode = mode;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    Fd fd(static_cast<int>(::syscall(SYS_openat2, folder, name, &how, sizeof how)));
    if (fd) return fd;
    // A link or a mount: it is not there.
    return failure(errno == ELOOP || errno == EXDEV ? ENOENT : errno);
}

Result<FsTree> FsTree::make(Fd root) {
    struct stat status{};
    if (status_of_open(root.get(), &status) < 0) return errno_error("look at a shared folder");
    if (!S_ISDIR(status.st_mode)) return error("a share that is no folder");
    return FsTree(std::move(root), status);
}

bool FsTree::visible(const struct stat& status) const {
    return (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) && status.st_dev == device_;
}

Result<struct stat> FsTree::look(int folder, const std::string& name) const {
    struct stat status{};
    if (status_at(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
        return last_failure();
    if (!visible(status)) return failure(ENOENT);
    return status;
}

Result<Fd> FsTree::open_checked(int folder, const std::string& name, int flags, uint64_t number) const {
    Fd fd = TRY(open_beneath_one(folder, name.c_str(), flags));
    struct stat status{};
    if (status_of_open(fd.get(), &status) < 0) return last_failure();
    if (!visible(status) || status.st_ino != number) return failure(ESTALE);
    return fd;
}

Result<Fd> FsTree::open(int folder, const std::string& name, int flags, uint64_t number) const {
    // Looked at before it is opened: opening a pipe or a device has effects. NONBLOCK and NOCTTY are for what
    // an operator puts there in between.
    auto status = TRY(look(folder, name));
    if (status.st_ino != number) return failure(ESTALE);
    return open_checked(folder, name, flags | O_NONBLOCK | O_NOCTTY, number);
}

Result<Fd> FsTree::create(int folder, const std::string& name, int flags, mode_t mode) const {
    return open_beneath_one(folder, name.c_str(), flags | O_CREAT | O_EXCL | O_NOCTTY, mode);
}

Result<Fd> FsTree::reopen(int folder) const { return open_beneath_one(folder, ".", O_RDONLY | O_DIRECTORY); }

int FsTree::cached(uint64_t node) {
    if (node == kRootNode) return root_.get();
    auto found = std::ranges::find(cached_, node, &OpenFolder::node);
    if (found == cached_.end()) return -1;
    found->used = ++uses_;
    return found->fd.get();
}

Result<int> FsTree::folder(const InodeTable& inodes, uint64_t node) {
    const Inode* wanted = inodes.find(node);
    if (!wanted) return failure(ESTALE);
    if (!wanted->folder) return failure(ENOTDIR);
    int at = cached(node);
    if (at >= 0) return at;
    // To the root, however much of the way is open: what is too deep is so whether or not it is.
    auto way = TRY(inodes.way(node));
    auto left = way.end() - 1;
    for (; left != way.begin(); --left)
        if (at = cached(left[-1]); at >= 0) break;
    if (left == way.begin()) at = root_.get();
    Fd step;
    for (; left != way.end(); ++left) {
        const Inode* inode = inodes.find(*left);
        step = TRY(open_checked(at, inode->name, O_PATH | O_DIRECTORY, inode->number));
        at = step.get();
    }
    // Only the last is kept, so that the folder of the call before this one stays open.
    auto oldest = std::ranges::min_element(cached_, {}, &OpenFolder::used);
    *oldest = {.node = node, .used = ++uses_, .fd = std::move(step)};
    return at;
}

} // namespace nullbox::cage
