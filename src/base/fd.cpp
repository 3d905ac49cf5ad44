#include "base/fd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace nullbox {

void Fd::reset(int owned) noexcept {
    int old = std::exchange(fd_, owned);
    // On Linux the descriptor is gone even when close() reports EINTR; retrying could close somebody else's.
    if (old >= 0) ::close(old);
}

Result<Fd> Fd::duplicate() const {
    int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return errno_error("duplicate descriptor");
    return Fd(copy);
}

Result<Pipe> make_pipe(int flags) {
    int ends[2];
    if (::pipe2(ends, flags | O_CLOEXEC) < 0) return errno_error("make pipe");
    return Pipe{.read = Fd(ends[0]), .write = Fd(ends[1])};
}

Result<SocketPair> make_socket_pair(int type) {
    int ends[2];
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) < 0) return errno_error("make socket pair");
    return SocketPair{.first = Fd(ends[0]), .second = Fd(ends[1])};
}

Result<> set_nonblocking(int fd, bool on) {
    int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return errno_error("read descriptor flags");
    int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (::fcntl(fd, F_SETFL, wanted) < 0) return errno_error("set descriptor flags");
    return {};
}

} // namespace nullbox
