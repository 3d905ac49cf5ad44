// Packets from a guest that is root in its VM, judged where they would arrive: at the box's sockets, and on
// the LAN. Each forbidden packet is sent twice: with the rules, when nobody may see it, and with the rules
// taken away, when somebody must, or the test could not have failed.
#include <array>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/text.h"
#include "egress/net/box_for_test.h"
#include "egress/net/sockets.h"

namespace nullbox::egress {
using namespace test;
namespace {

constexpr unsigned kSlot = 3;

// Everything that gets past the input hook: raw sockets get their packets behind it.
class Observers {
public:
    explicit Observers(TestNetwork& world) {
        for (int protocol : {IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP})
            add("the box", AF_INET, SOCK_RAW, protocol);
        for (int protocol : {IPPROTO_UDP, IPPROTO_TCP}) add("the box", AF_INET6, SOCK_RAW, protocol);
        world.in_lan([&] { add("the LAN", AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)); });
    }
    // Who has seen the text, or a packet with that source port; empty: nobody.
    std::string seen(std::string_view mark, uint16_t port) {
        std::string who;
        for (const auto& observer : observers_) {
            while (auto packet = receive_now(observer.fd.get())) {
                std::string ports{static_cast<char>(port >> 8), static_cast<char>(port)};
                if (packet->contains(mark) || packet->contains(ports)) who = observer.name;
            }
        }
        return who;
    }

private:
    struct Observer {
        std::string name;
        Fd fd;
    };
    void add(std::string name, int family, int type, int protocol) {
        observers_.push_back(
            {std::move(name), Fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol))});
        EXPECT_TRUE(observers_.back().fd) << observers_.back().name;
    }
    std::vector<Observer> observers_;
};

struct Forbidden {
    std::string what;
    Packet packet;
    std::string told; // what the record says
};

std::vector<Forbidden> forbidden(const Guest& guest) {
    auto link = guest.link();
    auto other = tap_link(kSlot + 1);
    auto with_source = [](Packet packet, Ip4 source) {
        packet.source = source;
        return packet;
    };
    Packet ping{.protocol = 1, .source = link.guest, .destination = link.gateway, .source_port = 0x0800};
    return {
        {"UDP to another port of the gateway", guest.udp(link.gateway, 54),
         "UDP 198.18.12.2 -> 198.18.12.1 port 54"},
        {"DNS to the box's other address", guest.udp(ip("192.0.2.2"), 53),
         "UDP 198.18.12.2 -> 192.0.2.2 port 53"},
        {"DNS to another agent's gateway", guest.udp(other.gateway, 53),
         "UDP 198.18.12.2 -> 198.18.16.1 port 53"},
        {"DNS to a server outside", guest.udp(ip("192.0.2.1"), 53), "UDP 198.18.12.2 -> 192.0.2.1 port 53"},
        {"QUIC to a synthetic address", guest.udp(link.first_synthetic, 443),
         "UDP 198.18.12.2 -> 198.18.12.4 port 443"},
        {"ping", ping, "ICMP 198.18.12.2 -> 198.18.12.1"},
        {"gate", guest.tcp_syn(link.gateway, 8443), "TCP 198.18.12.2 -> 198.18.12.1 port 8443"},
        {"gate by its outer address", guest.tcp_syn(ip("192.0.2.2"), 8443),
         "TCP 198.18.12.2 -> 192.0.2.2 port 8443"},
        {"the proxy's own port", guest.tcp_syn(link.gateway, 15001),
         "TCP 198.18.12.2 -> 198.18.12.1 port 15001"},
        {"TCP to an address outside", guest.tcp_syn(ip("192.0.2.1"), 443),
         "TCP 198.18.12.2 -> 192.0.2.1 port 443"},
        {"a literal address, another port", guest.tcp_syn(ip("192.0.2.1"), 2223),
         "TCP 198.18.12.2 -> 192.0.2.1 port 2223"},
        {"DNS with another agent's address", with_source(guest.udp(link.gateway, 53), other.guest),
         "UDP 198.18.16.2 -> 198.18.12.1 port 53"},
        {"DNS with the gateway's own neighbour", with_source(guest.udp(link.gateway, 53), ip("192.0.2.1")),
         "UDP 192.0.2.1 -> 198.18.12.1 port 53"},
    };
}

