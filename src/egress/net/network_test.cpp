// The whole of Network against independent readers (nft, ip): what is loaded, what happens when it cannot be,
// when cards come late and go, and after a restart.
#include "egress/net/network.h"

#include <algorithm>
#include <linux/netlink.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "egress/net/box_for_test.h"
#include "egress/net/netlink_socket.h"
#include "egress/net/rules.h"

namespace nullbox::egress {
using namespace test;
namespace {

class NetworkTest : public BoxTest {
protected:
    void start_online() {
        world_->plug_in("eth0");
        start(static_config());
        ASSERT_TRUE(wait([&] { return status().online(); }));
    }
};

// As nft(8) reads them back out of the kernel: the whole policy on a page.
constexpr std::string_view kRules = R"(table inet nullbox {
	counter dns_3 {
	}

	counter proxy_3 {
	}

	counter dropped_3 {
	}

	set taps {
		type ifname
		elements = { "nbtap3" }
	}

	set uplinks {
		type ifname
		elements = { "eth0" }
	}

	map agent_of {
		type ifname : verdict
		elements = { "nbtap3" : goto agent_3 }
	}

	set literals_3 {
		type ipv4_addr . inet_service
		size 256
		elements = { 203.0.113.7 . 22 }
	}

	chain untracked_in {
		type filter hook prerouting priority raw; policy accept;
		iifname @taps udp dport 53 notrack comment "agents' questions"
	}

	chain untracked_out {
		type filter hook output priority raw; policy accept;
		oifname @taps udp sport 53 notrack comment "answers to them"
	}

	chain arriving {
		type filter hook prerouting priority mangle; policy accept;
		iifname vmap @agent_of comment "each agent's own rules"
	}

	chain input {
		type filter hook input priority filter; policy drop;
		iifname @taps goto from_agents comment "agents"
		iifname @uplinks goto from_uplink comment "the outside"
		counter drop comment "nobody else, loopback neither"
	}

	chain forward {
		type filter hook forward priority filter; policy drop;
		counter drop comment "nothing passes through"
	}

	chain output {
		type filter hook output priority filter; policy drop;
		oifname @taps goto to_agents comment "agents"
		oifname @uplinks goto to_uplink comment "the outside"
		counter drop comment "nobody else, loopback neither"
	}

	chain from_agents {
		meta mark 0x00004e42 meta l4proto tcp accept comment "to the proxy"
		meta mark 0x00004e43 accept comment "to the resolver"
		counter drop comment "what no agent's rules let in"
	}

	chain to_agents {
		ip saddr 198.18.0.0/15 udp sport 53 meta skuid UID accept comment "the resolver's answers"
		ct state established,related accept comment "answers"
		counter drop comment "nobody opens a connection to an agent"
	}

	chain from_uplink {
		ip saddr 198.18.0.0/15 counter drop comment "nobody outside has our agents' addresses"
		ip daddr 198.18.0.0/15 counter drop comment "nor may speak to them"
		ct state established,related accept comment "answers"
		tcp dport 8443 ct state new accept comment "gate"
		meta nfproto ipv4 udp sport 67 udp dport 68 accept comment "DHCP answers"
		icmp type echo-request limit rate 10/second burst 10 packets accept comment "ping"
		icmpv6 type echo-request limit rate 10/second burst 10 packets accept comment "IPv6 ping"
		icmpv6 type nd-router-advert ip6 hoplimit 255 ip6 saddr fe80::/10 accept comment "IPv6 routers"
		icmpv6 type 135-136 ip6 hoplimit 255 accept comment "IPv6 neighbours"
		icmpv6 type mld-listener-query ip6 hoplimit 1 ip6 saddr fe80::/10 limit rate 10/second burst 10 packets accept comment "who listens to which IPv6 group"
		counter drop comment "all else"
	}

