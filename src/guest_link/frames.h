// The link between cage and agent-init: frames over one vsock stream that the guest opens to CID 2, port
// kGuestLinkPort (cage/vmm_channel.h). A frame is u32 length of the payload, u8 type, payload; all numbers
// little-endian; a text is u32 length and its bytes; a list is u32 count and its texts.
//
// The host treats every frame from the guest as hostile: the agent may be root in its VM and may have
// replaced agent-init. Lengths are bounded before anything is kept, and a payload must be used up to its last
// byte. Pure: no system calls. Types 4-31 (host) and 69-95 (guest) are exec's: most of them travel on streams
// of their own (exec_frames.h); from 32 (host) and 96 (guest) on is what concerns the agent's life.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"

namespace nullbox::guest_link {

constexpr uint16_t kVersion = 4;
constexpr uint32_t kMemoryPort = 9100; // vsock port of the host, TCP port of the guest's loopback
constexpr size_t kHeaderBytes = 5;
constexpr size_t kMaxGuestPayload = size_t{64} << 10; // of a frame that a guest sends
constexpr size_t kMaxHostPayload = size_t{1} << 20;   // Start holds a whole environment
constexpr size_t kMaxOutputText = size_t{16} << 10;   // a longer line goes in pieces
constexpr size_t kMaxMessageText = 4096;              // reasons and error texts
constexpr size_t kMaxStageText = 64;
constexpr size_t kMaxHealthPath = 256;
constexpr size_t kMaxHealthText = 200;

constexpr size_t kMaxAuthorityText = size_t{32} << 10;
constexpr uint32_t kMaxStartShares = 32;
constexpr uint32_t kImageDecides = UINT32_MAX; // no user's number

// --- host to guest

struct Network {         // the guest's one card
    std::string address; // IPv4, as are the other two
    uint8_t prefix_length = 32;
    std::string gateway, dns;
    uint16_t mtu = 1500;
    bool operator==(const Network&) const = default;
};

struct StartShare {   // a folder of the host
    std::string tag;  // by which the guest's kernel knows it
    std::string path; // where it goes
    bool read_only = true;
    bool operator==(const StartShare&) const = default;
};

struct Start {
    std::vector<std::string> command;     // argv; none: the image's
    std::vector<std::string> environment; // "NAME=value"
    uint32_t uid = 0, gid = 0;            // kImageDecides: the image's
    std::string working_directory = "/";  // empty: the image's
    std::string hostname;                 // the agent's name
    uint64_t clock_ns = 0;                // wall clock, since 1970; 0: leave the guest's
    bool has_app_image = false;           // the second block device goes to /app
    bool has_memory = false;              // the host serves memory on vsock port kMemoryPort
    std::optional<Network> network;
    std::string authority_pem;      // of the box, to be trusted beside the image's own; may be empty
    std::vector<StartShare> shares; // outer folders before those inside them
    bool operator==(const Start&) const = default;
};

struct Stop { // TERM to the agent's process group, KILL after the grace
    uint32_t grace_ms = 0;
    bool operator==(const Stop&) const = default;
};

struct SetClock {          // the host's clock was set while the agent ran
    uint64_t clock_ns = 0; // wall clock, since 1970
    bool operator==(const SetClock&) const = default;
};

struct CheckHealth {     // one look at the agent, answered by one Health; replaces one that is not answered
    uint32_t number = 0; // comes back in the answer
    bool http = false;   // a GET that must answer 2xx; else a connection that must be accepted
    uint16_t port = 0;   // on the guest's loopback
    std::string path;    // http only
    uint32_t timeout_ms = 0; // then it has failed
    bool operator==(const CheckHealth&) const = default;
};

// --- guest to host; every field is guest-controlled

struct Hello {
    uint16_t version = kVersion;
    uint64_t uptime_ns = 0; // the guest's monotonic clock, which starts with its kernel
    bool operator==(const Hello&) const = default;
};

struct Started { // the command is executing
    uint64_t uptime_ns = 0;
    bool operator==(const Started&) const = default;
};

enum class Stream : uint8_t { Stdout = 1, Stderr = 2 };

struct Output {
    Stream stream = Stream::Stdout;
    bool partial = false; // the line goes on in this stream's next Output
    uint64_t uptime_ns = 0;
    std::string text; // without the newline
    bool operator==(const Output&) const = default;
};

struct Exited {
    bool by_signal = false;
    uint32_t value = 0;         // exit code or signal, 0..255
    bool out_of_memory = false; // the guest's kernel killed it for memory
    bool operator==(const Exited&) const = default;
};

struct Health { // what came of CheckHealth
    uint32_t number = 0;
    bool good = false;
    std::string says; // "answered 503", "connection refused"
    bool operator==(const Health&) const = default;
};

struct Failure { // agent-init could not set up the guest or start the command; the guest ends after it
    std::string stage, message;
    bool operator==(const Failure&) const = default;
};

// The end of a command or a copy that somebody ran in the running guest (exec_frames.h).
struct ExecEnded {
    uint32_t number = 0; // as its request had it
    bool by_signal = false;
    uint32_t value = 0; // exit code or signal, 0..255; of what could not start, 126 or 127
    bool operator==(const ExecEnded&) const = default;
};

using HostFrame = std::variant<Start, Stop, SetClock, CheckHealth>;
using GuestFrame = std::variant<Hello, Started, Output, Exited, Failure, ExecEnded, Health>;

// Fails when the payload would pass the limit; names what is too large.
Result<std::vector<std::byte>> encode(const HostFrame& frame);
Result<std::vector<std::byte>> encode(const GuestFrame& frame);

// Cuts a byte stream into frames. After a failure the stream is lost: every later call fails the same way.
// Holds at most one payload of the limit plus what one feed() brought.
template <typename Frame>
class FrameReader {
public:
    void feed(std::span<const std::byte> bytes);
    // The next whole frame, nothing if more bytes are needed, or what is wrong with the stream.
    Result<std::optional<Frame>> next();
    size_t buffered() const { return buffer_.size() - taken_; }

private:
    std::vector<std::byte> buffer_;
    size_t taken_ = 0; // bytes of buffer_ that frames already returned have used
    std::optional<Error> broken_;
};

using HostFrameReader = FrameReader<HostFrame>;
using GuestFrameReader = FrameReader<GuestFrame>;

} // namespace nullbox::guest_link
