#include "egress/net/router_discovery.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace nullbox::egress {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

Ip6 six(std::string_view text) { return Ip6::parse(text).value(); }

class RouterDiscoveryTest : public testing::Test {
protected:
    RouterDiscoveryTest() { discovery_.start(now_); }
    RouterActions receive(const RouterAdvert& advert, std::string_view router = "fe80::1") {
        return discovery_.receive(now_, six(router), advert);
    }
    // Whatever is due on the way happens; the last of it.
    RouterActions wait(Clock::duration time) {
        auto end = now_ + time;
        RouterActions last;
        while (discovery_.next() <= end) {
            now_ = std::max(now_, discovery_.next());
            last = discovery_.tick(now_);
            if (last.solicit) solicitations_++;
        }
        now_ = end;
        return last;
    }
    static RouterAdvert advert(std::string_view prefix = "2001:db8:1::", uint32_t valid_s = 86'400,
                               uint32_t preferred_s = 14'400) {
        return {.lifetime_s = 1800,
                .prefixes = {{.prefix = {six(prefix), 64},
                              .on_link = true,
                              .autonomous = true,
                              .valid_s = valid_s,
                              .preferred_s = preferred_s}}};
    }
    std::string addresses() const {
        std::string out;
        for (const auto& one : discovery_.setup().addresses) out += cat(one.address.text(), " ");
        return out;
    }
    Clock::duration valid_for() const { return discovery_.setup().addresses.at(0).valid_until - now_; }

