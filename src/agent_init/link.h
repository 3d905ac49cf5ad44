// Our end of the stream to the host: frames out through a bounded queue, frames in through the reader.
// Nonblocking, so that a host that does not read never keeps us from hearing its Stop.
#pragma once

#include "base/loop.h"
#include "guest_link/frames.h"

namespace nullbox::agent_init {

// Above this, a session stops reading the command's output until the host has taken some: the command blocks.
constexpr size_t kQueueHighBytes = size_t{256} << 10;

class Link {
public:
    explicit Link(Fd socket) : socket_(std::move(socket)) {}

    int fd() const { return socket_.get(); }
    Result<> queue(const guest_link::GuestFrame& frame);
    // Writes what the socket takes now. Fails when the host is gone.
    Result<> flush();
    Result<> send(const guest_link::GuestFrame& frame); // queue and flush
    size_t queued() const { return queue_.size() - written_; }

    // Takes what has arrived; false when the host has closed the stream.
    Result<bool> receive();
    Result<std::optional<guest_link::HostFrame>> next() { return reader_.next(); }

    // Waits for the next frame. Nothing: the host closed the stream.
    Result<std::optional<guest_link::HostFrame>> wait_for_frame();
    // Writes out the queue, ends our direction, and waits for the host to close, so that nothing is lost when
    // the machine goes away.
    void finish(std::chrono::milliseconds most);

private:
    Fd socket_;
    std::vector<std::byte> queue_;
    size_t written_ = 0;
    guest_link::HostFrameReader reader_;
};

} // namespace nullbox::agent_init