class Containment : public BoxTest {
protected:
    void SetUp() override {
        BoxTest::SetUp();
        if (IsSkipped()) return;
        world_->plug_in("eth0");
        start(static_config());
        ASSERT_TRUE(wait([&] { return status().online(); }));
        // The other agent's addresses are there, so that packets to them would arrive.
        other_.emplace(attach(kSlot + 1));
        guest_.emplace(attach(kSlot, {{ip("192.0.2.1"), 2222}}));
        proxy_ = open_proxy_listener(15001).value();
        world_->in_lan(
            [] { run("ip route add 198.18.0.0/15 via 192.0.2.2 && ping -c 1 -W 2 192.0.2.2 || true"); });
    }
    uint64_t dropped() { return network_->counters(kSlot).value().dropped_packets; }
    // A whole handshake; the accepted socket.
    Fd connect_to(Ip4 to, uint16_t port, uint16_t from) {
        guest_->send(guest_->tcp_syn(to, port, from));
        auto answer = guest_->receive(*loop_);
        while (answer && answer->destination_port != from)
            answer = guest_->receive(*loop_); // an earlier one's end
        if (!answer || answer->flags != 0x12) {
            ADD_FAILURE() << "no SYN-ACK from " << to.text() << " port " << port;
            return {};
        }
        EXPECT_EQ(answer->source, to);
        EXPECT_EQ(answer->source_port, port);
        auto ack = guest_->tcp_syn(to, port, from);
        ack.flags = 0x10;
        ack.sequence = 1001;
        ack.acknowledged = answer->sequence + 1;
        guest_->send(ack);
        Fd accepted;
        wait([&] {
            accepted.reset(::accept4(proxy_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            return static_cast<bool>(accepted);
        });
        return accepted;
    }

    std::optional<Guest> other_, guest_;
    Fd proxy_;
};

TEST_F(Containment, QuestionsReachTheResolverAndAnswersComeBack) {
    auto dns = open_dns_datagram_socket(guest_->link()).value();
    guest_->send(guest_->udp(guest_->link().gateway, 53, "question"));
    std::optional<std::string> question;
    ASSERT_TRUE(wait([&] { return (question = receive_now(dns.get())).has_value(); }));
    EXPECT_EQ(*question, "question");
    ASSERT_TRUE(send_udp(dns.get(), guest_->link().guest, 40000, "answer"));
    auto answer = guest_->receive(*loop_);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->payload, "answer");
    EXPECT_EQ(answer->source, guest_->link().gateway);
    EXPECT_EQ(network_->counters(kSlot)->dns_packets, 1u);
    EXPECT_EQ(dropped(), 0u);
}

TEST_F(Containment, SyntheticAddressesReachTheProxyWithAddressAndPort) {
    auto link = guest_->link();
    uint16_t from = 41000;
    for (Ip4 to : {link.first_synthetic, link.last_synthetic}) {
        for (uint16_t port : std::array<uint16_t, 4>{443, 1, 53, 15001}) {
            auto accepted = connect_to(to, port, from);
            ASSERT_TRUE(accepted);
            EXPECT_EQ(local_end(accepted.get()), (Endpoint4{to, port}));
            EXPECT_EQ(peer_end(accepted.get()), (Endpoint4{link.guest, from}));
            from++;
        }
    }
    EXPECT_GE(network_->counters(kSlot)->proxy_packets, 16u);
    EXPECT_EQ(dropped(), 0u);
}

TEST_F(Containment, LiteralAddressesReachTheProxyToo) {
    auto accepted = connect_to(ip("192.0.2.1"), 2222, 42000);
    ASSERT_TRUE(accepted);
    EXPECT_EQ(local_end(accepted.get()), (Endpoint4{ip("192.0.2.1"), 2222}));
}

TEST_F(Containment, LiteralAddressesAreReplacedWhileTheAgentRuns) {
    // What an earlier connection still sends is no answer to this one.
    auto answered = [&](uint16_t to, uint16_t from) {
        guest_->send(guest_->tcp_syn(ip("192.0.2.1"), to, from));
        while (auto answer = guest_->receive(*loop_, std::chrono::milliseconds(200)))
            if (answer->destination_port == from) return true;
        return false;
    };
    ASSERT_TRUE(network_->set_literals(kSlot, {{ip("192.0.2.1"), 3333}, {ip("192.0.2.1"), 3333}}));
    EXPECT_TRUE(answered(3333, 42000));
    EXPECT_FALSE(answered(2222, 42001));
    ASSERT_TRUE(network_->set_literals(kSlot, {}));
    EXPECT_FALSE(answered(3333, 42002));
    EXPECT_FALSE(network_->set_literals(kSlot + 2, {})) << "not attached";
}

TEST_F(Containment, DnsOverTcp) {
    auto dns = open_dns_listener(guest_->link()).value();
    guest_->send(guest_->tcp_syn(guest_->link().gateway, 53));
    auto answer = guest_->receive(*loop_);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->flags, 0x12);
}