	chain to_uplink {
		ip daddr 198.18.0.0/15 counter drop comment "synthetic addresses mean nothing outside"
		ip saddr 198.18.0.0/15 counter drop comment "nor do agents' own"
		ct state established accept comment "answers"
		meta l4proto tcp meta skuid UID accept comment "egress, and nobody else"
		meta l4proto udp meta skuid UID accept comment "egress, and nobody else"
		icmpv6 type nd-router-solicit ip6 hoplimit 255 accept comment "IPv6 routers"
		icmpv6 type 135-136 ip6 hoplimit 255 accept comment "IPv6 neighbours"
		icmpv6 type 131-132 accept comment "IPv6 groups we listen to"
		icmpv6 type mld2-listener-report accept comment "the same, version 2"
		counter drop comment "all else"
	}

	chain agent_3_may {
		ip daddr 198.18.12.1 udp dport 53 limit rate 200/second burst 400 packets meta mark set 0x00004e43 counter name "dns_3" accept comment "questions"
		tcp flags syn / fin,syn,rst,ack limit rate over 100/second burst 400 packets return comment "new connections too fast"
		ct state new ct count over 1024 return comment "too many connections"
		ip daddr 198.18.12.1 tcp dport 53 meta mark set 0x00004e43 counter name "dns_3" accept comment "questions over TCP"
		ip daddr 198.18.12.4-198.18.15.255 meta l4proto tcp tproxy ip to 127.0.0.1:15001 meta mark set 0x00004e42 counter name "proxy_3" accept comment "names"
		ip daddr . tcp dport @literals_3 tproxy ip to 127.0.0.1:15001 meta mark set 0x00004e42 counter name "proxy_3" accept comment "literal addresses"
	}

	chain agent_3 {
		ip saddr 198.18.12.2 jump agent_3_may comment "from its own address"
		limit rate 10/second burst 20 packets log prefix "nbtap3" group 78 snaplen 64 comment "told"
		counter name "dropped_3" drop comment "all else"
	}
}
)";

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
    for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size())
        text.replace(at, from.size(), to);
    return text;
}

TEST_F(NetworkTest, NftReadsTheRulesAsTheyAreMeant) {
    start_online();
    auto guest = attach(3, {{ip("203.0.113.7"), 22}, {ip("203.0.113.7"), 22}});
    EXPECT_EQ(run("nft -s list ruleset"), replace_all(std::string(kRules), "UID", cat(::geteuid())));
}

TEST_F(NetworkTest, IpReadsTheLinksAsTheyAreMeant) {
    start_online();
    auto guest = attach(3);
    auto tap = run("ip -j -d link show dev nbtap3; ip -j addr show dev nbtap3");
    for (auto part :
         {R"("address":"02:4e:42:00:00:03")", R"("local":"198.18.12.1","prefixlen":30)",
          R"("inet6_addr_gen_mode":"none")", R"("type":"tap","pi":false,"vnet_hdr":true)", R"("mtu":1500)"})
        EXPECT_TRUE(tap.contains(part)) << part << "\n" << tap;
    EXPECT_TRUE(run("ip -j neigh show dev nbtap3")
                    .contains(R"("dst":"198.18.12.2","lladdr":"02:4e:42:01:00:03","state":["PERMANENT"])"));
    EXPECT_TRUE(
        run("ip -j rule").contains(R"({"priority":100,"src":"all","fwmark":"0x4e42","table":"20034"})"))
        << run("ip -j rule");
    EXPECT_TRUE(run("ip -j route show table 20034").contains(R"("type":"local","dst":"default","dev":"lo")"))
        << run("ip -j route show table 20034");
    EXPECT_TRUE(run("ip -j route").contains(R"("dst":"default","gateway":"192.0.2.1","dev":"eth0")"));
    auto conf = [](std::string_view name) { return run(cat("cat /proc/sys/net/ipv4/conf/nbtap3/", name)); };
    EXPECT_EQ(conf("arp_ignore"), "2\n");
    EXPECT_EQ(conf("arp_announce"), "2\n");
    EXPECT_EQ(conf("rp_filter"), "1\n");
    EXPECT_EQ(conf("forwarding"), "0\n");
}

// --- when it cannot be loaded

