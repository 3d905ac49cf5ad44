#include <cerrno>
#include <poll.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "guest_link/copy_tree.h"

namespace nullbox::guest_link {

static Result<short> wait_for(int socket, short events) {
    pollfd polled{.fd = socket, .events = events, .revents = 0};
    while (::poll(&polled, 1, -1) < 0)
        if (errno != EINTR) return errno_error("wait for the stream");
    return polled.revents;
}

Result<> CopyStream::send(const CopyFrame& frame) {
    auto bytes = TRY(encode(frame));
    for (size_t sent = 0; sent < bytes.size();) {
        auto ready = TRY(wait_for(socket_, POLLIN | POLLOUT));
        if (ready & (POLLIN | POLLHUP | POLLERR))
            return Error{.code = ECANCELED, .message = "the other side ended the copy"};
        ssize_t count =
            ::send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (count < 0) return Error{.code = ECANCELED, .message = "the other side ended the copy"};
        sent += static_cast<size_t>(count);
    }
    return {};
}

Result<std::optional<CopyFrame>> CopyStream::receive() {
    for (;;) {
        auto frame = TRY(reader_.next());
        if (frame) return frame;
        TRY(wait_for(socket_, POLLIN));
        std::byte chunk[32768];
        ssize_t count = ::recv(socket_, chunk, sizeof chunk, MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (count <= 0) return std::optional<CopyFrame>(); // a reset is an end too
        reader_.feed(std::span(chunk).first(static_cast<size_t>(count)));
    }
}

} // namespace nullbox::guest_link