TEST_F(Containment, AnothersSyntheticAddressesAreNobody) {
    guest_->send(guest_->tcp_syn(other_->link().first_synthetic, 443));
    EXPECT_FALSE(guest_->receive(*loop_, std::chrono::milliseconds(200)));
    EXPECT_EQ(dropped(), 1u);
    // The same packet by the one it belongs to.
    other_->send(other_->tcp_syn(other_->link().first_synthetic, 443));
    EXPECT_TRUE(other_->receive(*loop_));
}

TEST_F(Containment, WithoutAProxyConnectionsAreDropped) {
    proxy_.reset();
    guest_->send(guest_->tcp_syn(guest_->link().first_synthetic, 443));
    EXPECT_FALSE(guest_->receive(*loop_, std::chrono::milliseconds(200)));
    EXPECT_EQ(dropped(), 1u);
}

TEST_F(Containment, NothingElseReachesAnybodyAndEachPacketIsRecorded) {
    Observers observers(*world_);
    uint16_t port = 0xbee0;
    for (auto& [what, packet, told] : forbidden(*guest_)) {
        if (packet.protocol != 1) packet.source_port = port++;
        auto before = dropped();
        dropped_.clear();
        guest_->send(packet);
        EXPECT_TRUE(wait([&] { return !dropped_.empty(); })) << what;
        turn(*loop_, std::chrono::milliseconds(30));
        EXPECT_EQ(dropped(), before + 1) << what;
        ASSERT_EQ(dropped_.size(), 1u) << what;
        EXPECT_EQ(dropped_[0].slot, kSlot);
        EXPECT_EQ(dropped_[0].text(), told) << what;
        EXPECT_EQ(observers.seen("hello", packet.source_port), "") << what;
        EXPECT_TRUE(guest_->frames().empty()) << what;
        turn(*loop_, std::chrono::milliseconds(100)); // below the rate at which drops are told
    }
    // Mutation: without the rules, with forwarding and without the kernel's own check of sources, every one
    // of them is seen.
    run("nft flush ruleset; sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.nbtap3.rp_filter=0 "
        "net.ipv4.conf.all.rp_filter=0");
    for (auto& [what, packet, told] : forbidden(*guest_)) {
        if (packet.protocol != 1) packet.source_port = port++;
        if (what == "QUIC to a synthetic address")
            continue; // there is nothing behind it, with or without rules
        guest_->send(packet);
        EXPECT_TRUE(wait_until(
            *loop_, [&] { return !observers.seen("hello", packet.source_port).empty(); },
            std::chrono::seconds(2)))
            << what;
    }
}

std::vector<std::byte> ipv6_to_all_nodes() {
    std::vector<std::byte> packet(40 + 13);
    packet[0] = std::byte{0x60};
    packet[5] = std::byte{13};
    packet[6] = std::byte{IPPROTO_UDP};
    packet[7] = std::byte{255};
    packet[8] = std::byte{0xfe}, packet[9] = std::byte{0x80}, packet[23] = std::byte{2};
    packet[24] = std::byte{0xff}, packet[25] = std::byte{0x02}, packet[39] = std::byte{1};
    packet[42] = packet[40] = std::byte{0x14}, packet[43] = packet[41] = std::byte{0xe9};
    packet[45] = std::byte{13};
    std::memcpy(packet.data() + 48, "hello", 5);
    return packet;
}

TEST_F(Containment, Ipv6ReachesNobody) {
    Observers observers(*world_);
    guest_->send_ethernet(ETH_P_IPV6, ipv6_to_all_nodes());
    ASSERT_TRUE(wait([&] { return !dropped_.empty(); }));
    EXPECT_EQ(dropped_[0].text(), "UDP fe80::2 -> ff02::1 port 5353");
    EXPECT_EQ(observers.seen("hello", 0x14e9), "");
    EXPECT_TRUE(run("ip -6 -o addr show dev nbtap3").empty());
    run("nft flush ruleset");
    guest_->send_ethernet(ETH_P_IPV6, ipv6_to_all_nodes());
    EXPECT_TRUE(wait([&] { return !observers.seen("hello", 0x14e9).empty(); }));
}

