// IPv6 of the uplink, sockets, firewall and kernel included: real advertisements from the LAN, and what
// somebody on it, or in an agent, may send instead.
#include <algorithm>
#include <cerrno>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/text.h"
#include "egress/net/box_for_test.h"
#include "egress/net/router_advert.h"

namespace nullbox::egress {
using namespace test;
namespace {

Ip6 six(std::string_view text) { return Ip6::parse(text).value(); }

RouterAdvert advert(std::string_view prefix = "2001:db8:1::", uint32_t valid_s = 3600,
                    uint16_t lifetime_s = 1800) {
    return {.lifetime_s = lifetime_s,
            .prefixes = {{.prefix = {six(prefix), 64},
                          .on_link = true,
                          .autonomous = true,
                          .valid_s = valid_s,
                          .preferred_s = valid_s}},
            .servers = {{.addresses = {six("2001:db8:1::1"), six("fe80::1")}, .lifetime_s = 600}}};
}

class Ipv6Uplink : public BoxTest {
protected:
    void SetUp() override {
        BoxTest::SetUp();
        if (IsSkipped()) return;
        // The check for duplicates takes seconds; one test has it.
        run("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
        // As nulld sets it: a kernel that listens asks, too, and what it is told does not reach us.
        run("sysctl -qw net.ipv6.conf.default.accept_ra=0");
        world_->plug_in("eth0", "02:00:00:00:00:09");
        world_->in_lan([&] {
            // Its own link-local address is a second one, so that ours is a known one.
            run("ip addr add fe80::1/64 dev lan0 nodad && ip addr add 2001:db8:1::1/64 dev lan0 nodad && "
                "ip addr add 2001:db8:1::7777/64 dev lan0 nodad");
            socket_ = Fd(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6));
            lan_ = ::if_nametoindex("lan0");
            ipv6_mreq routers{.ipv6mr_multiaddr = six_to_kernel("ff02::2"), .ipv6mr_interface = lan_};
            ::setsockopt(socket_.get(), IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &routers, sizeof routers);
            icmp6_filter filter{};
            ICMP6_FILTER_SETBLOCKALL(&filter);
            ICMP6_FILTER_SETPASS(ND_ROUTER_SOLICIT, &filter);
            ::setsockopt(socket_.get(), IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter);
        });
    }
    struct From {
        std::string_view source = "fe80::1";
        int hop_limit = 255;
    };
    // To all nodes (ff02::1).
    void announce(std::span<const std::byte> bytes, const From& from) {
        int hops = from.hop_limit;
        ::setsockopt(socket_.get(), IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops);
        sockaddr_in6 to{};
        to.sin6_family = AF_INET6;
        to.sin6_addr = six_to_kernel("ff02::1");
        to.sin6_scope_id = lan_;
        in6_pktinfo info{.ipi6_addr = six_to_kernel(from.source), .ipi6_ifindex = lan_};
        iovec piece{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof info)> control{};
        msghdr message{};
        message.msg_name = &to;
        message.msg_namelen = sizeof to;
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        auto* part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = IPPROTO_IPV6;
        part->cmsg_type = IPV6_PKTINFO;
        part->cmsg_len = CMSG_LEN(sizeof info);
        std::memcpy(CMSG_DATA(part), &info, sizeof info);
        ASSERT_EQ(::sendmsg(socket_.get(), &message, 0), static_cast<ssize_t>(bytes.size()))
            << errno_error(from.source).message;
    }
    void announce(const RouterAdvert& one, const From& from) { announce(encode(one), from); }
    void announce(const RouterAdvert& one) { announce(one, From{}); }

    void start_ipv6(bool with_ipv4 = false) {
        auto config = static_config();
        if (!with_ipv4) {
            config.address.reset();
            config.gateway.reset();
        }
        start(config);
    }
    bool solicited() { return receive_now(socket_.get()).has_value(); }
    bool has_address(std::string_view text) {
        return wait([&] { return std::ranges::count(status().addresses, *IpAddress::parse(text)) == 1; });
    }
    static in6_addr six_to_kernel(std::string_view text) {
        in6_addr out{};
        std::ranges::copy(six(text).bytes, out.s6_addr);
        return out;
    }
    static std::string kernel_says() { return run("ip -6 addr show dev eth0; ip -6 route"); }
    static constexpr std::string_view kOurs = "2001:db8:1::ff:fe00:9"; // of 02:00:00:00:00:09

