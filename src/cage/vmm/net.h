// virtio-net on a tap (virtio 1.2, section 5.1): one pair of queues, frames straight between the tap and
// guest memory. Checksums and segmentation are left to whoever has to do them in the end, so most frames to
// and from the host's own stack are up to 64 KiB and never cut.
//
// Invariant: what reaches the tap has a header whose every field fits its frame, comes from the guest's own
// MAC address and is ARP, IPv4 or IPv6. The header and the Ethernet header are checked in a copy, and the
// copy is what is sent. Anything else is dropped and counted.
//
// Runs on the device thread. A guest without receive buffers leaves frames in the tap, a full tap leaves
// frames in the guest's ring; neither makes the thread spin.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "base/loop.h"
#include "cage/vmm/virtio_device.h"

namespace nullbox::cage {

struct NetHeader {                // 5.1.6; guest-controlled in every field when it comes from the guest
    uint8_t flags = 0;            // 1: the checksum is still to be computed
    uint8_t segmentation = 0;     // 0, or what to cut the frame into, with bit 7 for ECN
    uint16_t header_bytes = 0;    // a hint: what each segment repeats
    uint16_t segment_bytes = 0;   // payload of a segment
    uint16_t checksum_start = 0;  // from the start of the frame
    uint16_t checksum_offset = 0; // from checksum_start: where it is stored
    uint16_t buffers = 0;         // how many receive buffers the frame took
};
static_assert(sizeof(NetHeader) == 12);

struct EthernetHeader {
    std::array<uint8_t, 6> destination, source;
    std::array<uint8_t, 2> type; // big-endian
};
static_assert(sizeof(EthernetHeader) == 14);

using MacAddress = std::array<uint8_t, 6>;

struct NetRules {
    MacAddress mac{};
    uint16_t mtu = 1500;
    uint64_t features = 0; // negotiated
};
// Whether a guest's frame of so many bytes, Ethernet header included, may go to the tap.
bool acceptable_frame(const NetHeader& header, const EthernetHeader& ethernet, size_t bytes,
                      const NetRules& rules);

class NetDevice final : public VirtioDevice {
public:
    static constexpr size_t kMostFrameBytes = 65550; // 64 KiB of IP, Ethernet's header
    static constexpr uint16_t kLeastMtu = 1280;      // what IPv6 demands

    struct Options {
        MacAddress mac{};
        uint16_t mtu = 1500;
        bool tap_offloads = true; // false: a socket stands in for the tap (tests); it is told of nothing
    };
    struct Counters {
        uint64_t received = 0, receive_dropped = 0, sent = 0, send_dropped = 0;
    };
    // tap as cage/vmm_channel.h says; one that is not is an error.
    static Result<std::unique_ptr<NetDevice>> make(Loop& loop, Fd tap, Options options);

    std::string_view name() const override { return "net"; }
    uint32_t id() const override { return 1; }
    uint64_t features() const override;
    size_t queue_count() const override { return 2; } // 0 to the guest, 1 from the guest
    bool process(std::span<Virtqueue> queues) override;
    std::span<const std::byte> config() const override { return config_; }
    void start(uint64_t features) override;
    void reset() override;

    const Counters& counters() const { return counters_; }

private:
    NetDevice(Fd tap, Options options);
    void on_tap(uint32_t events);
    void tell_tap(uint64_t features);

    bool serve_send(Virtqueue& output);
    enum class Sent : uint8_t { Done, Dropped, TapFull };
    Sent send(Virtqueue& output, Chain& chain);

    bool serve_receive(Virtqueue& input);
    void receive(Virtqueue& input, Chain chain);
    enum class Delivered : uint8_t { Done, NeedsBuffers };
    Delivered deliver_waiting(Virtqueue& input);
    bool merges() const;

    Fd tap_;
    Watch watch_; // after tap_: dropped before it closes
    Options options_;
    NetRules rules_;
    std::array<std::byte, 12> config_{};
    Counters counters_;
    bool readable_ = true, writable_ = true; // until the tap says otherwise (edge-triggered)
    // A frame that did not fit one buffer, until the guest has offered enough of them.
    NetHeader waiting_header_;
    size_t waiting_bytes_ = 0; // 0: none
    std::vector<std::byte> waiting_;
};

} // namespace nullbox::cage
