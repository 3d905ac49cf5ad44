#include "egress/net/router_advert.h"

#include <gtest/gtest.h>

namespace nullbox::egress {
namespace {

using Bytes = std::vector<std::byte>;

Ip6 six(std::string_view text) { return Ip6::parse(text).value(); }

const RouterAdvert kAdvert{
    .lifetime_s = 1800,
    .preference = 1,
    .managed = true,
    .prefixes = {{.prefix = {six("2001:db8:1::"), 64},
                  .on_link = true,
                  .autonomous = true,
                  .valid_s = 86'400,
                  .preferred_s = 14'400},
                 {.prefix = {six("fd00:1::"), 48}, .valid_s = kAdvertForEver, .preferred_s = 1}},
    .servers = {{.addresses = {six("2001:db8:1::53"), six("fe80::1")}, .lifetime_s = 600}},
    .mtu = 1400};

Result<RouterAdvert> parse(const Bytes& bytes, std::string_view source = "fe80::1", int hop_limit = 255) {
    return parse_router_advert({.source = six(source), .hop_limit = hop_limit, .bytes = bytes});
}

// An advertisement without options, and these bytes after it.
Bytes with_options(std::initializer_list<int> options) {
    auto bytes = encode(RouterAdvert{.lifetime_s = 1800});
    for (int value : options) bytes.push_back(static_cast<std::byte>(value));
    return bytes;
}

TEST(RouterAdvert, WhatIsWrittenIsRead) {
    EXPECT_EQ(parse(encode(kAdvert)).value(), kAdvert);
    RouterAdvert low{.lifetime_s = 0, .preference = -1};
    EXPECT_EQ(parse(encode(low)).value(), low);
}

// Byte for byte as RFC 4861 sections 4.2 and 4.6.2 and RFC 8106 section 5.1 draw it.
TEST(RouterAdvert, IsReadAsTheDocumentsSay) {
    Bytes bytes;
    for (int value : {134,  0,    0x12, 0x34, 64, 0x08, 7,    8,    0, 0, 0, 0, 0, 0, 0, 0, // low hop limit
                      3,    4,    64,   0xc0, 0,  0,    0x0e, 0x10,                         // 3600 s
                      0,    0,    7,    8,    0,  0,    0,    0,                            // 1800 s
                      0x20, 0x01, 0x0d, 0xb8, 0,  0,    0,    9,    0, 0, 0, 0, 0, 0, 0, 0, //
                      25,   3,    0,    0,    0,  0,    2,    0x58,                         // 600 s
                      0xfe, 0x80, 0,    0,    0,  0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0x53, //
                      5,    1,    0,    0,    0,  0,    5,    0xdc})
        bytes.push_back(static_cast<std::byte>(value));
    RouterAdvert wanted{.lifetime_s = 1800,
                        .preference = 1,
                        .prefixes = {{.prefix = {six("2001:db8:0:9::"), 64},
                                      .on_link = true,
                                      .autonomous = true,
                                      .valid_s = 3600,
                                      .preferred_s = 1800}},
                        .servers = {{.addresses = {six("fe80::53")}, .lifetime_s = 600}},
                        .mtu = 1500};
    EXPECT_EQ(parse(bytes).value(), wanted);
}

// Controls: the three checks of RFC 4861 section 6.1.2.
TEST(RouterAdvert, FromElsewhereIsRefused) {
    auto bytes = encode(kAdvert);
    EXPECT_TRUE(parse(bytes, "febf::1"));
    for (int hops : {254, 64, 0, -1, 256})
        EXPECT_TRUE(parse(bytes, "fe80::1", hops).error().message.contains("hop limit")) << hops;
    for (auto source : {"2001:db8::1", "::", "::1", "fec0::1", "ff02::1", "fd00::1"})
        EXPECT_TRUE(parse(bytes, source).error().message.contains("not link-local")) << source;
    for (size_t at : {size_t{0}, size_t{1}}) { // another type, a code
        auto wrong = bytes;
        wrong[at] = std::byte{133};
        EXPECT_TRUE(parse(wrong).error().message.contains("is no router advertisement")) << at;
    }
}

TEST(RouterAdvert, EveryCutIsRefusedOrHarmless) {
    auto bytes = encode(kAdvert);
    size_t read = 0;
    for (size_t size = 0; size < bytes.size(); size++) {
        // In memory of its own, so that a read beyond the end is seen.
        auto advert = parse(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)));
        if (!advert) continue;
        read++;
        EXPECT_LT(advert->prefixes.size() + advert->servers.size(), 3u);
    }
    EXPECT_EQ(read, 4u) << "between two options, and before the first";
    EXPECT_FALSE(parse(Bytes(kMaxAdvertBytes + 1, std::byte{134})));
}

TEST(RouterAdvert, WrongOptions) {
    EXPECT_TRUE(parse(with_options({1, 0, 0, 0, 0, 0, 0, 0})).error().message.contains("of length 0"));
    EXPECT_TRUE(parse(with_options({3, 4, 64, 0xc0})).error().message.contains("4 are there"));
    EXPECT_TRUE(parse(with_options({3})).error().message.contains("ends inside an option"));
    // Of a size that is not theirs, and unknown: as if they were not there.
    for (auto options : {std::initializer_list<int>{3, 1, 64, 0xc0, 0, 0, 0, 0},
                         {25, 1, 0, 0, 0, 0, 2, 0x58},
                         {25, 2, 0, 0, 0, 0, 2, 0x58, 1, 2, 3, 4, 5, 6, 7, 8},
                         {5, 2, 0, 0, 0, 0, 5, 0xdc, 0, 0, 0, 0, 0, 0, 0, 0},
                         {200, 1, 0, 0, 0, 0, 0, 0}})
        EXPECT_EQ(parse(with_options(options)).value(), RouterAdvert{.lifetime_s = 1800});
    auto advert = kAdvert;
    advert.prefixes[0].prefix.length = 129;
    EXPECT_EQ(parse(encode(advert)).value().prefixes.size(), 1u);
}

TEST(RouterAdvert, MoreThanAnybodyNeedsIsLeftOut) {
    RouterAdvert many;
    for (uint8_t i = 0; i < 20; i++) {
        auto address = six("2001:db8::");
        address.bytes[7] = i;
        many.prefixes.push_back({.prefix = {address, 64}, .autonomous = true, .valid_s = 1});
        many.servers.push_back({.addresses = {address}, .lifetime_s = 1});
    }
    auto advert = parse(encode(many)).value();
    EXPECT_EQ(advert.prefixes.size(), kMaxAdvertPrefixes);
    EXPECT_EQ(advert.servers.size(), kMaxAdvertServers);
}

TEST(RouterAdvert, ASolicitationIsAsTheDocumentSays) {
    auto bytes = encode_router_solicit({{2, 0, 0, 0, 0, 9}});
    Bytes wanted;
    for (int value : {133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 9})
        wanted.push_back(static_cast<std::byte>(value));
    EXPECT_EQ(bytes, wanted);
}

} // namespace
} // namespace nullbox::egress
