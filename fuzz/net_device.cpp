// A hostile guest, a host that sends and reads as it likes, and the network card between them: frames with
// any header, receive buffers of any size, resets in the middle. Whatever reaches the "tap" must keep the
// rules.
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/check.h"
#include "cage/vmm/net.h"
#include "cage/vmm/test_driver.h"

using namespace nullbox;       // NOLINT: a fuzz target
using namespace nullbox::cage; // NOLINT

constexpr MacAddress kMac{2, 0, 0, 0, 0, 7};

static void check_sent(int network, const NetRules& rules) {
    static char packet[NetDevice::kMostFrameBytes + 100];
    for (;;) {
        ssize_t count = ::recv(network, packet, sizeof packet, MSG_DONTWAIT);
        if (count < 0) return;
        NetHeader header;
        EthernetHeader ethernet;
        CHECK(count >= static_cast<ssize_t>(sizeof header + sizeof ethernet));
        std::memcpy(&header, packet, sizeof header);
        std::memcpy(&ethernet, packet + sizeof header, sizeof ethernet);
        CHECK(acceptable_frame(header, ethernet, static_cast<size_t>(count) - sizeof header, rules));
        CHECK(ethernet.source == kMac && header.buffers == 0);
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static TestMemory memory;
    static std::unique_ptr<Loop> loop = *Loop::make();
    std::memset(memory.buffer->bytes + 0x1000, 0, 0x6000);
    auto pair = make_socket_pair(SOCK_SEQPACKET | SOCK_NONBLOCK);
    CHECK(pair);
    int network = pair->second.get();
    auto device = *NetDevice::make(*loop, std::move(pair->first), {.mac = kMac, .tap_offloads = false});
    std::vector<Virtqueue> queues;
    queues.reserve(2);
    for (int i = 0; i < 2; ++i) queues.emplace_back(memory.memory);
    TestDriver in(memory, queues[0], 0x1000, 64), out(memory, queues[1], 0x4000, 64);
    queues[0].start(), queues[1].start();
    NetRules rules{.mac = kMac};
    auto serve = [&] {
        for (int turn = 0; turn < 4 && device->process(queues); ++turn) {
        }
        check_sent(network, rules);
    };
    device->wake = serve;
    ByteReader reader(std::as_bytes(std::span(data, size)));
    for (int step = 0; step < 200 && !reader.failed(); ++step) {
        auto what = reader.number<uint8_t>();
        auto detail = reader.number<uint8_t>();
        switch (what % 8) {
        case 0:
        case 1: { // a frame that is nearly right, cut into pieces
            struct {
                NetHeader header;
                EthernetHeader ethernet;
            } front{};
            front.header.flags = detail & 3;
            front.header.segmentation = reader.number<uint8_t>();
            front.header.header_bytes = reader.number<uint8_t>();
            front.header.segment_bytes = static_cast<uint16_t>(reader.number<uint8_t>() * 8);
            front.header.checksum_start = reader.number<uint8_t>();
            front.header.checksum_offset = detail & 4 ? 16 : reader.number<uint8_t>();
            front.ethernet.source = kMac;
            front.ethernet.type = {static_cast<uint8_t>(detail & 8 ? 0x86 : 8),
                                   static_cast<uint8_t>(detail & 8 ? 0xdd : 0)};
            out.put(0x20000, front);
            auto bytes = reader.number<uint16_t>();
            auto cut = static_cast<uint32_t>(reader.number<uint8_t>());
            out.add({{0x20000, cut}, {0x20000 + cut, bytes}});
            serve();
            break;
        }
        case 2: { // any bytes
            auto bytes = reader.take(detail % 64);
            std::ranges::copy(bytes, memory.memory.range(0x20000, 64)->begin());
            out.add({{0x20000, static_cast<uint32_t>(bytes.size())}});
            serve();
            break;
        }
        case 3: // receive buffers of one or two pieces
            in.add({{0x80000 + (detail % 16) * 4096u, 1 + detail % 20u, true},
                    {0x90000 + (detail % 16) * 4096u, detail * 16u, true}});
            break;
        case 4:
            in.add({{0x80000 + (detail % 16) * 4096u, 13 + detail * 16u, true}});
            break;
        case 5: { // from the network
            size_t bytes = 12 + reader.number<uint16_t>() % 66000u;
            (void)!::send(network, memory.buffer->bytes + 0x30000, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
            break;
        }
        case 6:
            CHECK(loop->run_once(std::chrono::milliseconds(0)));
            serve();
            break;
        case 7:
            rules.features = detail & 1 ? device->features() : reader.number<uint16_t>() & device->features();
            if (detail & 2) device->reset();
            check_sent(network, rules);
            device->start(rules.features);
            break;
        }
        if (queues[0].fault() || queues[1].fault()) return 0;
    }
    return 0;
}