    Clock::time_point now_{seconds(100'000)};
    RouterDiscovery discovery_{Mac{{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}}, [] { return 500u; }};
    int solicitations_ = 0;
};

TEST_F(RouterDiscoveryTest, AsksThreeTimesAndThenListens) {
    EXPECT_EQ(discovery_.next(), now_ + milliseconds(500));
    EXPECT_FALSE(wait(milliseconds(499)).solicit);
    EXPECT_TRUE(wait(milliseconds(1)).solicit);
    EXPECT_FALSE(wait(milliseconds(3999)).solicit);
    EXPECT_TRUE(wait(milliseconds(1)).solicit);
    wait(hours(1));
    EXPECT_EQ(solicitations_, 3);
    EXPECT_EQ(discovery_.next(), Clock::time_point::max());
    EXPECT_TRUE(receive(advert()).changed);
    EXPECT_EQ(addresses(), "2001:db8:1:0:11:22ff:fe33:4455/64 ");
}

TEST_F(RouterDiscoveryTest, WhatCouldNotBeSentIsSentAgain) {
    wait(milliseconds(500));
    EXPECT_EQ(solicitations_, 1);
    discovery_.not_sent(now_);
    wait(seconds(1));
    EXPECT_EQ(solicitations_, 2);
    wait(hours(1));
    EXPECT_EQ(solicitations_, 4) << "three of them were sent";
}

TEST_F(RouterDiscoveryTest, AnAnnouncementIsAnAddressARouterAndServers) {
    auto full = advert();
    full.servers = {{.addresses = {six("2001:db8:1::53"), six("fe80::1"), six("ff02::1"), six("::1")},
                     .lifetime_s = 600}};
    full.mtu = 1400;
    auto actions = receive(full);
    EXPECT_TRUE(actions.changed);
    EXPECT_EQ(actions.problem, "");
    const auto& setup = discovery_.setup();
    ASSERT_EQ(setup.addresses.size(), 1u);
    EXPECT_TRUE(setup.addresses[0].on_link);
    EXPECT_EQ(setup.addresses[0].valid_until, now_ + seconds(86'400));
    EXPECT_EQ(setup.addresses[0].preferred_until, now_ + seconds(14'400));
    EXPECT_EQ(setup.router, six("fe80::1"));
    EXPECT_EQ(setup.router_until, now_ + seconds(1800));
    EXPECT_EQ(setup.dns_servers, (std::vector{six("2001:db8:1::53"), six("fe80::1")}));
    EXPECT_EQ(setup.mtu, 1400u);
    EXPECT_FALSE(receive(full).changed) << "the same again";
    wait(seconds(10));
    EXPECT_EQ(solicitations_, 0) << "nobody needs to be asked";
    EXPECT_TRUE(receive(full).changed) << "for longer";
    wait(seconds(600));
    EXPECT_TRUE(discovery_.setup().dns_servers.empty());
    wait(seconds(1200));
    EXPECT_FALSE(discovery_.setup().router);
    EXPECT_EQ(discovery_.setup().addresses.size(), 1u);
    wait(seconds(86'400));
    EXPECT_TRUE(discovery_.setup().addresses.empty());
}

TEST_F(RouterDiscoveryTest, NonsenseIsPassedOver) {
    for (auto prefix : {"fe80::", "ff02::", "::", "::1", "::ffff:198.18.0.0",
                        "64:ff9b::", "2002:c612:1::", "2001:0:1::", "fec0::"})
        receive(advert(prefix));
    receive(advert("2001:db8:1::", 0, 0));
    receive(advert("2001:db8:1::", 100, 200));
    auto other = advert();
    other.prefixes[0].prefix.length = 63;
    receive(other);
    other.prefixes[0].prefix.length = 65;
    receive(other);
    other.prefixes[0].prefix.length = 64;
    other.prefixes[0].autonomous = false;
    other.mtu = 1279;
    receive(other);
    EXPECT_EQ(addresses(), "");
    EXPECT_FALSE(discovery_.setup().mtu);
    EXPECT_TRUE(discovery_.setup().router) << "which is a router all the same";
    receive(advert("fd00:1::"));
    EXPECT_EQ(addresses(), "fd00:1::11:22ff:fe33:4455/64 ");
}

// Control: the bounds kMaxPrefixes, kMaxRouters, kMaxServers6.
TEST_F(RouterDiscoveryTest, AFloodIsAFewThings) {
    RouterActions last;
    for (int i = 1; i <= 1000; i++) {
        auto one = advert(cat("2001:db8:", i, "::"));
        one.servers = {{.addresses = {six(cat("2001:db8:", i, "::53"))}, .lifetime_s = 600}};
        last = receive(one, cat("fe80::", i));
    }
    EXPECT_EQ(discovery_.setup().addresses.size(), kMaxPrefixes);
    EXPECT_EQ(discovery_.setup().dns_servers.size(), kMaxServers6);
    EXPECT_EQ(discovery_.setup().router, six("fe80::1")) << "the first stays";
    EXPECT_TRUE(last.problem.contains("more is announced")) << last.problem;
    EXPECT_EQ(wait(minutes(11)).problem, "");
}

// RFC 4862 section 5.5.3 e. Control: the branch with kTwoHours.
TEST_F(RouterDiscoveryTest, NobodyTakesAnAddressAwayInAHurry) {
    receive(advert("2001:db8:1::", 86'400, 86'400));
    receive(advert("2001:db8:1::", 0, 0));
    EXPECT_EQ(valid_for(), hours(2));
    EXPECT_EQ(discovery_.setup().addresses[0].preferred_until, now_) << "but no longer preferred";
    wait(hours(1));
    receive(advert("2001:db8:1::", 60, 60));
    EXPECT_EQ(valid_for(), hours(1)) << "of two hours or less nothing is taken away";
    receive(advert("2001:db8:1::", 3700, 60));
    EXPECT_EQ(valid_for(), seconds(3700)) << "more is given";
    receive(advert("2001:db8:1::", 10'000, 60));
    EXPECT_EQ(valid_for(), seconds(10'000));
    receive(advert("2001:db8:1::", 7201, 60));
    EXPECT_EQ(valid_for(), seconds(7201)) << "above two hours it is as they say";
    receive(advert("2001:db8:1::", kAdvertForEver, kAdvertForEver));
    EXPECT_EQ(discovery_.setup().addresses[0].valid_until, Clock::time_point::max());
    receive(advert("2001:db8:1::", 0, 0));
    EXPECT_EQ(valid_for(), hours(2));
}

TEST_F(RouterDiscoveryTest, ARouterThatLeavesIsNoRouter) {
    receive(advert());
    RouterAdvert second{.lifetime_s = 9000};
    receive(second, "fe80::2");
    EXPECT_EQ(discovery_.setup().router, six("fe80::1")) << "as good as the first is not better";
    EXPECT_TRUE(receive(RouterAdvert{.lifetime_s = 0}).changed);
    EXPECT_EQ(discovery_.setup().router, six("fe80::2"));
    EXPECT_EQ(discovery_.setup().addresses.size(), 1u) << "the address stays";
    receive(RouterAdvert{.lifetime_s = 0}, "fe80::2");
    EXPECT_FALSE(discovery_.setup().router);
}

TEST_F(RouterDiscoveryTest, TheBestRouterIsUsed) {
    receive({.lifetime_s = 1800, .preference = -1}, "fe80::1");
    receive({.lifetime_s = 1800, .preference = 0}, "fe80::2");
    EXPECT_EQ(discovery_.setup().router, six("fe80::2"));
    receive({.lifetime_s = 1800, .preference = 1}, "fe80::3");
    EXPECT_EQ(discovery_.setup().router, six("fe80::3"));
    receive({.lifetime_s = 1800, .preference = -1}, "fe80::3");
    EXPECT_EQ(discovery_.setup().router, six("fe80::2"));
}

TEST_F(RouterDiscoveryTest, AServerIsTakenBack) {
    auto one = advert();
    one.servers = {{.addresses = {six("2001:db8::53")}, .lifetime_s = kAdvertForEver}};
    receive(one);
    EXPECT_EQ(discovery_.setup().dns_servers.size(), 1u);
    one.servers[0].lifetime_s = 0;
    receive(one);
    EXPECT_TRUE(discovery_.setup().dns_servers.empty());
}

TEST_F(RouterDiscoveryTest, AnAddressInUseIsTriedAgainLater) {
    receive(advert());
    auto address = discovery_.setup().addresses[0].address.address;
    EXPECT_TRUE(discovery_.in_use(now_, address).changed);
    EXPECT_EQ(addresses(), "");
    wait(seconds(60));
    receive(advert());
    EXPECT_EQ(addresses(), "") << "whatever is announced meanwhile";
    wait(minutes(4));
    EXPECT_EQ(addresses(), "2001:db8:1:0:11:22ff:fe33:4455/64 ");
}

TEST_F(RouterDiscoveryTest, AfterTheCableWasOutTheOldCountsUntilNobodyAnswers) {
    receive(advert());
    receive(advert("2001:db8:2::"), "fe80::2");
    discovery_.stop();
    EXPECT_FALSE(receive(advert("2001:db8:3::")).changed) << "without a link nothing is heard";
    wait(seconds(60));
    EXPECT_EQ(solicitations_, 0);
    discovery_.start(now_);
    EXPECT_EQ(discovery_.setup().addresses.size(), 2u);
    wait(seconds(1));
    EXPECT_EQ(solicitations_, 1);
    receive(advert("2001:db8:2::"), "fe80::2");
    wait(seconds(12));
    EXPECT_EQ(addresses(), "2001:db8:2:0:11:22ff:fe33:4455/64 ");
    EXPECT_EQ(discovery_.setup().router, six("fe80::2"));
}

TEST_F(RouterDiscoveryTest, ANetworkWithDhcpv6OnlyIsSaidToBeSo) {
    RouterAdvert managed{.lifetime_s = 1800, .managed = true};
    EXPECT_TRUE(receive(managed).problem.contains("DHCPv6 only"));
    managed.prefixes = advert().prefixes;
    EXPECT_EQ(receive(managed).problem, "");
}

} // namespace
} // namespace nullbox::egress
