// A hostile guest, a host that reads, writes and closes as it likes, and the vsock device between them:
// packets with any field, receive buffers offered or not, streams in every state.
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "cage/vmm/test_driver.h"
#include "cage/vmm/vsock.h"

using namespace nullbox;       // NOLINT: a fuzz target
using namespace nullbox::cage; // NOLINT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static TestMemory memory;
    static std::unique_ptr<Loop> loop = *Loop::make();
    std::memset(memory.buffer->bytes + 0x1000, 0, 0x6000);
    std::vector<Fd> host;
    VsockDevice device(*loop, 3, [&](uint32_t port, Fd peer) {
        host.push_back(std::move(peer));
        return port % 5 != 0;
    });
    std::vector<Virtqueue> queues;
    queues.reserve(3);
    for (int i = 0; i < 3; ++i) queues.emplace_back(memory.memory);
    TestDriver in(memory, queues[0], 0x1000, 64), out(memory, queues[1], 0x4000, 64);
    queues[0].start(), queues[1].start();
    auto serve = [&] {
        for (int turn = 0; turn < 4 && device.process(queues); ++turn) {
        }
    };
    device.wake = serve;
    ByteReader reader(std::as_bytes(std::span(data, size)));
    for (int step = 0; step < 300 && !reader.failed(); ++step) {
        auto what = reader.number<uint8_t>();
        auto detail = reader.number<uint8_t>();
        Fd* stream = host.empty() ? nullptr : &host[detail % host.size()];
        switch (what % 10) {
        case 0:
        case 1:
        case 2: { // a packet that is nearly right
            VsockHeader header{.source_cid = 3,
                               .destination_cid = 2,
                               .source_port = detail % 4u,
                               .destination_port = 1 + detail % 8u};
            header.type = 1;
            header.operation = reader.number<uint8_t>() % 9;
            header.flags = reader.number<uint8_t>();
            header.buffer_bytes = reader.number<uint8_t>() * 257u;
            header.forwarded = reader.number<uint8_t>() * 3u;
            header.length = what & 16 ? reader.number<uint16_t>() : 0;
            if (detail >= 240) header.destination_port = (1u << 30) + detail % 4u; // streams of the host's
            out.put(0x20000, header);
            out.add({{0x20000, sizeof header}, {0x30000, header.length}});
            serve();
            break;
        }
        case 3: { // any bytes
            auto bytes = reader.take(detail % 64);
            std::ranges::copy(bytes, memory.memory.range(0x20000, 64)->begin());
            out.add({{0x20000, static_cast<uint32_t>(bytes.size())}});
            serve();
            break;
        }
        case 4:
            in.add({{0x80000 + (detail % 16) * 4096u, 45 + detail * 16u, true}});
            serve();
            break;
        case 5:
            if (stream)
                (void)!::send(stream->get(), data, std::min<size_t>(size, detail),
                              MSG_DONTWAIT | MSG_NOSIGNAL);
            break;
        case 6:
            if (stream) {
                std::array<char, 8192> bytes;
                (void)!::recv(stream->get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
            }
            break;
        case 7:
            if (stream && detail & 1)
                ::shutdown(stream->get(), SHUT_WR);
            else if (stream)
                host.erase(host.begin() + (stream - host.data()));
            break;
        case 8: {
            auto pair = make_socket_pair(SOCK_STREAM | SOCK_NONBLOCK);
            CHECK(pair);
            host.push_back(std::move(pair->second));
            device.connect_guest(detail % 4u, std::move(pair->first));
            break;
        }
        case 9:
            CHECK(loop->run_once(std::chrono::milliseconds(0)));
            break;
        }
        CHECK(device.streams() <= VsockDevice::kMostStreams);
        if (detail == 255) device.reset();
    }
    return 0;
}