// 28 bytes: who has this address?
std::vector<std::byte> arp_question(const TapLink& link, Ip4 source, Ip4 wanted) {
    std::vector<std::byte> out;
    auto put = [&](uint64_t value, size_t bytes) {
        for (size_t i = bytes; i-- > 0;) out.push_back(static_cast<std::byte>(value >> (8 * i)));
    };
    put(0x0001080006040001, 8);
    for (uint8_t byte : link.guest_mac.bytes) put(byte, 1);
    put(source.value, 4);
    put(0, 6);
    put(wanted.value, 4);
    return out;
}

TEST_F(Containment, ArpTellsOneAddressOnly) {
    auto link = guest_->link();
    auto answered = [&](Ip4 source, Ip4 wanted) {
        guest_->send_ethernet(ETH_P_ARP, arp_question(link, source, wanted));
        return wait_until(*loop_, [&] { return !guest_->frames().empty(); }, std::chrono::milliseconds(100));
    };
    EXPECT_TRUE(answered(link.guest, link.gateway));
    EXPECT_FALSE(answered(link.guest, ip("192.0.2.2"))) << "the box's address on the LAN";
    EXPECT_FALSE(answered(link.guest, link.first_synthetic));
    EXPECT_FALSE(answered(link.guest, ip("192.0.2.1"))) << "no proxy ARP";
    EXPECT_FALSE(answered(ip("10.0.0.1"), link.gateway)) << "asked from an address that is not there";
}

TEST_F(Containment, AFloodIsCutAndCounted) {
    for (int i = 0; i < 1000; i++)
        guest_->send(guest_->tcp_syn(guest_->link().first_synthetic, 443, static_cast<uint16_t>(20000 + i)));
    turn(*loop_, std::chrono::milliseconds(100));
    auto counters = network_->counters(kSlot).value();
    EXPECT_LE(counters.proxy_packets, 520u) << "a burst of 400 and 100 a second";
    EXPECT_GE(counters.dropped_packets, 480u);
    EXPECT_LE(dropped_.size(), 30u) << "records are limited";
    EXPECT_GE(dropped_.size(), 10u);
}

// --- from the LAN's side, and the box's

TEST_F(Containment, TheLanReachesGateAndNothingElse) {
    auto gate = tcp_listener(Ip4{0}, 8443), other = tcp_listener(Ip4{0}, 8080);
    auto udp = udp_socket(Ip4{0}, 5353);
    auto [to_gate, to_other, to_proxy, to_synthetic, lan_udp] = world_->in_lan([] {
        return std::tuple(tcp_connect(ip("192.0.2.2"), 8443), tcp_connect(ip("192.0.2.2"), 8080),
                          tcp_connect(ip("192.0.2.2"), 15001), tcp_connect(ip("198.18.12.4"), 443),
                          udp_socket(Ip4{0}, 0));
    });
    send_udp(lan_udp.get(), ip("192.0.2.2"), 5353, "x");
    EXPECT_TRUE(wait([&] { return connected(to_gate.get()); }));
    turn(*loop_, std::chrono::milliseconds(200));
    EXPECT_FALSE(connected(to_other.get()));
    EXPECT_FALSE(connected(to_proxy.get()));
    EXPECT_FALSE(connected(to_synthetic.get()));
    EXPECT_FALSE(receive_now(udp.get()));
    // Mutation.
    run("nft flush ruleset");
    EXPECT_TRUE(wait([&] { return connected(to_other.get()); })) << "the SYN comes again after a second";
    send_udp(lan_udp.get(), ip("192.0.2.2"), 5353, "x");
    EXPECT_TRUE(wait([&] { return receive_now(udp.get()).has_value(); }));
}

