// virtio-net: frames and headers that lie (virtio 1.2, section 5.1). Whatever reaches the tap keeps the
// rules.
#include <atomic>
#include <thread>

#include "guest.h"

namespace nullbox::hostile {

namespace {
struct NetCase {
    Guest guest{Kind::Net};
    uint64_t features;
    explicit NetCase(uint64_t wanted = UINT64_MAX) {
        guest.start(wanted);
        features = guest.transport->state().driver_features;
    }
    // Sends header and frame, and says how many frames came out of it; none breaks the rules.
    size_t arrive(const std::string& bytes, uint32_t length = 0) {
        guest.put_text(Guest::kData, bytes);
        guest.ring(1).add({{Guest::kData, length ? length : static_cast<uint32_t>(bytes.size())}});
        guest.kick(1);
        guest.serve();
        return received();
    }
    size_t received() {
        static std::string packet(80'000, '\0');
        size_t frames = 0;
        for (ssize_t count = 0;
             (count = ::recv(guest.network.get(), packet.data(), packet.size(), MSG_DONTWAIT)) >= 0;) {
            NetHeader header;
            EthernetHeader ethernet;
            expect(count >= static_cast<ssize_t>(sizeof header + sizeof ethernet),
                   "a frame shorter than its headers went out");
            std::memcpy(&header, packet.data(), sizeof header);
            std::memcpy(&ethernet, packet.data() + sizeof header, sizeof ethernet);
            expect(acceptable_frame(header, ethernet, static_cast<size_t>(count) - sizeof header,
                                    {.mac = Guest::kMac, .features = features}),
                   "a frame against the rules went out");
            ++frames;
        }
        return frames;
    }
};

std::string frame_with(const NetHeader& header, size_t bytes = 200, bool ip = true) {
    auto frame = good_frame(bytes);
    std::memcpy(frame.data(), &header, sizeof header);
    if (ip) frame[sizeof header + 13] = '\0'; // IPv4
    return frame;
}

void tiny_frames() {
    NetCase net;
    for (uint32_t bytes : {0u, 1u, 6u, 12u, 13u})
        equal(net.arrive(good_frame(), 12 + bytes), 0, cat("frame of ", bytes, " bytes"));
    equal(net.arrive(good_frame(14)), 1, "frame of 14 bytes");
    net.guest.works();
}
void shorter_than_header() {
    for (uint32_t bytes : {0u, 1u, 11u}) {
        NetCase net;
        net.guest.ring(1).add({{Guest::kData, bytes}});
        net.guest.kick(1);
        net.guest.faults("net: frame shorter than its header");
        net.guest.works_after_reset();
    }
}
void huge_frames() {
    NetCase net;
    for (uint32_t bytes : {65551u, 65552u, 65536u + 65536u, 0x10'0000u, 0x20'0000u})
        equal(net.arrive(good_frame(), bytes), 0, cat("frame of ", bytes, " bytes"));
    equal(net.arrive(good_frame(1515)), 0, "an ordinary frame of one byte more than the MTU");
    equal(net.arrive(good_frame(1514)), 1, "an ordinary frame of the MTU");
    net.guest.works();
}
void segmentation_lies() {
    NetCase net;
    // All kinds, negotiated or not, over all sizes of a segment.
    for (unsigned kind = 0; kind < 256; ++kind)
        for (uint16_t size : std::initializer_list<uint16_t>{0, 1, 7, 8, 1448, 1500, 1501, 65535})
            for (uint8_t flags : std::initializer_list<uint8_t>{0, 1, 2, 3, 4, 255}) {
                NetHeader header{.flags = flags,
                                 .segmentation = static_cast<uint8_t>(kind),
                                 .header_bytes = 54,
                                 .segment_bytes = size,
                                 .checksum_start = 34,
                                 .checksum_offset = 16};
                (void)net.arrive(frame_with(header, 3000));
            }
    NetHeader good{.flags = 1,
                   .segmentation = 1,
                   .header_bytes = 54,
                   .segment_bytes = 1448,
                   .checksum_start = 34,
                   .checksum_offset = 16};
    equal(net.arrive(frame_with(good, 3000)), 1, "an honest large frame");
    for (uint16_t bytes : std::initializer_list<uint16_t>{3000, 3001, 65535}) {
        NetHeader header = good;
        header.header_bytes = bytes;
        equal(net.arrive(frame_with(header, 3000)), 0, "a header as long as its frame");
    }
    net.guest.works();
}
void segmentation_not_negotiated() {
    NetCase net(kFeatureVersion1);
    for (uint8_t kind : std::initializer_list<uint8_t>{1, 3, 4, 5, 0x81, 0x84}) {
        NetHeader header{.flags = 1,
                         .segmentation = kind,
                         .header_bytes = 54,
                         .segment_bytes = 1448,
                         .checksum_start = 34,
                         .checksum_offset = 16};
        equal(net.arrive(frame_with(header, 3000)), 0, cat("segmentation ", static_cast<unsigned>(kind)));
    }
    equal(net.arrive(frame_with({.flags = 1, .checksum_start = 34, .checksum_offset = 16})), 0,
          "an unfinished checksum");
    net.guest.works();
}
void checksum_lies() {
    NetCase net;
    for (uint16_t start : std::initializer_list<uint16_t>{0, 13, 14, 34, 198, 199, 200, 0x7fff, 0xffff})
        for (uint16_t offset : std::initializer_list<uint16_t>{0, 6, 16, 164, 165, 0x7fff, 0xfffe, 0xffff}) {
            bool fits = start >= 14 && start + offset + 2 <= 200;
            equal(net.arrive(frame_with({.flags = 1, .checksum_start = start, .checksum_offset = offset})),
                  fits ? 1 : 0, cat("checksum at ", start, " + ", offset));
        }
    net.guest.works();
}
void other_senders() {
    NetCase net;
    for (size_t byte = 0; byte < 6; ++byte) {
        auto frame = good_frame();
        frame[12 + 6 + byte] ^= 1;
        equal(net.arrive(frame), 0, "a frame from another address");
    }
    for (uint16_t type : std::initializer_list<uint16_t>{0x0000, 0x05dc, 0x0801, 0x8100, 0x88a8, 0x8847,
                                                         0x88cc, 0x888e, 0x88f7, 0xffff}) {
        auto frame = good_frame();
        frame[12 + 12] = static_cast<char>(type >> 8), frame[12 + 13] = static_cast<char>(type & 0xff);
        equal(net.arrive(frame), 0, cat("a frame of type ", type));
    }
    net.guest.works();
}
void room_for_nothing() {
    for (uint32_t bytes : {0u, 1u, 11u, 12u}) {
        NetCase net;
        net.guest.ring(0).add({{Guest::kAnswer, bytes, true}});
        net.guest.kick(0);
        net.guest.speak();
        net.guest.faults("net: receive buffer with no room for a frame");
        net.guest.works_after_reset();
    }
}
void receive_buffer_to_read() {
    NetCase net;
    net.guest.ring(0).add({{Guest::kData, 2000}});
    net.guest.kick(0);
    net.guest.speak();
    net.guest.faults("net: receive buffer with no room for a frame");
    net.guest.works_after_reset();
}
void too_few_buffers() {
    NetCase net;
    Guest& guest = net.guest;
    for (int i = 0; i < Guest::kQueueLength; ++i)
        guest.ring(0).add({{Guest::kAnswer + static_cast<uint64_t>(i) * 64, 13, true}});
    guest.kick(0);
    auto frame = good_frame(60'000);
    expect(::send(guest.network.get(), frame.data(), frame.size(), MSG_DONTWAIT) > 0, "send to the guest");
    for (int round = 0; round < 50; ++round) guest.kick(0), guest.speak(), guest.serve();
    equal(guest.ring(0).used_index(), 0, "buffers used for a frame that does not fit in all of them");
    guest.has_not_faulted();
    guest.works();
    guest.works_after_reset();
}
void not_merged() { // without merged buffers a frame that is too long is lost, and no byte of it stays
    NetCase net(~(uint64_t{1} << 15));
    Guest& guest = net.guest;
    guest.ring(0).add({{Guest::kAnswer, 13, true}});
    guest.ring(0).add({{Guest::kAnswer, 1600, true}});
    guest.kick(0);
    for (size_t bytes : {60'000u, 65'550u, 60'000u}) {
        auto frame = good_frame(bytes);
        expect(::send(guest.network.get(), frame.data(), frame.size(), MSG_DONTWAIT) > 0,
               "send to the guest");
        guest.serve();
    }
    guest.has_not_faulted();
    expect(guest.net->counters().receive_dropped > 0, "nothing was dropped");
    guest.works();
}
void host_floods() {
    NetCase net;
    Guest& guest = net.guest;
    for (int i = 0; i < 5000; ++i) guest.speak(), guest.serve(5);
    guest.works();
    for (int round = 0; round < 40; ++round) {
        guest.ring(0).add({{Guest::kAnswer, 2000, true}});
        guest.kick(0);
        guest.serve();
    }
    guest.works();
}
void tap_full() {
    NetCase net;
    Guest& guest = net.guest;
    auto frame = good_frame(1500);
    guest.put_text(Guest::kData, frame);
    for (int round = 0; round < 2000; ++round) {
        guest.ring(1).offer(0);
        guest.ring(1).put(0, Guest::kData, static_cast<uint32_t>(frame.size()), 0, 0);
        guest.kick(1);
        guest.serve();
        uint16_t waiting = static_cast<uint16_t>(guest.ring(1).index() - guest.ring(1).used_index());
        if (waiting == Guest::kQueueLength) break;
    }
    guest.has_not_faulted();
    (void)net.received();
    guest.serve();
    guest.works_after_reset();
}
// The headers are changed while the device looks: what goes out is what was checked.
void header_changes() {
    NetCase net;
    Guest& guest = net.guest;
    guest.put_text(Guest::kData, good_frame(200));
    std::atomic<bool> stop = false;
    auto place = *guest.memory.range(Guest::kData, 64);
    std::thread vcpu([&] {
        Random random(11);
        while (!stop) {
            auto at = random.below(26);
            auto* byte = reinterpret_cast<uint8_t*>(place.data()) + at;
            auto before = *byte;
            __atomic_store_n(byte, static_cast<uint8_t>(random.next()), __ATOMIC_RELAXED);
            __atomic_store_n(byte, before, __ATOMIC_RELAXED);
        }
    });
    for (int round = 0; round < 3000; ++round) {
        guest.ring(1).add({{Guest::kData, 212}});
        guest.kick(1);
        guest.serve(4);
        (void)net.received();
    }
    stop = true;
    vcpu.join();
    guest.works_after_reset();
}

constexpr Case kCases[] = {
    {"net: frames of 0, 1 and 13 bytes", tiny_frames},
    {"net: a frame shorter than its header", shorter_than_header},
    {"net: frames beyond the MTU, 64 KiB and 2 MiB", huge_frames},
    {"net: segmentation of every kind and size", segmentation_lies},
    {"net: segmentation and checksums that were not negotiated", segmentation_not_negotiated},
    {"net: checksums before and beyond the frame", checksum_lies},
    {"net: other senders, VLANs and other protocols", other_senders},
    {"net: receive buffers with no room", room_for_nothing},
    {"net: a receive buffer that may not be written", receive_buffer_to_read},
    {"net: a large frame for buffers of one byte", too_few_buffers},
    {"net: large frames without merged buffers", not_merged},
    {"net: the network floods a guest that takes nothing", host_floods},
    {"net: the guest floods a network that takes nothing", tap_full},
    {"net: headers that change while they are checked", header_changes},
};
} // namespace

std::span<const Case> net_cases() { return kCases; }

} // namespace nullbox::hostile
