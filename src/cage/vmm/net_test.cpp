// The network card with a fake driver: a socket that keeps packets apart stands in for the tap; at the end, a
// real tap.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "base/bytes.h"
#include "cage/vmm/net.h"
#include "cage/vmm/test_driver.h"

namespace nullbox::cage {

constexpr MacAddress kOwn{0x02, 0, 0, 0, 0, 7}, kOther{0x02, 0, 0, 0, 0, 8};
constexpr uint64_t kChecksums = 1 << 0 | 1 << 1, kMerged = 1 << 15;
constexpr uint64_t kSegments = 1 << 7 | 1 << 8 | 1 << 11 | 1 << 12;
constexpr uint64_t kAll = kChecksums | kMerged | kSegments;

static EthernetHeader ethernet(unsigned type, MacAddress source = kOwn) {
    return {.destination = kOther,
            .source = source,
            .type = {static_cast<uint8_t>(type >> 8), static_cast<uint8_t>(type)}};
}

// --- The rules, with no device

TEST(AcceptableFrame, OwnAddressAndThreeProtocolsOnly) {
    NetRules rules{.mac = kOwn};
    for (unsigned type : {0u + ETH_P_ARP, 0u + ETH_P_IP, 0u + ETH_P_IPV6})
        EXPECT_TRUE(acceptable_frame({}, ethernet(type), 60, rules)) << type;
    for (unsigned type : {0u + ETH_P_8021Q, 0u + ETH_P_8021AD, 0u + ETH_P_PPP_SES, 0x88ccu, 0x05dcu, 0u})
        EXPECT_FALSE(acceptable_frame({}, ethernet(type), 60, rules)) << type;
    EXPECT_FALSE(acceptable_frame({}, ethernet(ETH_P_IP, kOther), 60, rules));
    EXPECT_FALSE(acceptable_frame({}, ethernet(ETH_P_IP, {}), 60, rules));
}

TEST(AcceptableFrame, NoLongerThanTheMtuUnlessCut) {
    NetRules rules{.mac = kOwn, .mtu = 1500, .features = kAll};
    EXPECT_TRUE(acceptable_frame({}, ethernet(ETH_P_IP), 1514, rules));
    EXPECT_FALSE(acceptable_frame({}, ethernet(ETH_P_IP), 1515, rules));
    EXPECT_TRUE(acceptable_frame({}, ethernet(ETH_P_IP), 14, rules));
    EXPECT_FALSE(acceptable_frame({}, ethernet(ETH_P_IP), 13, rules));
}

TEST(AcceptableFrame, AChecksumLiesInTheFrame) {
    NetRules rules{.mac = kOwn, .features = kAll};
    NetHeader good{.flags = 1, .checksum_start = 34, .checksum_offset = 16};
    EXPECT_TRUE(acceptable_frame(good, ethernet(ETH_P_IP), 54, rules));
    EXPECT_TRUE(acceptable_frame(good, ethernet(ETH_P_IP), 52, rules));
    EXPECT_FALSE(acceptable_frame(good, ethernet(ETH_P_IP), 51, rules));
    for (NetHeader bad : {NetHeader{.flags = 1, .checksum_start = 13, .checksum_offset = 16},
                          NetHeader{.flags = 1, .checksum_start = 0xffff, .checksum_offset = 0xffff},
                          NetHeader{.flags = 1, .checksum_start = 34, .checksum_offset = 0xffff},
                          NetHeader{.flags = 2, .checksum_start = 34, .checksum_offset = 16},
                          NetHeader{.flags = 5, .checksum_start = 34, .checksum_offset = 16}})
        EXPECT_FALSE(acceptable_frame(bad, ethernet(ETH_P_IP), 1000, rules)) << bad.checksum_start;
    rules.features = 0;
    EXPECT_FALSE(acceptable_frame(good, ethernet(ETH_P_IP), 54, rules)) << "not negotiated";
}

TEST(AcceptableFrame, SegmentationAsNegotiated) {
    NetRules rules{.mac = kOwn, .features = kAll};
    NetHeader good{.flags = 1,
                   .segmentation = 1,
                   .header_bytes = 54,
                   .segment_bytes = 1448,
                   .checksum_start = 34,
                   .checksum_offset = 16};
    auto accepts = [&](auto change, uint16_t type = ETH_P_IP, size_t bytes = 30000) {
        NetHeader header = good;
        change(header);
        return acceptable_frame(header, ethernet(type), bytes, rules);
    };
    EXPECT_TRUE(accepts([](auto&) {}));
    EXPECT_TRUE(accepts([](auto&) {}, ETH_P_IP, NetDevice::kMostFrameBytes));
    EXPECT_FALSE(accepts([](auto&) {}, ETH_P_IP, NetDevice::kMostFrameBytes + 1));
    EXPECT_TRUE(accepts([](auto& h) { h.segmentation = 4; }, ETH_P_IPV6));
    EXPECT_FALSE(accepts([](auto& h) { h.segmentation = 4; })) << "version 6 in a frame of version 4";
    EXPECT_FALSE(accepts([](auto&) {}, ETH_P_IPV6));
    EXPECT_FALSE(accepts([](auto&) {}, ETH_P_ARP));
    for (unsigned kind : {2u, 3u, 5u, 6u, 0x7fu, 0x80u, 0x81u, 0xffu})
        EXPECT_FALSE(accepts([&](auto& h) { h.segmentation = static_cast<uint8_t>(kind); })) << kind;
    EXPECT_FALSE(accepts([](auto& h) { h.flags = 0; })) << "segments need a checksum";
    EXPECT_FALSE(accepts([](auto& h) { h.checksum_offset = 6; })) << "not TCP's";
    EXPECT_FALSE(accepts([](auto& h) { h.segment_bytes = 0; }));
    EXPECT_FALSE(accepts([](auto& h) { h.segment_bytes = 7; }));
    EXPECT_FALSE(accepts([](auto& h) { h.segment_bytes = 1501; }));
    EXPECT_FALSE(accepts([](auto& h) { h.header_bytes = 30000; }));
    rules.features |= 1 << 13;
    EXPECT_TRUE(accepts([](auto& h) { h.segmentation = 0x81; })) << "ECN, negotiated";
    rules.features = kChecksums;
    EXPECT_FALSE(accepts([](auto&) {})) << "not negotiated";
}

// --- The device

struct NetTest : testing::Test {
    static constexpr uint64_t kFrame = 0x20000, kReceived = 0x80000;
    TestMemory memory;
    std::unique_ptr<Loop> loop = *Loop::make();
    Fd network; // the other end of the "tap"
    std::unique_ptr<NetDevice> device;
    std::vector<Virtqueue> queues;
    std::optional<TestDriver> in, out;
    int wakes = 0;

