#include "egress/net/address.h"

#include <gtest/gtest.h>

#include "egress/net/tap_link.h"

namespace nullbox::egress {
namespace {

TEST(Address, TextsAreStrict) {
    for (auto text : {"0.0.0.0", "192.0.2.1", "255.255.255.255"})
        EXPECT_EQ(Ip4::parse(text).value().text(), text);
    for (auto text : {"", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.+4", "1.2.3.-0", "1.2.3.4 ",
                      "1.2..4", "0x1.2.3.4"})
        EXPECT_FALSE(Ip4::parse(text)) << text;
    EXPECT_EQ(IpAddress::parse("2001:db8::7")->text(), "2001:db8::7");
    EXPECT_EQ(IpAddress::parse("192.0.2.1")->text(), "192.0.2.1");
    for (auto text : {"fe80::1%eth0", "::g", "[::1]", ":", ""}) EXPECT_FALSE(IpAddress::parse(text)) << text;
    EXPECT_FALSE(IpAddress::parse(std::string_view("::1\0x", 5)));
    EXPECT_EQ(Mac({{2, 0x4e, 0x42, 1, 0, 0xab}}).text(), "02:4e:42:01:00:ab");
}

TEST(Address, Prefixes) {
    auto prefix = Prefix4::parse("192.0.2.7/24").value();
    EXPECT_EQ(prefix.text(), "192.0.2.7/24");
    EXPECT_TRUE(prefix.contains(*Ip4::parse("192.0.2.255")));
    EXPECT_FALSE(prefix.contains(*Ip4::parse("192.0.3.0")));
    EXPECT_TRUE(Prefix4::parse("0.0.0.0/0")->contains(*Ip4::parse("203.0.113.1")));
    for (auto text : {"192.0.2.7", "192.0.2.7/33", "192.0.2.7/", "/24", "192.0.2.7/-1"})
        EXPECT_FALSE(Prefix4::parse(text)) << text;
    EXPECT_EQ(prefix_length(0xffffff00), 24);
    EXPECT_EQ(prefix_length(0), 0);
    EXPECT_EQ(prefix_length(UINT32_MAX), 32);
    EXPECT_FALSE(prefix_length(0xff00ff00));
}

TEST(TapLink, EveryAddressBelongsToOneSlot) {
    for (unsigned slot = 0; slot < kMaxSlots; slot++) {
        auto link = tap_link(slot);
        for (auto address : {link.gateway, link.guest, link.first_synthetic, link.last_synthetic})
            EXPECT_EQ(slot_of(address), slot);
        EXPECT_EQ(slot_of(Ip4{link.last_synthetic.value + 1}),
                  slot + 1 < kMaxSlots ? std::optional(slot + 1) : std::nullopt);
        EXPECT_FALSE(link.is_synthetic(link.gateway));
        EXPECT_FALSE(link.is_synthetic(link.guest));
        EXPECT_TRUE(link.is_synthetic(link.first_synthetic) && link.is_synthetic(link.last_synthetic));
        EXPECT_EQ(slot_of_tap(link.name), slot);
    }
    EXPECT_EQ(tap_link(3).guest.text(), "198.18.12.2");
    EXPECT_FALSE(slot_of(*Ip4::parse("198.17.255.255")));
    EXPECT_FALSE(slot_of(*Ip4::parse("198.20.0.0")));
}

TEST(TapLink, OnlyOurNamesAreTaps) {
    for (auto name : {"eth0", "nbtap", "nbtap128", "nbtap07", "nbtap-1", "nbtap1x", "xnbtap1"})
        EXPECT_FALSE(slot_of_tap(name)) << name;
}

TEST(Address, Ipv6AndItsPrefixes) {
    auto six = [](std::string_view text) { return Ip6::parse(text).value(); };
    auto net = Prefix6::parse("2001:db8:0:1::7/63").value();
    EXPECT_EQ(net.text(), "2001:db8:0:1::7/63");
    EXPECT_TRUE(net.contains(six("2001:db8::9")));
    EXPECT_FALSE(net.contains(six("2001:db8:0:2::7")));
    EXPECT_TRUE((Prefix6{six("::"), 0}.contains(six("ff02::1"))));
    EXPECT_FALSE((Prefix6{six("fe80::1"), 128}.contains(six("fe80::2"))));
    for (auto text :
         {"192.0.2.1/24", "2001:db8::7", "2001:db8::7/129", "2001:db8::7/", "2001:db8::7%eth0/64"})
        EXPECT_FALSE(Prefix6::parse(text)) << text;
    EXPECT_FALSE(Ip6::parse("192.0.2.1"));
    EXPECT_TRUE(six("febf::1").link_local());
    EXPECT_FALSE(six("fec0::1").link_local());
    for (auto text : {"2001:db8::1", "2606:4700::1", "3fff::1", "fd00::1"})
        EXPECT_TRUE(six(text).global_unicast()) << text;
    for (auto text : {"::", "::1", "::ffff:198.18.0.1", "64:ff9b::c612:1", "2002:c612:1::1", "2001:0:1::1",
                      "fe80::1", "fec0::1", "ff02::1", "100::1"})
        EXPECT_FALSE(six(text).global_unicast()) << text;
}

} // namespace
} // namespace nullbox::egress