TEST_F(NetworkTest, ABatchIsTakenWholeOrNotAtAll) {
    auto socket = NetlinkSocket::open(NETLINK_NETFILTER).value();
    auto batch = base_rules({}, "eth0");
    batch.insert(
        batch.begin() + 20,
        Rule("input", "a rule that the kernel must refuse").verdict(Verdict::Jump, "nowhere").message());
    auto loaded = socket.batch(batch);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, ENOENT);
    EXPECT_TRUE(loaded.error().message.contains("rule in input: a rule that the kernel must refuse (21 of "))
        << loaded.error().message;
    EXPECT_EQ(run("nft list ruleset"), "");
    batch.erase(batch.begin() + 20);
    EXPECT_TRUE(socket.batch(batch)) << "the same socket goes on working";
    // A refused replacement leaves what was there.
    auto before = run("nft list ruleset");
    batch.push_back(nft::delete_chain("nowhere"));
    EXPECT_FALSE(socket.batch(batch));
    EXPECT_EQ(run("nft list ruleset"), before);
}

TEST_F(NetworkTest, ForwardingMeansNoNetworkForAgents) {
    run("sysctl -qw net.ipv4.ip_forward=1");
    world_->plug_in("eth0");
    start(static_config());
    ASSERT_TRUE(wait([&] { return status().online(); })) << "an operator must reach the box";
    EXPECT_FALSE(status().rules_loaded);
    ASSERT_FALSE(status().problems.empty());
    EXPECT_TRUE(status().problems[0].contains("/proc/sys/net/ipv4/ip_forward is 1")) << status().problems[0];
    auto refused = network_->attach(3);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().message.contains("no agent gets a network")) << refused.error().message;
    EXPECT_FALSE(run("ip -o link").contains("nbtap3"));
    run("sysctl -qw net.ipv4.ip_forward=0");
    EXPECT_TRUE(network_->attach(3));
    EXPECT_TRUE(status().rules_loaded);
    EXPECT_TRUE(status().problems.empty());
    EXPECT_TRUE(run("nft list set inet nullbox uplinks").contains("eth0"));
    // Switched on behind our back.
    run("sysctl -qw net.ipv4.ip_forward=1");
    EXPECT_FALSE(network_->attach(4));
}

TEST_F(NetworkTest, ATapThatCannotBeMadeLeavesNoRules) {
    auto config = static_config();
    config.tun_path = "/dev/null";
    start(config);
    auto refused = network_->attach(3);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().message.contains("make tap nbtap3")) << refused.error().message;
    EXPECT_FALSE(run("nft list ruleset").contains("agent_3"));
    EXPECT_FALSE(network_->attach(kMaxSlots));
}

TEST_F(NetworkTest, ARestartReplacesTheTableAndCutsOldTaps) {
    start_online();
    auto guest = attach(3);
    // The process ends without a word: its kernel objects stay, held by the VM process.
    auto other_loop = Loop::make().value();
    auto second = Network::start(*other_loop, static_config(), {});
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_TRUE((*second)->status().rules_loaded);
    EXPECT_FALSE(run("nft list ruleset").contains("agent_3"));
    EXPECT_FALSE(run("ip -o link").contains("nbtap3"));
    EXPECT_TRUE(run("ip -o -4 addr show dev eth0").contains("192.0.2.2/24")) << "the box stays reachable";
    EXPECT_TRUE((*second)->attach(3));
    network_.reset(); // the first one's end finds nothing of its own
}

// --- cards

TEST_F(NetworkTest, ACardComesLateGoesAndIsReplaced) {
    start(static_config());
    EXPECT_EQ(status().uplink.state, "waiting for a network card");
    EXPECT_TRUE(status().rules_loaded);
    world_->plug_in("eth7");
    ASSERT_TRUE(wait([&] { return status().online(); }));
    EXPECT_EQ(status().uplink.name, "eth7");
    EXPECT_EQ(status().gateway, ip("192.0.2.1"));
    EXPECT_TRUE(run("nft list set inet nullbox uplinks").contains("eth7"));
    run("ip link del eth7");
    ASSERT_TRUE(wait([&] { return status().uplink.name.empty(); }));
    EXPECT_FALSE(status().online());
    EXPECT_FALSE(run("nft list set inet nullbox uplinks").contains("eth7"));
    world_->plug_in("lan9");
    ASSERT_TRUE(wait([&] { return status().online(); }));
    EXPECT_EQ(status().uplink.name, "lan9");
}

