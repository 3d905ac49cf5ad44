#include "cage/egress_watch.h"

#include <algorithm>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/text.h"

namespace nullbox::cage {

Result<> EgressWatch::hold() {
    if (socket_) return {};
    sockaddr_un address{.sun_family = AF_UNIX};
    if (path_.size() >= sizeof address.sun_path)
        return error(cat("connect to ", path_, ": the path is too long"));
    std::ranges::copy(path_, address.sun_path);
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return errno_error("make a socket");
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
        return errno_error(cat("connect to ", path_));
    watch_ = TRY(loop_.watch(socket.get(), EPOLLIN | EPOLLRDHUP, [this](uint32_t) { on_ready(); }));
    socket_ = std::move(socket);
    return {};
}

void EgressWatch::on_ready() {
    char bytes[256]; // nothing is asked here, so nothing but the end is expected
    ssize_t count = ::recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR))) return;
    watch_.drop();
    socket_.reset();
    ended_();
}

} // namespace nullbox::cage
