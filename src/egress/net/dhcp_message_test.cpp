#include "egress/net/dhcp_message.h"

#include <gtest/gtest.h>

namespace nullbox::egress {
namespace {

using Bytes = std::vector<std::byte>;

const DhcpMessage kOffer{.reply = true,
                         .type = DhcpType::Offer,
                         .transaction = 0x01020304,
                         .yours = Ip4{0xc0000232},
                         .mac = {{2, 0, 0, 0, 0, 9}},
                         .server = Ip4{0xc0000201},
                         .mask = 0xffffff00,
                         .routers = {Ip4{0xc0000201}},
                         .dns_servers = {Ip4{0x01010101}, Ip4{0x08080808}},
                         .time_servers = {Ip4{0xc0000203}},
                         .lease_s = 3600,
                         .renewal_s = 1800,
                         .rebinding_s = 3000,
                         .mtu = 1400,
                         .hostname = "box"};

// A reply with these bytes as options.
Bytes with_options(std::initializer_list<int> options) {
    Bytes bytes(236);
    bytes[0] = std::byte{2}, bytes[1] = std::byte{1}, bytes[2] = std::byte{6};
    for (int value : {99, 130, 83, 99}) bytes.push_back(static_cast<std::byte>(value));
    for (int value : options) bytes.push_back(static_cast<std::byte>(value));
    return bytes;
}

TEST(DhcpMessage, WhatIsWrittenIsRead) {
    EXPECT_EQ(parse_dhcp(encode(kOffer)).value(), kOffer);
    DhcpMessage request{.type = DhcpType::Request,
                        .transaction = 9,
                        .seconds = 3,
                        .client = Ip4{0xc0000232},
                        .mac = {{2, 0, 0, 0, 0, 9}},
                        .requested = Ip4{0xc0000232},
                        .server = Ip4{0xc0000201}};
    EXPECT_EQ(parse_dhcp(encode(request)).value(), request);
}

TEST(DhcpMessage, ADiscoverIsAsTheDocumentSays) {
    auto bytes = encode({.type = DhcpType::Discover, .transaction = 0xaabbccdd, .mac = {{2, 0, 0, 0, 0, 9}}});
    EXPECT_EQ(bytes.size(), 300u);
    auto at = [&](size_t i) { return std::to_integer<int>(bytes[i]); };
    EXPECT_EQ((std::vector{at(0), at(1), at(2), at(3)}), (std::vector{1, 1, 6, 0}));
    EXPECT_EQ((std::vector{at(4), at(5), at(6), at(7)}), (std::vector{0xaa, 0xbb, 0xcc, 0xdd}));
    EXPECT_EQ((std::vector{at(28), at(33), at(34)}), (std::vector{2, 9, 0}));
    EXPECT_EQ((std::vector{at(236), at(237), at(238), at(239)}), (std::vector{99, 130, 83, 99}));
    EXPECT_EQ((std::vector{at(240), at(241), at(242)}), (std::vector{53, 1, 1}));
    EXPECT_EQ((std::vector{at(243), at(244), at(245)}), (std::vector{61, 7, 1})) << "client id: Ethernet";
}

TEST(DhcpMessage, EveryCutIsRefusedOrHarmless) {
    auto bytes = encode(kOffer);
    for (size_t length = 0; length < bytes.size(); length++) {
        Bytes cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
        auto parsed = parse_dhcp(cut);
        if (length < 243) EXPECT_FALSE(parsed) << length;
    }
    EXPECT_FALSE(parse_dhcp(Bytes(kMaxDhcpBytes + 1)));
}

TEST(DhcpMessage, OptionsOfTheWrongSizeAreAbsent) {
    auto message =
        parse_dhcp(with_options({53, 1, 2, 1, 3, 255, 255, 255, 3, 5, 1, 2, 3, 4, 5, 51, 0, 255})).value();
    EXPECT_EQ(message.type, DhcpType::Offer);
    EXPECT_FALSE(message.mask);
    EXPECT_TRUE(message.routers.empty());
    EXPECT_FALSE(message.lease_s);
}

TEST(DhcpMessage, ATypeIsNeeded) {
    EXPECT_FALSE(parse_dhcp(with_options({255})));
    EXPECT_FALSE(parse_dhcp(with_options({53, 1, 9, 255})));
    EXPECT_FALSE(parse_dhcp(with_options({53, 4, 1})));
}

TEST(DhcpMessage, AnOptionInPiecesIsOne) {
    auto message =
        parse_dhcp(with_options({53, 1, 2, 6, 4, 1, 1, 1, 1, 6, 2, 8, 8, 0, 6, 2, 8, 8, 255})).value();
    EXPECT_EQ(message.dns_servers, (std::vector{Ip4{0x01010101}, Ip4{0x08080808}}));
}

TEST(DhcpMessage, OptionsGoOnInTheNameFields) {
    auto bytes = with_options({53, 1, 2, 52, 1, 3, 255});
    for (size_t i = 0; int value : {1, 4, 255, 255, 0, 0, 255})
        bytes[108 + i++] = static_cast<std::byte>(value);
    for (size_t i = 0; int value : {26, 2, 5, 0, 255}) bytes[44 + i++] = static_cast<std::byte>(value);
    auto message = parse_dhcp(bytes).value();
    EXPECT_EQ(message.mask, 0xffff0000);
    EXPECT_EQ(message.mtu, 1280);
    // Without the word for it they are names.
    bytes[245] = std::byte{0};
    EXPECT_FALSE(parse_dhcp(bytes)->mask);
}

TEST(DhcpMessage, ListsAreBounded) {
    auto many = kOffer;
    many.dns_servers.assign(60, Ip4{1});
    EXPECT_EQ(parse_dhcp(encode(many))->dns_servers.size(), kMaxDhcpServers);
}

// --- the packet around it

Bytes server_packet(std::string_view text) {
    auto bytes = wrap_in_udp(Ip4{0xc0000201}, Ip4{UINT32_MAX}, std::as_bytes(std::span(text)));
    std::swap(bytes[21], bytes[23]); // the ports: 67 and 68
    return bytes;
}

TEST(DhcpPacket, APacketIsTakenApart) {
    auto bytes = server_packet("hello");
    auto packet = unwrap_from_udp(bytes);
    ASSERT_TRUE(packet) << packet.error().message;
    EXPECT_EQ(packet->source, Ip4{0xc0000201});
    EXPECT_EQ(packet->payload.size(), 5u);
    bytes.resize(60); // Ethernet's padding
    EXPECT_EQ(unwrap_from_udp(bytes)->payload.size(), 5u);
}

TEST(DhcpPacket, WrongPacketsAreRefused) {
    auto refused = [](size_t at, int value) {
        auto bytes = server_packet("hello");
        bytes[at] = static_cast<std::byte>(value);
        return !unwrap_from_udp(bytes);
    };
    EXPECT_TRUE(refused(0, 0x65)) << "version";
    EXPECT_TRUE(refused(0, 0x44)) << "header length";
    EXPECT_TRUE(refused(0, 0x4f));
    EXPECT_TRUE(refused(3, 200)) << "total length";
    EXPECT_TRUE(refused(3, 27));
    EXPECT_TRUE(refused(12, 1)) << "checksum";
    EXPECT_TRUE(refused(21, 66)) << "port";
    EXPECT_TRUE(refused(25, 200)) << "UDP length";
    EXPECT_TRUE(refused(25, 7));
    EXPECT_FALSE(refused(26, 1)) << "nobody may have filled in the UDP checksum";
    auto bytes = server_packet("hello");
    for (size_t length = 0; length < bytes.size(); length++)
        EXPECT_FALSE(unwrap_from_udp(std::span(bytes).first(length))) << length;
}

TEST(DhcpPacket, ChecksumsAreRight) {
    // Computed elsewhere by RFC 1071's sum.
    std::string_view text = "\x01\x02\x03";
    auto bytes = wrap_in_udp(Ip4{0x0a000001}, Ip4{0x0a000002}, std::as_bytes(std::span(text)));
    auto at = [&](size_t i) {
        return std::to_integer<int>(bytes[i]) << 8 | std::to_integer<int>(bytes[i + 1]);
    };
    EXPECT_EQ(at(10), 0x66cc);
    EXPECT_EQ(at(26), 0xe74c);
}

} // namespace
} // namespace nullbox::egress