    Fd socket_; // in the LAN
    unsigned lan_ = 0;
};

TEST_F(Ipv6Uplink, AnAnnouncementBringsTheBoxOnline) {
    start_ipv6();
    ASSERT_TRUE(wait([&] { return solicited(); })) << "it asks";
    EXPECT_FALSE(status().online());
    announce(advert());
    ASSERT_TRUE(wait([&] { return status().online(); }));
    EXPECT_TRUE(status().online6());
    EXPECT_FALSE(status().online4());
    EXPECT_TRUE(has_address(kOurs));
    EXPECT_EQ(status().gateway6, six("fe80::1"));
    EXPECT_EQ(status().dns_servers,
              (std::vector{*IpAddress::parse("2001:db8:1::1"), *IpAddress::parse("fe80::1")}));
    EXPECT_EQ(status().uplink.state, "IPv6 by router advertisement");
    EXPECT_TRUE(status().problems.empty()) << status().problems[0];
    auto said = kernel_says();
    EXPECT_TRUE(said.contains("inet6 2001:db8:1::ff:fe00:9/64 scope global")) << said;
    EXPECT_TRUE(said.contains("default via fe80::1 dev eth0 proto ra")) << said;
    EXPECT_TRUE(said.contains("expires 1")) << said; // 1799 s or so
    EXPECT_FALSE(said.contains("valid_lft forever preferred_lft forever\n    inet6 2001")) << said;
    // And the packets go: out by egress's socket, through the router to somewhere else, and back.
    world_->in_lan([] { run("ip addr add 2001:db8:99::9/128 dev lan0 nodad"); });
    auto there = world_->in_lan([&] { return udp6("2001:db8:99::9", 7777); });
    auto here = udp6("::", 0);
    EXPECT_TRUE(send6(here.get(), "2001:db8:99::9", 7777, "out"));
    EXPECT_TRUE(wait([&] { return receive_now(there.get()).has_value(); }));
}

TEST_F(Ipv6Uplink, AStaticAddressNeedsNoRoutersWord) {
    auto config = static_config();
    config.address6 = Prefix6::parse("2001:db8:1::2/64");
    config.gateway6 = six("2001:db8:1::1");
    run("sysctl -qw net.ipv6.conf.eth0.accept_ra=1"); // which we may change here, and must
    start(config);
    ASSERT_TRUE(has_address("2001:db8:1::2"));
    EXPECT_TRUE(status().online4() && status().online6());
    EXPECT_EQ(status().uplink.state, "static address, static IPv6 address");
    announce(advert("2001:db8:5::"));
    turn(*loop_, std::chrono::milliseconds(300));
    auto said = kernel_says();
    EXPECT_TRUE(said.contains("default via 2001:db8:1::1 dev eth0 proto static")) << said;
    EXPECT_FALSE(said.contains("2001:db8:5:")) << "the kernel took it";
    config = static_config();
    config.router_advertisements = false;
    network_.reset();
    start(config);
    ASSERT_TRUE(wait([&] { return status().online(); }));
    EXPECT_FALSE(kernel_says().contains("2001:db8:1:")) << "switched off, nothing is left";
    EXPECT_FALSE(kernel_says().contains("default via"));
}

// Controls: the firewall's rule (hop limit, source), and parse_router_advert() behind it.
TEST_F(Ipv6Uplink, WhatIsNotFromTheLinkDoesNothing) {
    start_ipv6();
    ASSERT_TRUE(wait([&] { return solicited(); }));
    announce(advert(), {.hop_limit = 254});
    announce(advert(), {.source = "2001:db8:1::1"});
    auto bytes = encode(advert());
    announce(std::span(bytes).first(bytes.size() - 3), {});
    announce(advert("fe80::"));
    announce(advert("ff05::"));
    announce(advert("::ffff:198.18.12.0"));
    announce(advert("64:ff9b::c612:0"));
    turn(*loop_, std::chrono::milliseconds(1500));
    EXPECT_FALSE(status().online());
    auto said = run("ip -6 addr show dev eth0 scope global");
    EXPECT_FALSE(said.contains("inet6")) << said;
    announce(advert());
    EXPECT_TRUE(wait([&] { return status().online(); })) << "and the right one still counts";
}

TEST_F(Ipv6Uplink, AnAgentIsNoRouter) {
    start_ipv6();
    auto guest = attach(3);
    ASSERT_TRUE(wait([&] { return solicited(); }));
    // Ethernet, IPv6 and ICMPv6 by hand, with a right checksum.
    auto message = encode(advert());
    std::vector<std::byte> packet(40 + message.size());
    packet[0] = std::byte{0x60};
    packet[5] = static_cast<std::byte>(message.size());
    packet[6] = std::byte{IPPROTO_ICMPV6};
    packet[7] = std::byte{255};
    auto put = [&](size_t at, std::string_view text) {
        auto address = six(text);
        std::memcpy(packet.data() + at, address.bytes.data(), address.bytes.size());
    };
    put(8, "fe80::2");
    put(24, "ff02::1");
    std::ranges::copy(message, packet.begin() + 40);
    uint32_t sum = static_cast<uint32_t>(message.size()) + IPPROTO_ICMPV6;
    for (size_t i = 8; i < packet.size(); i += 2)
        sum += std::to_integer<uint32_t>(packet[i]) << 8 | std::to_integer<uint32_t>(packet[i + 1]);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    packet[42] = static_cast<std::byte>(~sum >> 8);
    packet[43] = static_cast<std::byte>(~sum);
    for (int i = 0; i < 3; i++) guest.send_ethernet(0x86dd, packet);
    turn(*loop_, std::chrono::milliseconds(1500));
    EXPECT_FALSE(status().online());
    EXPECT_FALSE(run("ip -6 addr").contains("2001:db8")) << "on no link";
    EXPECT_FALSE(run("ip -6 route").contains("default"));
    EXPECT_EQ(network_->counters(3)->dropped_packets, 3u);
}

TEST_F(Ipv6Uplink, AFloodOfPrefixesIsAFewAddresses) {
    start_ipv6(true);
    ASSERT_TRUE(wait([&] { return solicited(); }));
    for (int i = 1; i <= 200; i++) {
        announce(advert(cat("2001:db8:", i, "::")));
        if (i % 10 == 0) turn(*loop_, std::chrono::milliseconds(5));
    }
    ASSERT_TRUE(wait([&] { return status().online6(); }));
    turn(*loop_, std::chrono::milliseconds(1500));
    auto said = run("ip -6 -o addr show dev eth0 scope global");
    EXPECT_EQ(std::ranges::count(said, '\n'), static_cast<std::ptrdiff_t>(4)) << said;
    ASSERT_EQ(status().problems.size(), 1u);
    EXPECT_TRUE(status().problems[0].contains("more is announced")) << status().problems[0];
    EXPECT_TRUE(status().online4());
}

TEST_F(Ipv6Uplink, ARouterThatLeavesTakesTheRouteAlong) {
    start_ipv6();
    ASSERT_TRUE(wait([&] { return solicited(); }));
    announce(advert());
    ASSERT_TRUE(wait([&] { return status().online(); }));
    announce(advert("2001:db8:1::", 3600, 0));
    ASSERT_TRUE(wait([&] { return !status().online(); }));
    EXPECT_FALSE(run("ip -6 route").contains("default"));
    EXPECT_TRUE(has_address(kOurs)) << "the address is still good on the link";
    // A prefix that ends.
    announce(advert("2001:db8:1::", 0));
    turn(*loop_, std::chrono::milliseconds(1200));
    auto said = run("ip -6 addr show dev eth0");
    EXPECT_TRUE(said.contains("valid_lft 3") || said.contains("valid_lft 2")) << "no less: " << said;
}

TEST_F(Ipv6Uplink, AnAddressThatSomebodyElseHasIsSaidToBeSo) {
    run("sysctl -qw net.ipv6.conf.all.accept_dad=1");
    world_->in_lan([] { run("ip addr add 2001:db8:1::ff:fe00:9/64 dev lan0 nodad"); });
    start_ipv6();
    ASSERT_TRUE(wait([&] { return solicited(); }));
    announce(advert());
    auto said = [&] { return !status().problems.empty(); };
    ASSERT_TRUE(wait_until(*loop_, said, std::chrono::seconds(10)));
    EXPECT_TRUE(status().problems[0].contains(cat(kOurs, " is in use by another machine")))
        << status().problems[0];
    EXPECT_FALSE(status().online());
}

TEST_F(Ipv6Uplink, WhatIsLeftFromBeforeGoes) {
    run("ip link set eth0 up; ip addr add 2001:db8:77::7/64 dev eth0 nodad");
    start_ipv6();
    EXPECT_TRUE(wait([&] { return !kernel_says().contains("2001:db8:77::7"); }));
}

} // namespace
} // namespace nullbox::egress
