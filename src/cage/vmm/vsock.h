// virtio-vsock (virtio 1.2, section 5.10): the guest's streams to the host and the host's to it. Each stream
// is one end of a socket pair; the other end belongs to whoever serves the port (cage decides).
//
// Flow control goes both ways and by stream: a guest may have kStreamBuffer bytes under way, and we send no
// more than the guest has said it has room for, so a slow reader on either side holds up its own stream only.
// What does not fit the protocol is answered with RST; replies that the guest does not fetch stop us reading
// its requests, so nothing here grows without a bound.
//
// Runs on the device thread: process() serves the queues, socket events mark streams and wake the transport.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "base/fd.h"
#include "base/loop.h"
#include "cage/vmm/virtio_device.h"

namespace nullbox::cage {

constexpr uint64_t kHostCid = 2;

struct VsockHeader { // guest-controlled in every field when it comes from the guest
    uint64_t source_cid = 0;
    uint64_t destination_cid = 0;
    uint32_t source_port = 0;
    uint32_t destination_port = 0;
    uint32_t length = 0;
    uint16_t type = 0;
    uint16_t operation = 0;
    uint32_t flags = 0;
    uint32_t buffer_bytes = 0; // the sender's room for this stream
    uint32_t forwarded = 0;    // what of it the sender's reader has taken, ever; wraps
} __attribute__((packed));
static_assert(sizeof(VsockHeader) == 44);

enum class VsockOperation : uint16_t {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
};
constexpr uint16_t kVsockStream = 1;
constexpr uint32_t kShutdownReceive = 1, kShutdownSend = 2; // the sender will not receive, not send, any more

class VsockDevice final : public VirtioDevice {
public:
    static constexpr size_t kMostStreams = 128;
    static constexpr uint32_t kStreamBuffer = 64 << 10;

    // The guest asks for a host port; peer is the other end of its stream. False refuses (RST).
    using GuestConnect = std::function<bool(uint32_t host_port, Fd peer)>;

    VsockDevice(Loop& loop, uint64_t guest_cid, GuestConnect on_connect);
    std::string_view name() const override { return "vsock"; }
    uint32_t id() const override { return 19; }
    size_t queue_count() const override { return 3; } // 0 to the guest, 1 from the guest, 2 events (unused)
    bool process(std::span<Virtqueue> queues) override;
    std::span<const std::byte> config() const override { return config_; }
    void reset() override { streams_.clear(), resets_.clear(); }

    // A stream from the host to a port of the guest. If the guest does not listen or there are too many
    // streams, socket is closed, which its other end sees.
    void connect_guest(uint32_t guest_port, Fd socket);

    size_t streams() const { return streams_.size(); }
    size_t resets() const { return resets_.size(); } // that the guest has not fetched

private:
    struct Key {
        uint32_t guest_port, host_port;
        auto operator<=>(const Key&) const = default;
    };
    struct StreamState {                // everything a snapshot needs beside the socket's buffers
        bool open = false;              // false: we asked (Request) and wait for the answer
        uint32_t peer_buffer_bytes = 0; // guest-controlled
        uint32_t peer_forwarded = 0;    // guest-controlled
        uint32_t guest_shutdown = 0;    // guest-controlled: kShutdownReceive, kShutdownSend
        uint32_t sent = 0;              // bytes to the guest, ever; wraps
        uint32_t forwarded = 0;         // bytes from the guest that the socket has taken, ever; wraps
        uint32_t forwarded_told = 0;    // what of it the guest knows
        uint32_t host_shutdown = 0;     // what we have told or will tell the guest
        bool asked_credit = false;
        std::array<bool, 8> due{}; // control packets to send, by operation
    };
    struct Stream {
        StreamState state;
        Fd socket;
        Watch watch;                   // after socket: dropped before it closes
        Watch deadline;                // the guest has so long to answer a full shutdown
        bool readable = false;         // until read says otherwise (edge-triggered)
        bool hung_up = false;          // the other end is closed
        bool end_seen = false;         // read to the end
        std::vector<std::byte> unsent; // from the guest, the socket was full; at most kStreamBuffer
    };
    using Streams = std::map<Key, Stream>;

    // From the guest.
    bool serve_output(Virtqueue& output);
    void handle(const VsockHeader& header, Chain& chain);
    void handle_stream(Streams::iterator found, const VsockHeader& header, Chain& chain);
    void accept(const VsockHeader& header);
    void forward(Streams::iterator found, Chain& chain, uint32_t length);
    void shut_down_by_guest(Streams::iterator found, uint32_t flags);

    // From the sockets.
    bool adopt(Key key, Fd socket, bool open);
    void on_socket(Key key, uint32_t events);
    bool flush(Streams::iterator found);
    void finish_guest_shutdown(Streams::iterator found);
    void read_end(Stream& stream);

    // To the guest.
    bool serve_input(Virtqueue& input);
    Streams::iterator next_to_send();
    bool has_something_to_send(Stream& stream) const;
    void send(Streams::iterator found, Virtqueue& input, Chain chain);
    void send_data(Streams::iterator found, Virtqueue& input, Chain chain);
    void send_header(Virtqueue& input, Chain chain, const VsockHeader& header);
    VsockHeader header_for(Key key, const Stream& stream, VsockOperation operation) const;
    static uint32_t credit(const StreamState& state);
    void kill(Streams::iterator found);
    void queue_reset(Key key) { resets_.push_back(key); }

    Loop& loop_;
    uint64_t guest_cid_;
    GuestConnect on_connect_;
    std::array<std::byte, 8> config_{};
    Streams streams_;
    std::deque<Key>
        resets_;      // at most kMostResets from the guest's packets, and one per stream that it knows of
    Key last_sent_{}; // streams take turns
    uint32_t next_host_port_ = 1 << 30;
};

} // namespace nullbox::cage
