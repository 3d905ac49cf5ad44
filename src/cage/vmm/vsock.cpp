#include "cage/vmm/vsock.h"

#include <algorithm>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/check.h"

namespace nullbox::cage {

namespace {
constexpr size_t kMostResets = 128;
constexpr auto kShutdownAnswer = std::chrono::seconds(2);
// The guest is told of freed room when this much of it is news; less would cost a packet for each read.
constexpr uint32_t kCreditNews = VsockDevice::kStreamBuffer / 4;

size_t due_index(VsockOperation operation) { return static_cast<size_t>(operation); }
} // namespace

VsockDevice::VsockDevice(Loop& loop, uint64_t guest_cid, GuestConnect on_connect)
    : loop_(loop), guest_cid_(guest_cid), on_connect_(std::move(on_connect)) {
    std::memcpy(config_.data(), &guest_cid_, sizeof guest_cid_);
}

bool VsockDevice::process(std::span<Virtqueue> queues) {
    // Replies that the guest has not fetched: its further packets wait in the ring until it has.
    bool blocked = resets_.size() >= kMostResets;
    bool more = !blocked && serve_output(queues[1]);
    more |= serve_input(queues[0]);
    return more || (blocked && resets_.size() < kMostResets);
}

// --- From the guest

bool VsockDevice::serve_output(Virtqueue& output) {
    return serve_queue(output, [&](Chain chain) {
        VsockHeader header;
        if (!chain.read(std::as_writable_bytes(std::span(&header, 1))) ||
            header.length > chain.readable_bytes())
            output.set_fault("packet shorter than its header says");
        else
            handle(header, chain);
        output.complete(std::move(chain), 0);
    });
}

void VsockDevice::handle(const VsockHeader& header, Chain& chain) {
    if (header.source_cid != guest_cid_) return; // nobody to answer
    Key key{header.source_port, header.destination_port};
    auto operation = static_cast<VsockOperation>(header.operation);
    auto found = streams_.find(key);
    if (header.destination_cid != kHostCid || header.type != kVsockStream) {
        if (operation != VsockOperation::Reset) queue_reset(key);
        return;
    }
    if (found != streams_.end()) return handle_stream(found, header, chain);
    if (operation == VsockOperation::Request) return accept(header);
    if (operation != VsockOperation::Reset) queue_reset(key);
}

void VsockDevice::accept(const VsockHeader& header) {
    Key key{header.source_port, header.destination_port};
    if (streams_.size() >= kMostStreams) return queue_reset(key);
    auto pair = make_socket_pair(SOCK_STREAM | SOCK_NONBLOCK);
    if (!pair || !adopt(key, std::move(pair->first), true)) return queue_reset(key);
    Stream& stream = streams_.find(key)->second;
    stream.state.peer_buffer_bytes = header.buffer_bytes;
    stream.state.peer_forwarded = header.forwarded;
    if (!on_connect_(header.destination_port, std::move(pair->second))) return kill(streams_.find(key));
    stream.state.due[due_index(VsockOperation::Response)] = true;
}

void VsockDevice::handle_stream(Streams::iterator found, const VsockHeader& header, Chain& chain) {
    StreamState& state = found->second.state;
    state.peer_buffer_bytes = header.buffer_bytes;
    state.peer_forwarded = header.forwarded;
    if (credit(state) > 0) state.asked_credit = false;
    auto operation = static_cast<VsockOperation>(header.operation);
    if (!state.open && operation != VsockOperation::Response && operation != VsockOperation::Reset)
        return kill(found);
    switch (operation) {
    case VsockOperation::Response:
        if (state.open) return kill(found);
        state.open = true;
        return;
    case VsockOperation::Reset:
        streams_.erase(found);
        return;
    case VsockOperation::Shutdown:
        return shut_down_by_guest(found, header.flags);
    case VsockOperation::Data:
        return forward(found, chain, header.length);
    case VsockOperation::CreditUpdate:
        return;
    case VsockOperation::CreditRequest:
        state.due[due_index(VsockOperation::CreditUpdate)] = true;
        return;
    case VsockOperation::Request:
        break;
    }
    kill(found); // a second request, or no operation at all
}

void VsockDevice::forward(Streams::iterator found, Chain& chain, uint32_t length) {
    Stream& stream = found->second;
    if ((stream.state.guest_shutdown & kShutdownSend) || length > kStreamBuffer - stream.unsent.size())
        return kill(found); // sends after its end, or more than it was given room for
    if (stream.unsent.empty() && length > 0) {
        auto pieces = chain.readable(length);
        msghdr message{.msg_iov = const_cast<iovec*>(pieces.data()), .msg_iovlen = pieces.size()};
        ssize_t taken = ::sendmsg(stream.socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (taken < 0 && errno != EAGAIN && errno != EINTR) return kill(found); // nobody there any more
        auto count = static_cast<uint32_t>(std::max<ssize_t>(taken, 0));
        chain.skip_readable(count);
        stream.state.forwarded += count;
        length -= count;
    }
    size_t old = stream.unsent.size();
    stream.unsent.resize(old + length);
    if (!chain.read(std::span(stream.unsent).subspan(old))) return kill(found);
    if (stream.state.forwarded - stream.state.forwarded_told >= kCreditNews)
        stream.state.due[due_index(VsockOperation::CreditUpdate)] = true;
}

void VsockDevice::shut_down_by_guest(Streams::iterator found, uint32_t flags) {
    Stream& stream = found->second;
    stream.state.guest_shutdown |= flags & (kShutdownReceive | kShutdownSend);
    if (stream.hung_up && (stream.state.guest_shutdown & kShutdownReceive)) read_end(stream);
    finish_guest_shutdown(found);
}

// What the guest had sent before its end goes out first.
void VsockDevice::finish_guest_shutdown(Streams::iterator found) {
    Stream& stream = found->second;
    if (!stream.unsent.empty()) return;
    if (stream.state.guest_shutdown == (kShutdownReceive | kShutdownSend)) return kill(found);
    if (stream.state.guest_shutdown & kShutdownSend) ::shutdown(stream.socket.get(), SHUT_WR);
}

// --- From the sockets

bool VsockDevice::adopt(Key key, Fd socket, bool open) {
    auto [found, is_new] = streams_.try_emplace(key);
    if (!is_new) return false;
    Stream& stream = found->second;
    stream.socket = std::move(socket);
    stream.state.open = open;
    auto watch = loop_.watch(stream.socket.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                             [this, key](uint32_t events) { on_socket(key, events); });
    if (!watch) {
        streams_.erase(found);
        return false;
    }
    stream.watch = *std::move(watch);
    return true;
}

void VsockDevice::connect_guest(uint32_t guest_port, Fd socket) {
    if (streams_.size() >= kMostStreams || !set_nonblocking(socket.get())) return;
    while (streams_.contains({guest_port, next_host_port_})) ++next_host_port_; // at most kMostStreams steps
    Key key{guest_port, next_host_port_++};
    if (next_host_port_ == 0) next_host_port_ = 1 << 30;
    if (!adopt(key, std::move(socket), false)) return;
    streams_.find(key)->second.state.due[due_index(VsockOperation::Request)] = true;
    wake();
}

void VsockDevice::on_socket(Key key, uint32_t events) {
    auto found = streams_.find(key);
    Stream& stream = found->second; // the watch, and so this call, ends with the stream
    if (events & (EPOLLHUP | EPOLLERR)) stream.hung_up = true;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) stream.readable = true;
    if (stream.hung_up && !stream.state.open)
        kill(found); // whoever asked has gone; a late answer meets a RST
    else if (!(events & EPOLLOUT) || flush(found)) {
        // Closed, and nothing left that the guest would read.
        bool read_out = stream.end_seen || (stream.state.guest_shutdown & kShutdownReceive);
        if (stream.hung_up && read_out) read_end(stream);
    }
    wake();
}

// False if the stream is gone.
bool VsockDevice::flush(Streams::iterator found) {
    Stream& stream = found->second;
    if (stream.unsent.empty()) return true;
    ssize_t taken = ::send(stream.socket.get(), stream.unsent.data(), stream.unsent.size(), MSG_NOSIGNAL);
    if (taken < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (taken < 0) return kill(found), false;
    stream.unsent.erase(stream.unsent.begin(), stream.unsent.begin() + taken);
    stream.state.forwarded += static_cast<uint32_t>(taken);
    if (stream.state.forwarded - stream.state.forwarded_told >= kCreditNews)
        stream.state.due[due_index(VsockOperation::CreditUpdate)] = true;
    if (!stream.unsent.empty()) return true;
    stream.unsent.shrink_to_fit();
    bool both = stream.state.guest_shutdown == (kShutdownReceive | kShutdownSend);
    finish_guest_shutdown(found);
    return !both;
}

// The host's side has sent its last byte; when it is closed altogether, it will not receive either.
void VsockDevice::read_end(Stream& stream) {
    stream.end_seen = true;
    stream.readable = false;
    uint32_t flags = kShutdownSend | (stream.hung_up ? kShutdownReceive : 0);
    if ((stream.state.host_shutdown | flags) == stream.state.host_shutdown) return;
    stream.state.host_shutdown |= flags;
    stream.state.due[due_index(VsockOperation::Shutdown)] = true;
}

// --- To the guest

uint32_t VsockDevice::credit(const StreamState& state) {
    uint32_t under_way = state.sent - state.peer_forwarded;
    // A guest that claims to have taken what was never sent, or shrinks its buffer, gets nothing for it.
    return under_way >= state.peer_buffer_bytes ? 0 : state.peer_buffer_bytes - under_way;
}

bool VsockDevice::has_something_to_send(Stream& stream) const {
    StreamState& state = stream.state;
    bool data = state.open && stream.readable && !(state.guest_shutdown & kShutdownReceive);
    if (data && credit(state) == 0) {
        data = false;
        if (!std::exchange(state.asked_credit, true))
            state.due[due_index(VsockOperation::CreditRequest)] = true;
    }
    return data || std::ranges::contains(state.due, true);
}

VsockDevice::Streams::iterator VsockDevice::next_to_send() {
    auto found = streams_.upper_bound(last_sent_);
    for (size_t looked = 0; looked < streams_.size(); ++looked, ++found) {
        if (found == streams_.end()) found = streams_.begin();
        if (has_something_to_send(found->second)) return found;
    }
    return streams_.end();
}

bool VsockDevice::serve_input(Virtqueue& input) {
    for (unsigned round = 0; round < kRequestsPerTurn; ++round) {
        auto next = next_to_send();
        if (next == streams_.end() && resets_.empty()) return false;
        auto chain = input.pop();
        if (!chain) {
            if (!input.enable_notifications()) return false;
        } else if (chain->writable_bytes() <= sizeof(VsockHeader)) {
            input.complete(*std::move(chain), 0);
            input.set_fault("receive buffer with no room for a packet");
        } else if (!resets_.empty()) {
            VsockHeader header = header_for(resets_.front(), {}, VsockOperation::Reset);
            resets_.pop_front();
            send_header(input, *std::move(chain), header);
        } else {
            last_sent_ = next->first;
            send(next, input, *std::move(chain));
        }
    }
    return true;
}

void VsockDevice::send(Streams::iterator found, Virtqueue& input, Chain chain) {
    auto& [key, stream] = *found;
    auto due = std::ranges::find(stream.state.due, true);
    if (due == stream.state.due.end()) return send_data(found, input, std::move(chain));
    *due = false;
    auto operation = static_cast<VsockOperation>(due - stream.state.due.begin());
    VsockHeader header = header_for(key, stream, operation);
    if (operation == VsockOperation::Shutdown) {
        header.flags = stream.state.host_shutdown;
        if (header.flags == (kShutdownReceive | kShutdownSend))
            stream.deadline = loop_.after(kShutdownAnswer, [this, late_key = key] {
                if (auto late = streams_.find(late_key); late != streams_.end()) kill(late);
                wake();
            });
    }
    stream.state.forwarded_told = stream.state.forwarded;
    send_header(input, std::move(chain), header);
}

void VsockDevice::send_data(Streams::iterator found, Virtqueue& input, Chain chain) {
    auto& [key, stream] = *found;
    ReservedRoom place; // the header's: its length is known only after reading
    CHECK(chain.reserve(place, sizeof(VsockHeader)));
    auto pieces = chain.writable(credit(stream.state));
    ssize_t count = ::readv(stream.socket.get(), pieces.data(), static_cast<int>(pieces.size()));
    if (count <= 0) {
        input.put_back(std::move(chain));
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            stream.readable = errno == EINTR;
        else if (count == 0)
            read_end(stream);
        else
            kill(found);
        return;
    }
    stream.state.sent += static_cast<uint32_t>(count);
    stream.state.forwarded_told = stream.state.forwarded;
    VsockHeader header = header_for(key, stream, VsockOperation::Data);
    header.length = static_cast<uint32_t>(count);
    place.fill(std::as_bytes(std::span(&header, 1)));
    input.complete(std::move(chain), static_cast<uint32_t>(sizeof header + static_cast<size_t>(count)));
}

void VsockDevice::send_header(Virtqueue& input, Chain chain, const VsockHeader& header) {
    bool written = chain.write(std::as_bytes(std::span(&header, 1)));
    input.complete(std::move(chain), written ? sizeof header : 0);
}

VsockHeader VsockDevice::header_for(Key key, const Stream& stream, VsockOperation operation) const {
    return {.source_cid = kHostCid,
            .destination_cid = guest_cid_,
            .source_port = key.host_port,
            .destination_port = key.guest_port,
            .type = kVsockStream,
            .operation = static_cast<uint16_t>(operation),
            .buffer_bytes = kStreamBuffer,
            .forwarded = stream.state.forwarded};
}

// A stream that the guest has never heard of needs no RST: whoever asks for one and gives up, again and
// again, would otherwise leave one each time to a guest that fetches nothing.
void VsockDevice::kill(Streams::iterator found) {
    if (!found->second.state.due[due_index(VsockOperation::Request)]) queue_reset(found->first);
    streams_.erase(found);
}

} // namespace nullbox::cage