    void SetUp() override {
        auto pair = make_socket_pair(SOCK_SEQPACKET | SOCK_NONBLOCK);
        ASSERT_TRUE(pair);
        network = std::move(pair->second);
        open(std::move(pair->first), false);
    }
    void open(Fd tap, bool is_tap) {
        auto made = NetDevice::make(*loop, std::move(tap), {.mac = kOwn, .tap_offloads = is_tap});
        ASSERT_TRUE(made) << made.error().message;
        device = *std::move(made);
        queues.clear();
        queues.reserve(2);
        for (int i = 0; i < 2; ++i) queues.emplace_back(memory.memory);
        in.emplace(memory, queues[0], 0x1000, 64), out.emplace(memory, queues[1], 0x4000, 64);
        for (auto& queue : queues) queue.state().event_index = true, queue.start();
        device->wake = [this] { ++wakes, device->process(queues); };
        device->start(kAll);
    }
    void turn() { ASSERT_TRUE(loop->run_once(std::chrono::milliseconds(0))); }
    // A frame of so many bytes in two pieces, as a driver queues it.
    void queue_frame(size_t bytes, NetHeader header = {}, EthernetHeader front = ethernet(ETH_P_IP)) {
        memory.memory.range(kFrame, 12 + bytes)->front() = std::byte{};
        out->put(kFrame, header);
        out->put(kFrame + 12, front);
        out->add({{kFrame, 12}, {kFrame + 12, static_cast<uint32_t>(bytes)}});
    }
    std::string arrived() {
        std::string packet(70000, '\0');
        ssize_t count = ::recv(network.get(), packet.data(), packet.size(), MSG_DONTWAIT);
        packet.resize(count < 0 ? 0 : static_cast<size_t>(count));
        return packet;
    }
    void arrive(size_t bytes, char fill = 'x', NetHeader header = {}) {
        std::string packet(12 + bytes, fill);
        std::memcpy(packet.data(), &header, sizeof header);
        ASSERT_EQ(::send(network.get(), packet.data(), packet.size(), MSG_DONTWAIT),
                  static_cast<ssize_t>(packet.size()));
    }
    void offer(int buffers, uint32_t bytes) {
        for (int i = 0; i < buffers; ++i)
            in->add({{kReceived + static_cast<uint64_t>(i) * 0x1000, bytes, true}});
    }
};

TEST_F(NetTest, TellsItsAddressAndMtu) {
    EXPECT_EQ(std::memcmp(device->config().data(), kOwn.data(), 6), 0);
    uint16_t mtu = 0;
    std::memcpy(&mtu, device->config().data() + 10, 2);
    EXPECT_EQ(mtu, 1500);
}

TEST_F(NetTest, SendsFramesAsTheyAre) {
    queue_frame(60);
    EXPECT_FALSE(device->process(queues));
    auto packet = arrived();
    ASSERT_EQ(packet.size(), 72u);
    EXPECT_EQ(std::memcmp(packet.data() + 12 + 6, kOwn.data(), 6), 0);
    EXPECT_EQ(out->used_index(), 1);
    EXPECT_EQ(device->counters().sent, 1u);
}

TEST_F(NetTest, HeaderAndFrameMayShareOrSplitBuffers) {
    out->put(kFrame, NetHeader{});
    out->put(kFrame + 12, ethernet(ETH_P_ARP));
    out->add({{kFrame, 54}});
    out->add({{kFrame, 5}, {kFrame + 5, 10}, {kFrame + 15, 1}, {kFrame + 16, 38}});
    EXPECT_FALSE(device->process(queues));
    auto first = arrived(), second = arrived();
    EXPECT_EQ(first.size(), 54u);
    EXPECT_EQ(first, second);
}

TEST_F(NetTest, DropsWhatIsNotTheGuestsAndGoesOn) {
    queue_frame(60, {}, ethernet(ETH_P_IP, kOther));
    queue_frame(13);
    queue_frame(60, {.flags = 1, .checksum_start = 59, .checksum_offset = 1});
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(arrived(), "");
    EXPECT_EQ(device->counters().send_dropped, 3u);
    EXPECT_EQ(out->used_index(), 3) << "the guest has its buffers back";
    queue_frame(60);
    device->process(queues);
    EXPECT_EQ(arrived().size(), 72u);
}

TEST_F(NetTest, AnEndlesslyLongChainIsDropped) {
    out->put(kFrame, NetHeader{.flags = 1,
                               .segmentation = 1,
                               .segment_bytes = 1448,
                               .checksum_start = 34,
                               .checksum_offset = 16});
    out->put(kFrame + 12, ethernet(ETH_P_IP));
    out->add({{kFrame, 0x10000}, {kFrame, 0x10000}, {kFrame, 0x10000}});
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(device->counters().send_dropped, 1u);
    EXPECT_EQ(arrived(), "");
}

TEST_F(NetTest, ARequestWithoutHeaderOrInTheWrongDirectionIsAFault) {
    out->add({{kFrame, 11}});
    device->process(queues);
    EXPECT_NE(queues[1].fault(), nullptr);
    SetUp();
    out->add({{kFrame, 100, true}});
    device->process(queues);
    EXPECT_NE(queues[1].fault(), nullptr);
    for (auto buffers :
         {std::vector<TestBuffer>{{kReceived, 1000}}, {{kReceived, 12, true}}, {{kReceived, 5, true}}}) {
        SetUp();
        in->add(buffers);
        arrive(60);
        turn();
        EXPECT_NE(queues[0].fault(), nullptr);
    }
}

TEST_F(NetTest, AFullTapWaitsForRoom) {
    int small = 4096;
    auto pair = make_socket_pair(SOCK_SEQPACKET | SOCK_NONBLOCK);
    ASSERT_TRUE(pair);
    ::setsockopt(pair->first.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    network = std::move(pair->second);
    open(std::move(pair->first), false);
    for (int i = 0; i < 30; ++i) queue_frame(1500 + 14);
    EXPECT_FALSE(device->process(queues)) << "nothing to do until there is room";
    auto sent = device->counters().sent;
    ASSERT_GT(sent, 0u);
    ASSERT_LT(sent, 30u);
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(device->counters().sent, sent);
    for (int round = 0; round < 100 && device->counters().sent < 30; ++round) {
        while (!arrived().empty()) {
        }
        turn();
    }
    EXPECT_EQ(device->counters().sent, 30u);
    EXPECT_EQ(device->counters().send_dropped, 0u);
    EXPECT_EQ(out->used_index(), 30);
}

TEST_F(NetTest, ReceivesIntoOneBuffer) {
    offer(2, 2000);
    arrive(100, 'a', {.flags = 1, .checksum_start = 34, .checksum_offset = 16});
    turn();
    ASSERT_TRUE(in->has_used());
    EXPECT_EQ(in->take_used().written, 112u);
    auto header = in->get<NetHeader>(kReceived);
    EXPECT_EQ(header.buffers, 1);
    EXPECT_EQ(header.checksum_start, 34);
    EXPECT_EQ(as_text(*memory.memory.range(kReceived + 12, 100)), std::string(100, 'a'));
    EXPECT_FALSE(in->has_used());
}

TEST_F(NetTest, ALongFrameTakesSeveralBuffersAtOnce) {
    std::string frame;
    for (int i = 0; i < 10000; ++i) frame += static_cast<char>('a' + i % 23);
    offer(8, 2000);
    std::string packet(12, '\0');
    packet += frame;
    ASSERT_GT(::send(network.get(), packet.data(), packet.size(), 0), 0);
    turn();
    ASSERT_EQ(in->used_index(), 6);
    EXPECT_EQ(in->get<NetHeader>(kReceived).buffers, 6);
    std::string got;
    for (uint64_t i = 0; i < 6; ++i) {
        auto used = in->take_used();
        EXPECT_EQ(used.head, i);
        uint64_t skip = i == 0 ? 12 : 0;
        got += as_text(*memory.memory.range(kReceived + i * 0x1000 + skip, used.written - skip));
    }
    EXPECT_EQ(got, frame);
}

TEST_F(NetTest, WaitsForEnoughBuffersWithoutSpinning) {
    offer(3, 2000);
    arrive(10000, 'b');
    turn();
    EXPECT_EQ(in->used_index(), 0) << "the driver sees all buffers of a frame or none";
    EXPECT_FALSE(device->process(queues)) << "nothing to do";
    EXPECT_EQ(in->used_event_of_device(), 3) << "the buffer that it wants to hear of";
    int before = wakes;
    for (int i = 0; i < 10; ++i) turn();
    EXPECT_EQ(wakes, before);
    offer(3, 2000);
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(in->used_index(), 6);
    EXPECT_EQ(device->counters().received, 1u);
}

TEST_F(NetTest, FramesStayInTheTapWithoutBuffers) {
    for (int i = 0; i < 20; ++i) arrive(60);
    turn();
    int before = wakes;
    for (int i = 0; i < 10; ++i) turn();
    EXPECT_EQ(wakes, before) << "does not spin";
    offer(20, 2000);
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(in->used_index(), 20);
}

TEST_F(NetTest, BuffersOfOneByteAreNoWayToHoldTheThread) {
    for (int i = 0; i < 64; ++i) in->add({{kReceived, i == 0 ? 13u : 1u, true}});
    arrive(10000);
    turn();
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(in->used_index(), 0);
    // A driver that claims ever more buffers than its ring has is at fault.
    in->set_available_index(100);
    device->process(queues);
    EXPECT_NE(queues[0].fault(), nullptr);
}

TEST_F(NetTest, WithoutMergedBuffersALongFrameIsDropped) {
    device->start(kChecksums);
    offer(8, 2000);
    arrive(10000);
    arrive(100);
    turn();
    EXPECT_EQ(device->counters().receive_dropped, 1u);
    EXPECT_EQ(in->used_index(), 1);
    EXPECT_EQ(in->take_used().written, 112u);
}

TEST_F(NetTest, ResetForgetsTheWaitingFrame) {
    offer(1, 2000);
    arrive(10000);
    turn();
    device->reset();
    for (auto& queue : queues) queue.reset();
    in.emplace(memory, queues[0], 0x1000, 64);
    in->set_available_index(0);
    in->put<uint16_t>(in->used() + 2, 0);
    queues[0].start();
    device->start(kAll);
    offer(8, 2000);
    arrive(100);
    turn();
    ASSERT_EQ(in->used_index(), 1);
    EXPECT_EQ(in->take_used().written, 112u) << "the new frame, not the rest of the old one";
}

TEST_F(NetTest, WhenTheOtherEndIsGoneNothingSpins) {
    offer(2, 2000);
    network.reset();
    turn();
    EXPECT_FALSE(device->process(queues));
    queue_frame(60);
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(device->counters().send_dropped, 1u);
}

TEST_F(NetTest, RefusesWrongOptionsAndWhatIsNoTap) {
    auto pair = make_socket_pair(SOCK_SEQPACKET);
    ASSERT_TRUE(pair);
    EXPECT_FALSE(NetDevice::make(*loop, std::move(pair->first), {.mac = kOwn})) << "a socket is no tap";
    EXPECT_FALSE(NetDevice::make(*loop, std::move(pair->second), {.mac = kOwn, .mtu = 1279}));
    EXPECT_FALSE(NetDevice::make(*loop, Fd(), {.mac = {1}}));
}

// --- A real tap

namespace {
struct RealTap {
    Fd tap, wire; // wire: sees and sends what passes on the host's side of the tap
};
Result<RealTap> make_tap(int header_bytes) {
    Fd tap(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!tap) return errno_error("open tun");
    ifreq name{};
    std::strncpy(name.ifr_name, "test0", IFNAMSIZ - 1);
    name.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (::ioctl(tap.get(), TUNSETIFF, &name) < 0) return errno_error("make tap");
    if (::ioctl(tap.get(), TUNSETVNETHDRSZ, &header_bytes) < 0) return errno_error("set header");
    Fd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    name.ifr_flags = IFF_UP;
    if (::ioctl(control.get(), SIOCSIFFLAGS, &name) < 0) return errno_error("bring tap up");
    Fd wire(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)));
    if (!wire) return errno_error("packet socket");
    sockaddr_ll where{.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    where.sll_ifindex = static_cast<int>(::if_nametoindex("test0"));
    if (::bind(wire.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) < 0) return errno_error("bind");
    return RealTap{std::move(tap), std::move(wire)};
}
} // namespace

TEST_F(NetTest, WorksOnARealTap) {
    // A network namespace of this thread's own: the tap is nobody else's.
    std::thread([&] {
        if (::unshare(CLONE_NEWNET) < 0) GTEST_SKIP() << "needs root";
        auto wrong = make_tap(10);
        if (!wrong) GTEST_SKIP() << wrong.error().message;
        auto refused = NetDevice::make(*loop, std::move(wrong->tap), {.mac = kOwn});
        ASSERT_FALSE(refused);
        EXPECT_TRUE(refused.error().message.contains("12 bytes")) << refused.error().message;
        wrong->wire.reset();

        auto real = make_tap(12);
        ASSERT_TRUE(real) << real.error().message;
        open(std::move(real->tap), true);
        auto next = [&](size_t least) { // the host itself talks on a new link; look for a frame of ours
            std::string frame(70000, '\0');
            for (int tries = 0; tries < 200; ++tries) {
                ssize_t count = ::recv(real->wire.get(), frame.data(), frame.size(), MSG_DONTWAIT);
                if (count < 0) ::usleep(1000);
                if (count >= static_cast<ssize_t>(least) && !std::memcmp(frame.data() + 6, kOwn.data(), 6))
                    return static_cast<size_t>(count);
            }
            return size_t{0};
        };
        queue_frame(60, {}, ethernet(ETH_P_ARP));
        device->process(queues);
        EXPECT_EQ(device->counters().sent, 1u);
        EXPECT_EQ(next(60), 60u);

        // 20,000 bytes of TCP in one frame: the kernel takes the header that passed our rules.
        std::array<uint8_t, 20> ip{0x45, 0, 0x4e, 0x12, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1};
        queue_frame(20000, {.flags = 1,
                            .segmentation = 1,
                            .header_bytes = 54,
                            .segment_bytes = 1448,
                            .checksum_start = 34,
                            .checksum_offset = 16});
        out->put(kFrame + 26, ip);
        out->put<uint8_t>(kFrame + 26 + 20 + 12, 0x50);
        device->process(queues);
        EXPECT_EQ(device->counters().sent, 2u);
        EXPECT_EQ(next(20000), 20000u);

        offer(20, 2000);
        std::string frame(100, 'z');
        auto front = ethernet(ETH_P_ARP, kOther);
        std::memcpy(frame.data(), &front, sizeof front);
        ASSERT_EQ(::send(real->wire.get(), frame.data(), frame.size(), 0), 100);
        bool found = false;
        for (int tries = 0; tries < 200 && !found; ++tries) {
            ASSERT_TRUE(loop->run_once(std::chrono::milliseconds(1)));
            while (in->has_used() && !found) {
                auto used = in->take_used();
                auto at = kReceived + used.head * 0x1000;
                found = used.written == 112 && in->get<uint8_t>(at + 111) == 'z' &&
                        in->get<NetHeader>(at).buffers == 1;
            }
        }
        EXPECT_TRUE(found);
        device.reset();
    }).join();
}

} // namespace nullbox::cage
