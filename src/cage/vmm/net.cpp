#include "cage/vmm/net.h"

#include <algorithm>
#include <cerrno>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"
#include "cage/vmm/system_calls.h"

namespace nullbox::cage {

namespace {
constexpr uint64_t feature(unsigned number) { return uint64_t{1} << number; }
// virtio 1.2, section 5.1.3: what the host finishes for the guest, and the guest for the host.
constexpr uint64_t kHostChecksum = feature(0), kGuestChecksum = feature(1);
constexpr uint64_t kHostTcp4 = feature(11), kHostTcp6 = feature(12), kHostEcn = feature(13);
constexpr uint64_t kGuestTcp4 = feature(7), kGuestTcp6 = feature(8), kGuestEcn = feature(9);
constexpr uint64_t kMtu = feature(3), kMac = feature(5), kMergedBuffers = feature(15);
constexpr uint64_t kOffered = kHostChecksum | kGuestChecksum | kHostTcp4 | kHostTcp6 | kHostEcn | kGuestTcp4 |
                              kGuestTcp6 | kGuestEcn | kMtu | kMac | kMergedBuffers;
enum HeaderFlag : uint8_t { kNeedsChecksum = 1 }; // 5.1.6
enum Segmentation : uint8_t { kWhole = 0, kTcp4 = 1, kTcp6 = 4, kEcn = 0x80 };
constexpr size_t kConfigMac = 0, kConfigMtu = 10;
constexpr size_t kMostPieces = kMostQueueSize + 2; // a chain's, and our own headers'

constexpr unsigned kTcpChecksumOffset = 16;
// The least Linux itself cuts into: 48 bytes with 40 of TCP options. Smaller would make one frame into
// thousands of packets.
constexpr uint16_t kLeastSegmentBytes = 8;

bool acceptable_checksum(const NetHeader& header, size_t bytes, const NetRules& rules) {
    size_t end = size_t{header.checksum_start} + header.checksum_offset + 2;
    return (rules.features & kHostChecksum) && header.checksum_start >= sizeof(EthernetHeader) &&
           end <= bytes;
}

bool acceptable_segmentation(const NetHeader& header, uint16_t type, size_t bytes, const NetRules& rules) {
    unsigned kind = header.segmentation & ~kEcn;
    bool negotiated = kind == kTcp4   ? type == ETH_P_IP && (rules.features & kHostTcp4)
                      : kind == kTcp6 ? type == ETH_P_IPV6 && (rules.features & kHostTcp6)
                                      : false;
    if ((header.segmentation & kEcn) && !(rules.features & kHostEcn)) negotiated = false;
    return negotiated && header.flags == kNeedsChecksum && header.checksum_offset == kTcpChecksumOffset &&
           header.segment_bytes >= kLeastSegmentBytes && header.segment_bytes <= rules.mtu &&
           header.header_bytes < bytes;
}
} // namespace

bool acceptable_frame(const NetHeader& header, const EthernetHeader& ethernet, size_t bytes,
                      const NetRules& rules) {
    if (bytes < sizeof ethernet || bytes > NetDevice::kMostFrameBytes) return false;
    if (ethernet.source != rules.mac) return false;
    auto type = static_cast<uint16_t>(ethernet.type[0] << 8 | ethernet.type[1]);
    if (type != ETH_P_ARP && type != ETH_P_IP && type != ETH_P_IPV6) return false;
    if (header.flags & ~kNeedsChecksum) return false;
    if (header.flags && !acceptable_checksum(header, bytes, rules)) return false;
    if (header.segmentation == kWhole) return bytes <= sizeof ethernet + rules.mtu;
    return acceptable_segmentation(header, type, bytes, rules);
}

Result<std::unique_ptr<NetDevice>> NetDevice::make(Loop& loop, Fd tap, Options options) {
    if (options.mtu < kLeastMtu)
        return error(cat("network card with an MTU of ", options.mtu, ": ", kLeastMtu, " is the least"));
    if (options.mac[0] & 1)
        return error("network card with a multicast MAC address: bit 0 of the first byte must be 0");
    if (options.tap_offloads) {
        ifreq interface{};
        int header_bytes = 0;
        if (::ioctl(tap.get(), TUNGETIFF, &interface) < 0) return errno_error("ask the tap for its flags");
        if (::ioctl(tap.get(), TUNGETVNETHDRSZ, &header_bytes) < 0)
            return errno_error("ask the tap for the size of its header");
        constexpr int kWanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        if ((interface.ifr_flags & kWanted) != kWanted || header_bytes != sizeof(NetHeader))
            return error(
                cat("the tap has flags ", hex(static_cast<uint16_t>(interface.ifr_flags)),
                    " and a header of ", header_bytes,
                    " bytes: it must be opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR, and set to ",
                    sizeof(NetHeader), " bytes"));
    }
    TRY(set_nonblocking(tap.get()).context("network card's tap"));
    std::unique_ptr<NetDevice> device(new NetDevice(std::move(tap), options));
    device->watch_ = TRY(loop.watch(device->tap_.get(), EPOLLIN | EPOLLOUT | EPOLLET,
                                    [net = device.get()](uint32_t events) { net->on_tap(events); }));
    device->tell_tap(0);
    return device;
}

NetDevice::NetDevice(Fd tap, Options options)
    : tap_(std::move(tap)), options_(options), waiting_(kMostFrameBytes) {
    rules_ = {.mac = options_.mac, .mtu = options_.mtu};
    std::ranges::copy(std::as_bytes(std::span(options_.mac)), config_.begin() + kConfigMac);
    std::memcpy(config_.data() + kConfigMtu, &options_.mtu, sizeof options_.mtu);
}

uint64_t NetDevice::features() const { return kOffered; }
bool NetDevice::merges() const { return rules_.features & kMergedBuffers; }

void NetDevice::start(uint64_t features) {
    rules_.features = features;
    readable_ = writable_ = true;
    tell_tap(features);
}

void NetDevice::reset() {
    rules_.features = 0;
    waiting_bytes_ = 0;
    tell_tap(0);
}

// What the guest can take unfinished; each needs the ones before it.
void NetDevice::tell_tap(uint64_t features) {
    if (!options_.tap_offloads) return;
    unsigned long offloads = 0;
    if (features & kGuestChecksum) {
        offloads = TUN_F_CSUM;
        if (features & kGuestTcp4) offloads |= TUN_F_TSO4;
        if (features & kGuestTcp6) offloads |= TUN_F_TSO6;
        if ((offloads & (TUN_F_TSO4 | TUN_F_TSO6)) && (features & kGuestEcn)) offloads |= TUN_F_TSO_ECN;
    }
    // Nothing to do about a refusal: every tap has these, and without them frames are only smaller.
    (void)::ioctl(tap_.get(), TUNSETOFFLOAD, offloads);
}

void NetDevice::on_tap(uint32_t events) {
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable_ = true;
    if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) writable_ = true;
    wake();
}

