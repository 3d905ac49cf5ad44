// One system call for each kind of access, whatever libc would choose: what the jail's filter lists, and
// nothing twice. All answer as their namesakes do.
#pragma once

#include <cerrno>
#include <fcntl.h>
#include <span>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace nullbox::cage {

// A position may come from a guest. -1 means another thing to these calls than to preadv, so it does not get
// there.
inline ssize_t read_at(int fd, std::span<const iovec> pieces, off_t position) {
    if (position < 0) return errno = EINVAL, -1;
    return ::preadv2(fd, pieces.data(), static_cast<int>(pieces.size()), position, 0);
}
inline ssize_t write_at(int fd, std::span<const iovec> pieces, off_t position) {
    if (position < 0) return errno = EINVAL, -1;
    return ::pwritev2(fd, pieces.data(), static_cast<int>(pieces.size()), position, 0);
}
// For what has no positions: a tap or a stream.
inline ssize_t read_next(int fd, std::span<const iovec> pieces) {
    return ::preadv2(fd, pieces.data(), static_cast<int>(pieces.size()), -1, 0);
}
inline ssize_t write_next(int fd, std::span<const iovec> pieces) {
    return ::pwritev2(fd, pieces.data(), static_cast<int>(pieces.size()), -1, 0);
}
// Of x86-64 and libc alike, so that the kernel may fill libc's.
inline int status_at(int folder, const char* name, struct stat* status, int flags) {
    return static_cast<int>(::syscall(SYS_newfstatat, folder, name, status, flags));
}
inline int status_of_open(int fd, struct stat* status) { return status_at(fd, "", status, AT_EMPTY_PATH); }
inline int rename_at(int old_folder, const char* old_name, int new_folder, const char* new_name,
                     unsigned flags) {
    return static_cast<int>(::syscall(SYS_renameat2, old_folder, old_name, new_folder, new_name, flags));
}

} // namespace nullbox::cage