TEST_F(NetworkTest, ACableComesLate) {
    world_->plug_in("eth0");
    world_->in_lan([] { run("ip link set lan0 down"); });
    start(static_config());
    ASSERT_TRUE(wait([&] { return status().uplink.state == "no cable"; }));
    world_->in_lan([] { run("ip link set lan0 up"); });
    EXPECT_TRUE(wait([&] { return status().online(); }));
}

TEST_F(NetworkTest, WhatKeepsDhcpFromAskingIsSaid) {
    world_->plug_in("eth0");
    auto config = static_config();
    config.dhcp = true;
    // Too small for a DHCP message.
    run("ip link set eth0 mtu 100");
    start(config);
    ASSERT_TRUE(wait([&] { return !status().problems.empty(); }));
    EXPECT_TRUE(status().problems[0].contains("DHCP on eth0: send: Message too long"))
        << status().problems[0];
}

// A kernel of the box has VLANs (kernel/config/host.config); the one that the tests run on may not.
TEST_F(NetworkTest, AVlanIsAllOfTheUplink) {
    world_->plug_in("eth0");
    run("ip link set eth0 up; ip addr add 192.0.2.99/24 dev eth0");
    auto config = static_config();
    config.vlan = 5;
    start(config);
    ASSERT_TRUE(wait([&] { return !status().uplink.name.empty() || !status().problems.empty(); }));
    EXPECT_FALSE(run("ip -o addr show dev eth0").contains("inet")) << "nothing is on the bare card";
    EXPECT_FALSE(run("nft list set inet nullbox uplinks").contains("eth0"));
    if (!status().problems.empty()) {
        EXPECT_TRUE(status().problems[0].contains("VLAN 5 on eth0: make VLAN 5 on link "))
            << status().problems[0];
        EXPECT_FALSE(status().online());
        GTEST_SKIP() << "this kernel has no VLANs (CONFIG_VLAN_8021Q)";
    }
    ASSERT_TRUE(wait([&] { return status().online(); }));
    EXPECT_EQ(status().uplink.name, "vlan5");
    EXPECT_EQ(status().uplink.state, "static address (VLAN 5 of eth0)");
    EXPECT_TRUE(run("ip -d link show dev vlan5").contains("vlan protocol 802.1Q id 5"));
    EXPECT_TRUE(run("ip -o addr show dev vlan5").contains("192.0.2.2/24"));
    EXPECT_TRUE(run("nft list set inet nullbox uplinks").contains("vlan5"));
    EXPECT_TRUE(run("ip route").contains("default via 192.0.2.1 dev vlan5"));
    network_.reset();
    start(static_config());
    ASSERT_TRUE(wait([&] { return status().online(); }));
    EXPECT_EQ(status().uplink.name, "eth0") << "without a VLAN none stays";
    EXPECT_FALSE(run("ip -o link").contains("vlan5"));
}

TEST_F(NetworkTest, OurTapsAreNoCards) {
    start(static_config());
    auto guest = attach(0);
    turn(*loop_, std::chrono::milliseconds(100));
    EXPECT_EQ(status().uplink.name, "");
    EXPECT_FALSE(run("nft list set inet nullbox uplinks").contains("nbtap0"));
}

TEST_F(NetworkTest, OwnAddressesAreKnown) {
    start_online();
    auto guest = attach(3);
    EXPECT_TRUE(wait([&] {
        auto has = [&](std::string_view text) {
            return std::ranges::count(status().own_addresses, IpAddress::parse(text).value(),
                                      &OwnAddress::address) == 1;
        };
        return has("127.0.0.1") && has("192.0.2.2") && has("198.18.12.1") && has("::1");
    }));
    EXPECT_EQ(std::ranges::count(status().addresses, IpAddress::parse("192.0.2.2").value()), 1);
}

} // namespace
} // namespace nullbox::egress