bool NetDevice::process(std::span<Virtqueue> queues) {
    bool more = serve_send(queues[1]);
    more |= serve_receive(queues[0]);
    return more;
}

// --- From the guest

bool NetDevice::serve_send(Virtqueue& output) {
    for (unsigned round = 0; round < kRequestsPerTurn; ++round) {
        if (!writable_) return false;
        auto chain = output.pop();
        if (!chain) {
            if (!output.enable_notifications()) return false;
            continue;
        }
        switch (send(output, *chain)) {
        case Sent::TapFull:
            writable_ = false;
            output.put_back(*std::move(chain));
            continue;
        case Sent::Done:
            ++counters_.sent;
            break;
        case Sent::Dropped:
            ++counters_.send_dropped;
            break;
        }
        output.complete(*std::move(chain), 0);
    }
    return true;
}

NetDevice::Sent NetDevice::send(Virtqueue& output, Chain& chain) {
    NetHeader header;
    EthernetHeader ethernet{};
    if (!chain.read(std::as_writable_bytes(std::span(&header, 1)))) {
        output.set_fault("frame shorter than its header");
        return Sent::Dropped;
    }
    size_t bytes = chain.readable_bytes();
    if (!chain.read(std::as_writable_bytes(std::span(&ethernet, 1))) ||
        !acceptable_frame(header, ethernet, bytes, rules_))
        return Sent::Dropped;
    header.buffers = 0;
    std::array<iovec, kMostPieces> pieces{{{&header, sizeof header}, {&ethernet, sizeof ethernet}}};
    auto rest = chain.readable();
    std::ranges::copy(rest, pieces.begin() + 2);
    ssize_t sent = 0;
    do sent = write_next(tap_.get(), std::span(pieces).first(2 + rest.size()));
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) return Sent::Done;
    return errno == EAGAIN ? Sent::TapFull : Sent::Dropped;
}

