#include "egress/net/packet_log.h"

#include <gtest/gtest.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>

#include "egress/net/guest_for_test.h"

namespace nullbox::egress {
using namespace test;
namespace {

constexpr Packet kQuestion{.source = {0xc6120c02}, .destination = {0x08080808}, .destination_port = 53};

std::optional<DroppedPacket> logged(std::string_view prefix, std::span<const std::byte> packet,
                                    uint16_t type = NFULNL_MSG_PACKET) {
    nfgenmsg header{};
    auto message = NetlinkMessage::make(static_cast<uint16_t>(NFNL_SUBSYS_ULOG << 8 | type), 0, "", header);
    message.body.text(NFULA_PREFIX, prefix).bytes(NFULA_PAYLOAD, packet);
    std::vector<std::byte> bytes;
    message.append_to(bytes, 0);
    return parse_packet_log(split_datagram(bytes).value()[0]);
}

TEST(PacketLog, APacketIsDescribed) {
    auto packet = logged("nbtap3", ip_packet(kQuestion));
    ASSERT_TRUE(packet);
    EXPECT_EQ(packet->slot, 3u);
    EXPECT_EQ(packet->text(), "UDP 198.18.12.2 -> 8.8.8.8 port 53");
    EXPECT_FALSE(logged("eth0", ip_packet(kQuestion)));
    EXPECT_FALSE(logged("nbtap3", ip_packet(kQuestion), NFULNL_MSG_CONFIG));
}

TEST(PacketLog, ShortAndOddPacketsSayWhatIsKnown) {
    auto bytes = ip_packet(kQuestion);
    for (size_t length = 0; length < bytes.size(); length++) {
        auto cut = describe_packet(std::span(bytes).first(length));
        EXPECT_EQ(cut.destination_port, length >= 24 ? 53 : 0) << length;
        EXPECT_EQ(cut.protocol, length >= 20 ? 17 : 0) << length;
    }
    auto fragment = bytes;
    fragment[7] = std::byte{1};
    EXPECT_EQ(describe_packet(fragment).destination_port, 0) << "what stands there is no port";
    auto short_header = bytes;
    short_header[0] = std::byte{0x41};
    EXPECT_EQ(describe_packet(short_header).destination_port, 0);
    auto unknown = bytes;
    unknown[9] = std::byte{99};
    EXPECT_EQ(describe_packet(unknown).text(), "IP protocol 99 198.18.12.2 -> 8.8.8.8");
}

} // namespace
} // namespace nullbox::egress
