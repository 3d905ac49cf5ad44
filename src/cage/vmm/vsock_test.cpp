// The vsock device between a fake driver and real socket pairs on a real loop.
#include "cage/vmm/vsock.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cage/vmm/test_driver.h"

namespace nullbox::cage {

using Op = VsockOperation;

struct VsockTest : testing::Test {
    static constexpr uint64_t kCid = 42;
    static constexpr uint64_t kOut = 0x10000, kIn = 0x40000;
    static constexpr uint32_t kInBytes = 4096;
    TestMemory memory;
    std::unique_ptr<Loop> loop = *Loop::make();
    std::vector<std::pair<uint32_t, Fd>> connected;
    bool refuse = false;
    std::unique_ptr<VsockDevice> device =
        std::make_unique<VsockDevice>(*loop, kCid, [this](uint32_t port, Fd peer) {
            connected.emplace_back(port, std::move(peer));
            return !refuse;
        });
    std::vector<Virtqueue> queues;
    std::optional<TestDriver> in, out;
    unsigned in_buffers = 0;

    void SetUp() override {
        for (int i = 0; i < 3; ++i) queues.emplace_back(memory.memory);
        in.emplace(memory, queues[0], 0x1000, 16);
        out.emplace(memory, queues[1], 0x4000, 16);
        queues[0].start(), queues[1].start();
        device->wake = [this] { process(); };
    }
    void process() {
        for (int i = 0; i < 100 && device->process(queues); ++i) {
        }
        EXPECT_EQ(queues[0].fault(), nullptr);
        EXPECT_EQ(queues[1].fault(), nullptr);
    }
    void run() {
        for (int i = 0; i < 5; ++i) EXPECT_TRUE(loop->run_once(std::chrono::milliseconds(0)));
    }
    VsockHeader packet(Op operation, uint32_t port = 1000, uint32_t host_port = 1024) {
        return {.source_cid = kCid,
                .destination_cid = 2,
                .source_port = port,
                .destination_port = host_port,
                .type = 1,
                .operation = static_cast<uint16_t>(operation),
                .buffer_bytes = 65536};
    }
    void send(VsockHeader header, std::string_view payload = {}) {
        header.length = static_cast<uint32_t>(payload.size());
        out->put(kOut, header);
        if (!payload.empty())
            std::ranges::copy(std::as_bytes(std::span(payload)),
                              memory.memory.range(kOut + 64, payload.size())->begin());
        std::vector<TestBuffer> buffers{{kOut, sizeof header}};
        if (!payload.empty()) buffers.push_back({kOut + 64, static_cast<uint32_t>(payload.size())});
        out->add(buffers);
        process();
    }
    void offer_input(unsigned count = 1) {
        for (unsigned i = 0; i < count; ++i)
            in->add({{kIn + (in_buffers++ % 16) * kInBytes, kInBytes, true}});
        process();
    }
    struct Packet {
        VsockHeader header;
        std::string payload;
    };
    std::optional<Packet> take() {
        if (!in->has_used()) return std::nullopt;
        auto used = in->take_used();
        uint64_t at = kIn + (taken_++ % 16) * kInBytes;
        Packet packet{.header = in->get<VsockHeader>(at), .payload = {}};
        EXPECT_EQ(used.written, sizeof(VsockHeader) + packet.header.length);
        packet.payload = as_text(*memory.memory.range(at + sizeof(VsockHeader), packet.header.length));
        return packet;
    }
    // The next packet, in a buffer offered for it.
    std::optional<Packet> receive() {
        offer_input();
        run();
        return take();
    }
    void expect(Op operation, uint32_t port = 1000) {
        auto got = receive();
        ASSERT_TRUE(got) << "nothing came";
        EXPECT_EQ(+got->header.operation, static_cast<uint16_t>(operation));
        EXPECT_EQ(+got->header.destination_port, port);
        EXPECT_EQ(+got->header.source_cid, kHostCid);
        EXPECT_EQ(+got->header.destination_cid, kCid);
    }
    int connect(uint32_t port = 1000) {
        send(packet(Op::Request, port));
        expect(Op::Response, port);
        return connected.back().second.get();
    }
    static std::string read_some(int fd) {
        std::array<char, 1 << 17> bytes{};
        ssize_t count = ::read(fd, bytes.data(), bytes.size());
        return count < 0 ? "EAGAIN" : std::string(bytes.data(), static_cast<size_t>(count));
    }
    static bool at_end(int fd) {
        char byte = 0;
        return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
    }
    unsigned taken_ = 0;
};

TEST_F(VsockTest, AGuestConnectsAndBytesGoBothWays) {
    int peer = connect();
    EXPECT_EQ(connected.back().first, 1024u);
    send(packet(Op::Data), "from the guest");
    EXPECT_EQ(read_some(peer), "from the guest");
    ASSERT_EQ(::write(peer, "from the host", 13), 13);
    auto got = receive();
    ASSERT_TRUE(got);
    EXPECT_EQ(got->payload, "from the host");
    EXPECT_EQ(+got->header.forwarded, 14u);
    EXPECT_EQ(+got->header.buffer_bytes, VsockDevice::kStreamBuffer);
}

TEST_F(VsockTest, TheHostConnectsToTheGuest) {
    auto pair = make_socket_pair(SOCK_STREAM);
    device->connect_guest(77, std::move(pair->first));
    auto request = receive();
    ASSERT_TRUE(request);
    EXPECT_EQ(+request->header.operation, 1);
    EXPECT_EQ(+request->header.destination_port, 77u);
    uint32_t host_port = request->header.source_port;
    ASSERT_EQ(::write(pair->second.get(), "early", 5), 5);
    run();
    EXPECT_FALSE(receive()) << "not before the guest has answered";
    send(packet(Op::Response, 77, host_port));
    ASSERT_TRUE(in->has_used());
    EXPECT_EQ(take()->payload, "early");
}

TEST_F(VsockTest, AGuestThatDoesNotListenEndsTheHostsStream) {
    auto pair = make_socket_pair(SOCK_STREAM);
    device->connect_guest(77, std::move(pair->first));
    auto request = receive();
    ASSERT_TRUE(request);
    send(packet(Op::Reset, 77, request->header.source_port));
    EXPECT_TRUE(at_end(pair->second.get()));
    EXPECT_EQ(device->streams(), 0u);
}

TEST_F(VsockTest, ARefusedPortIsReset) {
    refuse = true;
    send(packet(Op::Request));
    expect(Op::Reset);
    EXPECT_EQ(device->streams(), 0u);
}

TEST_F(VsockTest, NonsenseIsReset) {
    for (Op operation :
         {Op::Response, Op::Data, Op::Shutdown, Op::CreditUpdate, Op::CreditRequest, Op(0), Op(99)}) {
        send(packet(operation));
        expect(Op::Reset);
    }
    auto wrong = packet(Op::Request);
    wrong.type = 2;
    send(wrong);
    expect(Op::Reset);
    wrong = packet(Op::Request);
    wrong.destination_cid = 3;
    send(wrong);
    expect(Op::Reset);
    EXPECT_TRUE(connected.empty());
    send(packet(Op::Reset));
    EXPECT_FALSE(receive()) << "a RST is not answered";
}

TEST_F(VsockTest, AnotherGuestsCidIsNotHeard) {
    auto forged = packet(Op::Request);
    forged.source_cid = 43;
    send(forged);
    EXPECT_FALSE(receive());
    EXPECT_TRUE(connected.empty());
}

TEST_F(VsockTest, ASecondRequestKillsTheStream) {
    int peer = connect();
    send(packet(Op::Request));
    expect(Op::Reset);
    EXPECT_TRUE(at_end(peer));
}

TEST_F(VsockTest, APacketShorterThanItsHeaderIsAFault) {
    for (uint32_t bytes : {43u, 44u}) {
        queues[1].reset();
        out.emplace(memory, queues[1], 0x4000, 16);
        out->put<uint64_t>(0x4000 + 0x1000, 0), out->put<uint64_t>(0x4000 + 0x1800, 0);
        queues[1].start();
        auto header = packet(Op::Data);
        header.length = bytes == 44 ? 1 : 0;
        out->put(kOut, header);
        out->add({{kOut, bytes}});
        device->process(queues);
        EXPECT_NE(queues[1].fault(), nullptr);
    }
}

TEST_F(VsockTest, WithoutCreditNothingIsSentAndTheGuestIsAskedOnce) {
    int peer = connect();
    auto small = packet(Op::CreditUpdate);
    small.buffer_bytes = 5;
    send(small);
    ASSERT_EQ(::write(peer, "0123456789", 10), 10);
    auto first = receive();
    ASSERT_TRUE(first);
    EXPECT_EQ(first->payload, "01234");
    expect(Op::CreditRequest);
    EXPECT_FALSE(receive());
    small.forwarded = 3;
    send(small);
    ASSERT_TRUE(in->has_used());
    EXPECT_EQ(take()->payload, "567");
    expect(Op::CreditRequest);
    small.forwarded = 1000; // more than was ever sent
    send(small);
    EXPECT_FALSE(in->has_used());
}

TEST_F(VsockTest, CreditGoesBackToTheGuest) {
    int peer = connect();
    std::string block(16384, 'x');
    send(packet(Op::Data), block);
    auto update = receive();
    ASSERT_TRUE(update);
    EXPECT_EQ(+update->header.operation, static_cast<uint16_t>(Op::CreditUpdate));
    EXPECT_EQ(+update->header.forwarded, 16384u);
    EXPECT_EQ(read_some(peer).size(), 16384u);
    send(packet(Op::CreditRequest));
    expect(Op::CreditUpdate);
}

TEST_F(VsockTest, ASlowReaderHoldsUpOnlyItself) {
    int slow = connect(1000), fast = connect(1001);
    std::string block(16384, 's');
    uint64_t sent = 0;
    // Until the socket is full and the device holds the rest.
    bool full = false;
    for (int i = 0; i < 100 && !full; ++i) {
        send(packet(Op::Data, 1000), block);
        sent += block.size();
        auto update = receive();
        full = !update;
    }
    ASSERT_TRUE(full) << "the socket took everything";
    send(packet(Op::Data, 1001), "quick");
    EXPECT_EQ(read_some(fast), "quick");
    // The slow one reads at last; nothing was lost.
    uint64_t got = 0;
    for (int i = 0; i < 1000 && got < sent; ++i) {
        std::string some = read_some(slow);
        if (some != "EAGAIN") got += some.size();
        run();
    }
    EXPECT_EQ(got, sent);
}

TEST_F(VsockTest, AGuestThatOverrunsItsCreditIsReset) {
    connect();
    std::string block(16384, 's');
    bool reset = false;
    // It sends on although no credit comes back.
    for (int i = 0; i < 100 && !reset; ++i) {
        send(packet(Op::Data), block);
        if (auto got = receive()) reset = got->header.operation == static_cast<uint16_t>(Op::Reset);
    }
    EXPECT_TRUE(reset);
    EXPECT_EQ(device->streams(), 0u);
}

TEST_F(VsockTest, AHalfCloseByTheGuestLetsAnswersThrough) {
    int peer = connect();
    send(packet(Op::Data), "question");
    auto end = packet(Op::Shutdown);
    end.flags = kShutdownSend;
    send(end);
    EXPECT_EQ(read_some(peer), "question");
    EXPECT_TRUE(at_end(peer));
    ASSERT_EQ(::write(peer, "answer", 6), 6);
    auto got = receive();
    ASSERT_TRUE(got);
    EXPECT_EQ(got->payload, "answer");
    send(packet(Op::Data), "more");
    expect(Op::Reset);
}

TEST_F(VsockTest, AFullCloseByTheGuestIsAnswered) {
    int peer = connect();
    auto end = packet(Op::Shutdown);
    end.flags = kShutdownSend | kShutdownReceive;
    send(end);
    expect(Op::Reset);
    EXPECT_TRUE(at_end(peer));
}

TEST_F(VsockTest, AHalfCloseByTheHostIsPassedOn) {
    int peer = connect();
    ASSERT_EQ(::write(peer, "last", 4), 4);
    ::shutdown(peer, SHUT_WR);
    auto data = receive();
    ASSERT_TRUE(data);
    EXPECT_EQ(data->payload, "last");
    auto end = receive();
    ASSERT_TRUE(end);
    EXPECT_EQ(+end->header.operation, static_cast<uint16_t>(Op::Shutdown));
    EXPECT_EQ(+end->header.flags, kShutdownSend);
    send(packet(Op::Data), "still here");
    EXPECT_EQ(read_some(peer), "still here");
}

TEST_F(VsockTest, AFullCloseByTheHostIsPassedOn) {
    connect();
    connected.clear();
    auto end = receive();
    ASSERT_TRUE(end);
    EXPECT_EQ(+end->header.operation, static_cast<uint16_t>(Op::Shutdown));
    EXPECT_EQ(+end->header.flags, kShutdownSend | kShutdownReceive);
    send(packet(Op::Reset));
    EXPECT_EQ(device->streams(), 0u);
}

TEST_F(VsockTest, StreamsAreLimited) {
    for (uint32_t i = 0; i < VsockDevice::kMostStreams; ++i) connect(2000 + i);
    send(packet(Op::Request, 9999));
    expect(Op::Reset, 9999);
    EXPECT_EQ(device->streams(), VsockDevice::kMostStreams);
    auto pair = make_socket_pair(SOCK_STREAM);
    device->connect_guest(5, std::move(pair->first));
    EXPECT_TRUE(at_end(pair->second.get()));
}

TEST_F(VsockTest, RepliesThatAreNotFetchedStopTheGuest) {
    // 128 replies wait, then packets wait: what comes after is served once the guest has fetched.
    for (int i = 0; i < 300; ++i) {
        auto nonsense = packet(Op::Data, static_cast<uint32_t>(i));
        out->put(kOut, nonsense);
        if (static_cast<uint16_t>(i - out->used_index()) < 16) out->add({{kOut, sizeof nonsense}});
        process();
    }
    EXPECT_LT(out->used_index(), 150);
    uint16_t before = out->used_index();
    for (int i = 0; i < 60; ++i) EXPECT_TRUE(receive());
    EXPECT_GT(out->used_index(), before) << "goes on without another notification";
}

TEST_F(VsockTest, AReceiveBufferTooSmallIsAFault) {
    send(packet(Op::Data));
    in->add({{kIn, 44, true}});
    device->process(queues);
    EXPECT_NE(queues[0].fault(), nullptr);
}

TEST_F(VsockTest, ResetClosesEverything) {
    int peer = connect();
    device->reset();
    EXPECT_TRUE(at_end(peer));
    EXPECT_EQ(device->streams(), 0u);
    run();
}

} // namespace nullbox::cage
