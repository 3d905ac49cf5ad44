#include "egress/address_class.h"

#include <gtest/gtest.h>

namespace nullbox::egress {

using enum AddressClass;

struct AddressCase {
    const char* address;
    AddressClass kind;
};

TEST(AddressClass, KnowsEachSpecialRangeAndItsEdges) {
    for (const auto& [text, kind] : std::vector<AddressCase>{{"8.8.8.8", Public},
                                                             {"1.0.0.0", Public},
                                                             {"0.0.0.0", Unspecified},
                                                             {"0.1.2.3", Unspecified},
                                                             {"9.255.255.255", Public},
                                                             {"10.0.0.0", Private},
                                                             {"10.255.255.255", Private},
                                                             {"11.0.0.0", Public},
                                                             {"100.63.255.255", Public},
                                                             {"100.64.0.0", Shared},
                                                             {"100.127.255.255", Shared},
                                                             {"100.128.0.0", Public},
                                                             {"100.100.100.200", Metadata},
                                                             {"127.0.0.1", Loopback},
                                                             {"127.255.255.254", Loopback},
                                                             {"128.0.0.0", Public},
                                                             {"169.254.0.1", LinkLocal},
                                                             {"169.254.169.254", Metadata},
                                                             {"169.254.170.2", Metadata},
                                                             {"168.63.129.16", Metadata},
                                                             {"172.15.255.255", Public},
                                                             {"172.16.0.0", Private},
                                                             {"172.31.255.255", Private},
                                                             {"172.32.0.0", Public},
                                                             {"192.0.0.1", Reserved},
                                                             {"192.0.2.7", Documentation},
                                                             {"192.88.99.1", Reserved},
                                                             {"192.168.0.1", Private},
                                                             {"192.169.0.0", Public},
                                                             {"198.17.255.255", Public},
                                                             {"198.18.0.1", Benchmarking},
                                                             {"198.19.255.255", Benchmarking},
                                                             {"198.20.0.0", Public},
                                                             {"198.51.100.1", Documentation},
                                                             {"203.0.113.255", Documentation},
                                                             {"223.255.255.255", Public},
                                                             {"224.0.0.1", Multicast},
                                                             {"239.255.255.255", Multicast},
                                                             {"240.0.0.1", Reserved},
                                                             {"255.255.255.254", Reserved},
                                                             {"255.255.255.255", Broadcast},
                                                             {"::", Unspecified},
                                                             {"::1", Loopback},
                                                             {"::ffff:8.8.8.8", Embedded},
                                                             {"::ffff:127.0.0.1", Embedded},
                                                             {"::8.8.8.8", Embedded},
                                                             {"64:ff9b::808:808", Embedded},
                                                             {"64:ff9b:1::1", Embedded},
                                                             {"2002:7f00:1::", Embedded},
                                                             {"2001::1", Embedded},
                                                             {"2001:2::1", Benchmarking},
                                                             {"2001:20::1", Reserved},
                                                             {"2001:db8::7", Documentation},
                                                             {"3fff::1", Documentation},
                                                             {"100::1", Reserved},
                                                             {"fc00::1", Private},
                                                             {"fd12:3456::1", Private},
                                                             {"fd00:ec2::254", Metadata},
                                                             {"fe80::1", LinkLocal},
                                                             {"fec0::1", Private},
                                                             {"ff02::1", Multicast},
                                                             {"2606:4700::1111", Public},
                                                             {"2a00::1", Public},
                                                             {"4000::1", Reserved},
                                                             {"1::1", Reserved}}) {
        auto address = IpAddress::parse(text);
        ASSERT_TRUE(address) << text;
        EXPECT_EQ(classify(*address), kind) << text << " is " << describe(classify(*address));
    }
}

// Control: may_dial(). Without it every name could point into the box's own network.
TEST(AddressClass, OnlyPublicAddressesAreDialledUnlessTheManifestOpensThem) {
    auto dial = [](const char* text, bool private_allowed) {
        std::vector<OwnAddress> own{{*IpAddress::parse("203.0.113.9"), 24},
                                    {*IpAddress::parse("192.168.1.2"), 24},
                                    {*IpAddress::parse("9.8.7.2"), 22},
                                    {*IpAddress::parse("2a00:1:2:3::9"), 64}};
        return may_dial(*IpAddress::parse(text), private_allowed, own);
    };
    EXPECT_TRUE(dial("8.8.8.8", false).allowed);
    EXPECT_TRUE(dial("2606:4700::1111", false).allowed);
    for (auto text : {"10.0.0.1", "192.168.1.1", "100.64.0.1", "192.0.2.1", "fd12::1"}) {
        EXPECT_FALSE(dial(text, false).allowed) << text;
        EXPECT_TRUE(dial(text, true).allowed) << text;
    }
    for (auto text : {"127.0.0.1", "169.254.169.254", "100.100.100.200", "169.254.1.1", "224.0.0.1",
                      "0.0.0.0", "255.255.255.255", "240.0.0.1", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
                      "2002:a00:1::", "fe80::1", "fd00:ec2::254", "198.18.0.1", "198.19.7.7"})
        EXPECT_FALSE(dial(text, true).allowed) << text;
    for (auto text : {"203.0.113.9", "192.168.1.2", "9.8.7.2", "2a00:1:2:3::9"}) {
        EXPECT_FALSE(dial(text, true).allowed) << text;
        EXPECT_EQ(dial(text, true).kind, Own);
    }
    for (auto text : {"2a00:1:2:3::a", "2a00:1:2:3:ffff::1"}) {
        EXPECT_FALSE(dial(text, false).allowed) << text;
        EXPECT_TRUE(dial(text, true).allowed) << text;
        EXPECT_EQ(dial(text, true).kind, Neighbour);
    }
    for (auto text : {"2a00:1:2:4::9", "2a00:1:2:2::9", "9.8.7.3"})
        EXPECT_TRUE(dial(text, false).allowed) << text;
}

} // namespace nullbox::egress
