#include "egress/net/arp_probe.h"

#include <gtest/gtest.h>

namespace nullbox::egress {
namespace {

constexpr Mac kOurs{{2, 0, 0, 0, 0, 9}}, kOther{{2, 0, 0, 0, 0, 0x66}};
constexpr Ip4 kAddress{0xc0000232}, kElse{0xc0000233};

std::vector<std::byte> packet(int operation, const Mac& sender, Ip4 from, Ip4 about) {
    auto out = encode_arp_probe(sender, about);
    out[7] = static_cast<std::byte>(operation);
    for (size_t i = 0; i < 4; i++) out[14 + i] = static_cast<std::byte>(from.value >> (24 - 8 * i));
    return out;
}

TEST(ArpProbe, IsAsTheDocumentSays) {
    std::vector<std::byte> wanted;
    for (int value : {0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 50})
        wanted.push_back(static_cast<std::byte>(value));
    EXPECT_EQ(encode_arp_probe(kOurs, kAddress), wanted);
}

TEST(ArpProbe, WhoSaysSoHasTheAddress) {
    EXPECT_EQ(arp_claimant(packet(2, kOther, kAddress, Ip4{0}), kOurs, kAddress), kOther);
    EXPECT_EQ(arp_claimant(packet(1, kOther, kAddress, kElse), kOurs, kAddress), kOther) << "he asks with it";
    EXPECT_EQ(arp_claimant(packet(1, kOther, Ip4{0}, kAddress), kOurs, kAddress), kOther) << "he probes too";
    EXPECT_FALSE(arp_claimant(packet(1, kOurs, Ip4{0}, kAddress), kOurs, kAddress)) << "our own, reflected";
    EXPECT_FALSE(arp_claimant(packet(1, kOther, kElse, kAddress), kOurs, kAddress))
        << "somebody looks for it";
    EXPECT_FALSE(arp_claimant(packet(2, kOther, Ip4{0}, kAddress), kOurs, kAddress));
    EXPECT_FALSE(arp_claimant(packet(2, kOther, kElse, kAddress), kOurs, kAddress));
    EXPECT_FALSE(arp_claimant(packet(3, kOther, kAddress, kAddress), kOurs, kAddress));
    auto good = packet(2, kOther, kAddress, Ip4{0});
    for (size_t size = 0; size < good.size(); size++)
        EXPECT_FALSE(arp_claimant(std::vector(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)),
                                  kOurs, kAddress));
    good.resize(46); // padded, as on a wire
    EXPECT_TRUE(arp_claimant(good, kOurs, kAddress));
    for (size_t at = 0; at < 6; at++) {
        auto wrong = good;
        wrong[at] ^= std::byte{1};
        EXPECT_FALSE(arp_claimant(wrong, kOurs, kAddress)) << at;
    }
}

} // namespace
} // namespace nullbox::egress