TEST_F(Containment, TheLanCannotSpeakAsAnAgent) {
    auto dns = open_dns_datagram_socket(other_->link()).value();
    auto any = udp_socket(ip("192.0.2.2"), 53);
    run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0");
    world_->in_lan([&] {
        run("ip addr add 198.18.16.2/32 dev lan0");
        auto fd = udp_socket(ip("198.18.16.2"), 0);
        EXPECT_TRUE(send_udp(fd.get(), ip("192.0.2.2"), 53, "x"));
        EXPECT_TRUE(send_udp(fd.get(), other_->link().gateway, 53, "x"));
    });
    turn(*loop_, std::chrono::milliseconds(200));
    EXPECT_FALSE(receive_now(any.get()));
    EXPECT_FALSE(receive_now(dns.get()));
    auto counted = run("nft list chain inet nullbox from_uplink");
    EXPECT_TRUE(counted.contains("ip saddr 198.18.0.0/15 counter packets 2 ")) << counted;
}

TEST_F(Containment, OnlyEgressOpensConnections) {
    auto lan = world_->in_lan([] { return udp_socket(Ip4{0}, 7777); });
    auto fd = udp_socket(Ip4{0}, 0);
    EXPECT_TRUE(send_udp(fd.get(), ip("192.0.2.1"), 7777, "as egress"));
    EXPECT_TRUE(wait([&] { return receive_now(lan.get()).has_value(); }));
    EXPECT_FALSE(send_udp(fd.get(), ip("198.18.99.99"), 7777, "synthetic")) << "never leaves the box";
    EXPECT_FALSE(send_udp(fd.get(), guest_->link().guest, 7777, "to an agent, unasked"));
    EXPECT_FALSE(send_udp(fd.get(), ip("127.0.0.1"), 7777, "loopback"));
    // The same socket when egress is somebody else.
    network_.reset();
    auto config = static_config();
    config.egress_uid = 4711;
    start(config);
    EXPECT_FALSE(send_udp(fd.get(), ip("192.0.2.1"), 7778, "as another"));
    auto refused = tcp_connect(ip("192.0.2.1"), 7779);
    turn(*loop_, std::chrono::milliseconds(50));
    EXPECT_FALSE(receive_now(lan.get()));
    EXPECT_TRUE(run("nft list chain inet nullbox to_uplink").contains("packets 2 ")) << "both are counted";
}

// Whoever sends the answer would learn that the port is closed, and of one that it is open.
TEST_F(Containment, AnAnswerThatComesTooLateIsNotAnswered) {
    auto told = world_->in_lan([] { return Fd(::socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP)); });
    auto lan = world_->in_lan([] { return udp_socket(Ip4{0}, 7777); });
    auto answer_late = [&] {
        auto fd = udp_socket(Ip4{0}, 0);
        auto port = local_end(fd.get()).port;
        EXPECT_TRUE(send_udp(fd.get(), ip("192.0.2.1"), 7777, "question"));
        EXPECT_TRUE(wait([&] { return receive_now(lan.get()).has_value(); }));
        fd.reset();
        EXPECT_TRUE(send_udp(lan.get(), ip("192.0.2.2"), port, "answer"));
    };
    while (receive_now(told.get())) {
    } // of the ping that made the two acquainted
    answer_late();
    turn(*loop_, std::chrono::milliseconds(200));
    EXPECT_FALSE(receive_now(told.get()));
    run("nft flush ruleset");
    answer_late();
    EXPECT_TRUE(wait([&] { return receive_now(told.get()).has_value(); }));
}

TEST_F(Containment, DetachTakesLinkAndRulesAway) {
    ASSERT_TRUE(network_->detach(kSlot));
    EXPECT_FALSE(run("nft list ruleset").contains("_3"));
    EXPECT_FALSE(run("ip -o link").contains("nbtap3"));
    EXPECT_TRUE(run("nft list ruleset").contains("agent_4"));
    EXPECT_TRUE(network_->detach(kSlot)) << "twice is fine";
    EXPECT_FALSE(network_->counters(kSlot));
    auto again = attach(kSlot);
    again.send(again.tcp_syn(again.link().first_synthetic, 443));
    EXPECT_TRUE(again.receive(*loop_));
    // The literals of the first time are gone.
    again.send(again.tcp_syn(ip("192.0.2.1"), 2222));
    EXPECT_FALSE(again.receive(*loop_, std::chrono::milliseconds(200)));
}

TEST_F(Containment, AttachingTwiceReplaces) {
    auto second = attach(kSlot);
    second.send(second.tcp_syn(second.link().first_synthetic, 443));
    EXPECT_TRUE(second.receive(*loop_));
}

} // namespace
} // namespace nullbox::egress
