#include "egress/net/netlink.h"

#include <cerrno>
#include <gtest/gtest.h>
#include <linux/netlink.h>

namespace nullbox::egress {
namespace {

using Bytes = std::vector<std::byte>;

Bytes message_bytes() {
    uint32_t header = 0x11223344;
    auto message = NetlinkMessage::make(0x0a05, 0x400, "a test", header);
    message.body.text(1, "eth0").number(2, uint16_t{0xbeef}).nest(3, [](auto& inner) {
        inner.network_number(4, uint32_t{0x01020304});
    });
    Bytes bytes;
    message.append_to(bytes, 77);
    return bytes;
}

TEST(Netlink, BytesAreAsTheManualSays) {
    const std::vector<int> expected{52,   0,    0,    0,    0x05, 0x0a, 0x01, 0x04, 77, 0, 0, 0,
                                    0,    0,    0,    0,    // length, type, flags and REQUEST, sequence, port
                                    0x44, 0x33, 0x22, 0x11, // the fixed header
                                    9,    0,    1,    0,    'e',  't',  'h',  '0',  0,  0, 0, 0,  // padded
                                    6,    0,    2,    0,    0xef, 0xbe, 0,    0,                  //
                                    12,   0,    3,    0x80, 8,    0,    4,    0,    1,  2, 3, 4}; // nested
    std::vector<int> got;
    for (std::byte byte : message_bytes()) got.push_back(std::to_integer<int>(byte));
    EXPECT_EQ(got, expected);
}

TEST(Netlink, WhatIsWrittenIsRead) {
    auto bytes = message_bytes();
    auto twice = bytes;
    twice.insert(twice.end(), bytes.begin(), bytes.end());
    auto views = split_datagram(twice).value();
    ASSERT_EQ(views.size(), 2u);
    EXPECT_EQ(views[1].type, 0x0a05);
    EXPECT_EQ(views[1].sequence, 77u);
    EXPECT_EQ(views[1].header<uint32_t>(), 0x11223344u);
    auto attributes = Attributes::parse(views[1].after(4)).value();
    EXPECT_EQ(attributes.text(1), "eth0");
    EXPECT_EQ(attributes.number<uint16_t>(2), 0xbeef);
    EXPECT_FALSE(attributes.number<uint32_t>(2)) << "another size";
    EXPECT_FALSE(attributes.find(9));
    EXPECT_EQ(attributes.nested(3)->network_number<uint32_t>(4), 0x01020304u);
    EXPECT_TRUE(attributes.nested(9)->all().empty());
}

TEST(Netlink, EveryCutIsRefused) {
    auto bytes = message_bytes();
    for (size_t length = 1; length < bytes.size(); length++)
        EXPECT_FALSE(split_datagram(std::span(bytes).first(length))) << length;
    auto attributes = split_datagram(bytes).value()[0].after(4);
    for (size_t length = 1; length < attributes.size(); length++) {
        auto parsed = Attributes::parse(attributes.first(length));
        // Between attributes, and inside padding that nobody needs, a cut is not seen.
        bool at_border = length >= 9 && length <= 12;
        bool at_second = length >= 18 && length <= 20;
        EXPECT_EQ(parsed.has_value(), at_border || at_second) << length;
    }
}

TEST(Netlink, LengthsThatLieAreRefused) {
    auto bytes = message_bytes();
    for (int length : {0, 15, 53, 255}) {
        auto wrong = bytes;
        wrong[0] = static_cast<std::byte>(length);
        EXPECT_FALSE(split_datagram(wrong)) << length;
    }
    Bytes attribute{std::byte{3}, std::byte{0}, std::byte{1}, std::byte{0}};
    EXPECT_FALSE(Attributes::parse(attribute));
    attribute[0] = std::byte{5};
    EXPECT_FALSE(Attributes::parse(attribute));
    EXPECT_FALSE(Attributes::parse(Bytes(4 * (kMaxAttributes + 1)))) << "of no length";
    Bytes many;
    for (size_t i = 0; i <= kMaxAttributes; i++)
        many.insert(many.end(), {std::byte{4}, std::byte{0}, std::byte{1}, std::byte{0}});
    EXPECT_FALSE(Attributes::parse(many));
    many.resize(4 * kMaxAttributes);
    EXPECT_TRUE(Attributes::parse(many));
}

Bytes acknowledgement(int32_t error, uint16_t flags, std::string_view text) {
    nlmsgerr body{.error = error, .msg = {.nlmsg_len = 16, .nlmsg_seq = 5}};
    auto message = NetlinkMessage::make(NLMSG_ERROR, flags, "", body);
    if (!text.empty()) message.body.text(NLMSGERR_ATTR_MSG, text);
    Bytes bytes;
    message.append_to(bytes, 5);
    return bytes;
}

TEST(Netlink, AcknowledgementsCarryTheKernelsWords) {
    auto read = [](const Bytes& bytes) { return parse_ack(split_datagram(bytes).value()[0]); };
    auto refused = read(acknowledgement(-ENOENT, NLM_F_CAPPED | NLM_F_ACK_TLVS, "no such chain\n")).value();
    EXPECT_EQ(refused.error, ENOENT);
    EXPECT_EQ(refused.sequence, 5u);
    EXPECT_EQ(refused.text, "no such chain?") << "fit for a console";
    EXPECT_EQ(read(acknowledgement(0, NLM_F_CAPPED, ""))->error, 0);
    EXPECT_EQ(read(acknowledgement(-ENOENT, NLM_F_ACK_TLVS, "whole request of no bytes"))->text,
              "whole request of no bytes");
    EXPECT_FALSE(read(acknowledgement(1, 0, "")));
    EXPECT_FALSE(read(acknowledgement(-5000, 0, "")));
    EXPECT_FALSE(read(message_bytes()));
}

} // namespace
} // namespace nullbox::egress
