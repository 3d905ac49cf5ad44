#include "agent_init/link.h"

#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace nullbox::agent_init {

Result<> Link::queue(const guest_link::GuestFrame& frame) {
    auto bytes = TRY(guest_link::encode(frame));
    queue_.insert(queue_.end(), bytes.begin(), bytes.end());
    return {};
}

Result<> Link::send(const guest_link::GuestFrame& frame) {
    TRY(queue(frame));
    return flush();
}

Result<> Link::flush() {
    while (queued() > 0) {
        ssize_t count =
            ::send(socket_.get(), queue_.data() + written_, queued(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (count < 0) return errno_error("send to the host");
        written_ += static_cast<size_t>(count);
    }
    if (queued() == 0 || written_ > kQueueHighBytes) {
        queue_.erase(queue_.begin(), queue_.begin() + static_cast<ptrdiff_t>(written_));
        written_ = 0;
    }
    return {};
}

Result<bool> Link::receive() {
    std::byte chunk[16384];
    for (;;) {
        ssize_t count = ::recv(socket_.get(), chunk, sizeof chunk, MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
        if (count < 0) return errno_error("receive from the host");
        if (count == 0) return false;
        reader_.feed(std::span(chunk).first(static_cast<size_t>(count)));
    }
}

static void wait_for(int fd, short events, std::chrono::milliseconds most) {
    pollfd wanted{.fd = fd, .events = events, .revents = 0};
    ::poll(&wanted, 1, static_cast<int>(most.count()));
}

Result<std::optional<guest_link::HostFrame>> Link::wait_for_frame() {
    for (;;) {
        bool open = TRY(receive());
        auto frame = TRY(next());
        if (frame || !open) return frame;
        wait_for(fd(), queued() > 0 ? POLLIN | POLLOUT : POLLIN, std::chrono::seconds(60));
        TRY(flush());
    }
}

void Link::finish(std::chrono::milliseconds most) {
    auto deadline = Clock::now() + most;
    auto left = [&] { return std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()); };
    while (queued() > 0 && left().count() > 0) {
        if (!flush()) return;
        if (queued() > 0) wait_for(fd(), POLLOUT, left());
    }
    ::shutdown(fd(), SHUT_WR);
    while (left().count() > 0) {
        auto open = receive();
        if (!open || !*open) return;
        wait_for(fd(), POLLIN, left());
    }
}

} // namespace nullbox::agent_init