// --- To the guest

bool NetDevice::serve_receive(Virtqueue& input) {
    for (unsigned round = 0; round < kRequestsPerTurn; ++round) {
        if (waiting_bytes_ > 0) {
            if (deliver_waiting(input) == Delivered::NeedsBuffers) {
                // Asked for before the buffers go back: the next one beyond them is what is missing.
                bool came = input.enable_notifications();
                input.put_back_held();
                if (!came) return false;
            }
            continue;
        }
        if (!readable_) return false;
        if (auto chain = input.pop())
            receive(input, *std::move(chain));
        else if (!input.enable_notifications())
            return false;
    }
    return true;
}

// One frame from the tap, into this buffer if it fits; what does not fit goes to waiting_ as a whole.
void NetDevice::receive(Virtqueue& input, Chain chain) {
    ReservedRoom header_room;
    NetHeader header;
    if (!chain.reserve(header_room, sizeof header) || chain.writable_bytes() == 0) {
        input.set_fault("receive buffer with no room for a frame");
        return input.complete(std::move(chain), 0);
    }
    size_t room = std::min<uint64_t>(chain.writable_bytes(), waiting_.size());
    auto pieces = chain.writable(room);
    std::array<iovec, kMostPieces> all{{{&header, sizeof header}}};
    std::ranges::copy(pieces, all.begin() + 1);
    all[1 + pieces.size()] = {waiting_.data() + room, waiting_.size() - room};
    ssize_t count = read_next(tap_.get(), std::span(all).first(2 + pieces.size()));
    if (count < static_cast<ssize_t>(sizeof header)) {
        readable_ = count > 0 || (count < 0 && errno == EINTR);
        return input.put_back(std::move(chain));
    }
    size_t bytes = static_cast<size_t>(count) - sizeof header;
    if (bytes <= room) {
        header.buffers = 1;
        header_room.fill(std::as_bytes(std::span(&header, 1)));
        ++counters_.received;
        return input.complete(std::move(chain), static_cast<uint32_t>(count));
    }
    // The guest may have changed the part that its buffer took; it is the only one to read it.
    size_t done = 0;
    for (const iovec& piece : pieces) {
        std::memcpy(waiting_.data() + done, piece.iov_base, piece.iov_len);
        done += piece.iov_len;
    }
    input.put_back(std::move(chain));
    waiting_header_ = header;
    waiting_bytes_ = bytes;
    if (merges()) return;
    waiting_bytes_ = 0;
    ++counters_.receive_dropped;
}

// The waiting frame over as many buffers as it takes, which the driver sees all at once. Without enough of
// them: held, for the caller to put back.
NetDevice::Delivered NetDevice::deliver_waiting(Virtqueue& input) {
    ReservedRoom header_room;
    uint16_t buffers = 0;
    for (size_t done = 0; done < waiting_bytes_; ++buffers) {
        auto chain = input.pop();
        if (!chain) return Delivered::NeedsBuffers;
        size_t before = buffers == 0 ? sizeof(NetHeader) : 0;
        bool fits =
            (buffers > 0 || chain->reserve(header_room, sizeof(NetHeader))) && chain->writable_bytes() > 0;
        size_t count = std::min<uint64_t>(chain->writable_bytes(), waiting_bytes_ - done);
        bool written = chain->write(std::span(waiting_).subspan(done, count));
        input.hold(*std::move(chain), static_cast<uint32_t>(before + count));
        if (!fits || !written) {
            input.set_fault("receive buffer with no room for a frame");
            return Delivered::NeedsBuffers;
        }
        done += count;
    }
    waiting_header_.buffers = buffers;
    header_room.fill(std::as_bytes(std::span(&waiting_header_, 1)));
    input.publish_held();
    waiting_bytes_ = 0;
    ++counters_.received;
    return Delivered::Done;
}

} // namespace nullbox::cage
