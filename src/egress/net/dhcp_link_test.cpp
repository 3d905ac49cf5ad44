// The whole DHCP client, sockets, firewall and kernel included, against a small server on the LAN.
#include <algorithm>
#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/text.h"
#include "egress/net/box_for_test.h"
#include "egress/net/dhcp_message.h"

namespace nullbox::egress {
using namespace test;
namespace {

class Server {
public:
    Server(TestNetwork& world, Loop& loop) {
        world.in_lan([&] {
            socket_ = udp_socket(Ip4{0}, kDhcpServerPort);
            int on = 1;
            ::setsockopt(socket_.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
            ::setsockopt(socket_.get(), SOL_SOCKET, SO_BINDTODEVICE, "lan0", 4);
        });
        watch_ = loop.watch(socket_.get(), EPOLLIN, [this](uint32_t) { readable(); }).value();
    }
    struct Seen {
        DhcpType type;
        Ip4 from;
    };
    std::vector<Seen> seen;
    DhcpMessage offer{.yours = ip("192.0.2.50"),
                      .mask = 0xffffff00,
                      .routers = {ip("192.0.2.1")},
                      .dns_servers = {ip("192.0.2.1"), ip("192.0.2.9")},
                      .time_servers = {ip("192.0.2.1")},
                      .lease_s = 3600};
    bool answers = true, refuses = false; // refuses: every request for an address in use
    size_t count(DhcpType type) const {
        return static_cast<size_t>(std::ranges::count(seen, type, &Seen::type));
    }

private:
    void readable() {
        std::array<std::byte, 2048> buffer;
        sockaddr_in from{};
        socklen_t size = sizeof from;
        ssize_t count = ::recvfrom(socket_.get(), buffer.data(), buffer.size(), 0,
                                   reinterpret_cast<sockaddr*>(&from), &size);
        if (count < 0) return;
        auto message = parse_dhcp(std::span(buffer).first(static_cast<size_t>(count)));
        ASSERT_TRUE(message) << message.error().message;
        seen.push_back({message->type, Ip4{ntohl(from.sin_addr.s_addr)}});
        if (answers) answer(*message);
    }
    void answer(const DhcpMessage& question) {
        auto reply = offer;
        reply.reply = true;
        reply.transaction = question.transaction;
        reply.mac = question.mac;
        reply.server = ip("192.0.2.1");
        reply.client = question.client;
        reply.type = question.type == DhcpType::Discover ? DhcpType::Offer : DhcpType::Ack;
        if (refuses && question.client.value != 0) reply.type = DhcpType::Nak;
        auto bytes = encode(reply);
        bool to_address = question.client.value != 0 && reply.type == DhcpType::Ack;
        EXPECT_TRUE(send_udp(socket_.get(), to_address ? question.client : Ip4{UINT32_MAX}, kDhcpClientPort,
                             {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
    }
    Fd socket_;
    Watch watch_;
};

class Dhcp : public BoxTest {
protected:
    void SetUp() override {
        BoxTest::SetUp();
        if (IsSkipped()) return;
        world_->plug_in("eth0");
        server_ = std::make_unique<Server>(*world_, *loop_);
    }
    void start_dhcp(std::chrono::seconds patience = std::chrono::seconds(15)) {
        auto config = static_config();
        config.dhcp = true;
        config.address.reset();
        config.gateway.reset();
        config.hostname = "box";
        config.dhcp_patience = patience;
        start(config);
    }
    bool has_address(std::string_view text) {
        auto address = IpAddress::parse(text).value();
        auto has = [&] { return std::ranges::count(status().addresses, address) == 1; };
        return wait_until(*loop_, has, std::chrono::seconds(10));
    }
    std::unique_ptr<Server> server_;
};

TEST_F(Dhcp, GetsAnAddressThroughTheFirewall) {
    server_->offer.mtu = 1400;
    start_dhcp();
    ASSERT_TRUE(wait([&] { return status().online(); }));
    EXPECT_TRUE(has_address("192.0.2.50"));
    EXPECT_TRUE(status().rules_loaded);
    EXPECT_EQ(status().uplink.state, "address by DHCP");
    EXPECT_EQ(status().dns_servers,
              (std::vector{*IpAddress::parse("192.0.2.1"), *IpAddress::parse("192.0.2.9")}));
    EXPECT_EQ(status().time_servers, (std::vector{*IpAddress::parse("192.0.2.1")}));
    auto address = run("ip -4 addr show dev eth0");
    EXPECT_TRUE(address.contains("inet 192.0.2.50/24 brd 192.0.2.255")) << address;
    EXPECT_TRUE(address.contains("valid_lft 3600sec") || address.contains("valid_lft 3599sec")) << address;
    EXPECT_TRUE(address.contains("mtu 1400"));
    EXPECT_TRUE(run("ip route").contains("default via 192.0.2.1 dev eth0 proto dhcp src 192.0.2.50"));
    EXPECT_EQ(server_->count(DhcpType::Discover), 1u);
    EXPECT_EQ(server_->seen[0].from, Ip4{0});
    // And the packets go: out by egress's socket, and back.
    auto lan = world_->in_lan([] { return udp_socket(Ip4{0}, 7777); });
    auto fd = udp_socket(Ip4{0}, 0);
    EXPECT_TRUE(send_udp(fd.get(), ip("192.0.2.1"), 7777, "out"));
    EXPECT_TRUE(wait([&] { return receive_now(lan.get()).has_value(); }));
}

TEST_F(Dhcp, RenewsWithItsServerFromItsAddress) {
    server_->offer.lease_s = 20;
    server_->offer.renewal_s = 1;
    start_dhcp();
    ASSERT_TRUE(has_address("192.0.2.50"));
    ASSERT_TRUE(wait([&] { return server_->count(DhcpType::Request) == 2; }));
    EXPECT_EQ(server_->seen.back().from, ip("192.0.2.50"));
    EXPECT_TRUE(wait([&] { return status().uplink.state == "address by DHCP"; }));
    EXPECT_TRUE(wait([&] { return server_->count(DhcpType::Request) == 3; })) << "the answer counted";
    EXPECT_EQ(server_->count(DhcpType::Discover), 1u);
    EXPECT_TRUE(status().online());
}

TEST_F(Dhcp, AsksEverybodyAndGivesTheAddressUpWhenNobodyAnswers) {
    server_->offer.lease_s = 4;
    server_->offer.renewal_s = 1;
    server_->offer.rebinding_s = 2;
    start_dhcp();
    ASSERT_TRUE(has_address("192.0.2.50"));
    server_->answers = false;
    ASSERT_TRUE(wait([&] { return server_->count(DhcpType::Request) >= 3; })) << "renewing, then rebinding";
    EXPECT_EQ(server_->seen.back().from, ip("192.0.2.50"));
    ASSERT_TRUE(wait([&] { return !status().online(); }));
    EXPECT_FALSE(run("ip -4 addr show dev eth0").contains("inet "));
    EXPECT_FALSE(run("ip route").contains("default"));
    turn(*loop_, std::chrono::milliseconds(1500)); // it has asked again meanwhile
    ASSERT_FALSE(status().problems.empty());
    EXPECT_TRUE(status().problems[0].contains("the lease ran out")) << "still: " << status().problems[0];
    server_->answers = true;
    EXPECT_TRUE(wait([&] { return status().online(); }));
}

TEST_F(Dhcp, ARefusedRenewalMeansAnotherAddress) {
    server_->offer.lease_s = 20;
    server_->offer.renewal_s = 1;
    start_dhcp();
    ASSERT_TRUE(has_address("192.0.2.50"));
    server_->refuses = true;
    server_->offer.yours = ip("192.0.2.51");
    server_->offer.renewal_s.reset();
    ASSERT_TRUE(has_address("192.0.2.51"));
    EXPECT_FALSE(run("ip -4 addr show dev eth0").contains("192.0.2.50"));
}

TEST_F(Dhcp, AfterTheCableWasOutItAsksForTheSameAddress) {
    start_dhcp();
    ASSERT_TRUE(has_address("192.0.2.50"));
    world_->in_lan([] { run("ip link set lan0 down"); });
    ASSERT_TRUE(wait([&] { return status().uplink.state == "no cable"; }));
    world_->in_lan([] { run("ip link set lan0 up"); });
    ASSERT_TRUE(wait([&] { return status().uplink.state == "address by DHCP"; }));
    EXPECT_EQ(server_->count(DhcpType::Discover), 1u);
    EXPECT_EQ(server_->count(DhcpType::Request), 2u);
}

TEST_F(Dhcp, AnAddressFromBeforeARestartStaysUntilThereIsANewOne) {
    run("ip link set eth0 up; ip addr add 192.0.2.77/24 dev eth0");
    server_->answers = false;
    start_dhcp();
    ASSERT_TRUE(wait([&] { return !server_->seen.empty(); }));
    EXPECT_TRUE(run("ip -4 addr show dev eth0").contains("192.0.2.77"));
    server_->answers = true;
    ASSERT_TRUE(has_address("192.0.2.50")) << "asked again after a pause";
    EXPECT_FALSE(run("ip -4 addr show dev eth0").contains("192.0.2.77"));
}

// Control: Probing in the state machine; ArpProbe.
TEST_F(Dhcp, AnAddressThatSomebodyHasIsDeclinedAndSaidToBeSo) {
    world_->in_lan([] { run("ip addr add 192.0.2.50/32 dev lan0"); });
    start_dhcp();
    ASSERT_TRUE(wait([&] { return server_->count(DhcpType::Decline) == 1; }));
    EXPECT_EQ(server_->seen.back().from, Ip4{0});
    ASSERT_TRUE(wait([&] { return !status().problems.empty(); }));
    EXPECT_TRUE(status().problems[0].contains("gave 192.0.2.50, which ")) << status().problems[0];
    EXPECT_FALSE(status().online());
    EXPECT_FALSE(run("ip -4 addr show dev eth0").contains("192.0.2.50"));
    // Ten seconds later.
    server_->offer.yours = ip("192.0.2.51");
    auto online = [&] { return status().online(); };
    ASSERT_TRUE(wait_until(*loop_, online, std::chrono::seconds(15)));
    EXPECT_TRUE(has_address("192.0.2.51"));
    EXPECT_TRUE(status().problems.empty()) << status().problems[0];
}

TEST_F(Dhcp, AnOrderlyEndGivesTheAddressBack) {
    start_dhcp();
    ASSERT_TRUE(has_address("192.0.2.50"));
    network_->release();
    network_.reset();
    ASSERT_TRUE(wait([&] { return server_->count(DhcpType::Release) == 1; }));
    EXPECT_EQ(server_->seen.back().from, ip("192.0.2.50"));
}

TEST_F(Dhcp, ThatNobodyAnswersIsSaidAfterAWhile) {
    server_->answers = false;
    start_dhcp(std::chrono::seconds(2));
    ASSERT_TRUE(wait([&] { return server_->count(DhcpType::Discover) == 1; }));
    turn(*loop_, std::chrono::milliseconds(500));
    EXPECT_TRUE(status().problems.empty()) << "not at once";
    ASSERT_TRUE(wait([&] { return !status().problems.empty(); }));
    EXPECT_TRUE(status().problems[0].starts_with("no answer to DHCP on eth0 for 2 s: "))
        << status().problems[0];
    server_->answers = true;
    ASSERT_TRUE(wait_until(*loop_, [&] { return status().online(); }, std::chrono::seconds(10)));
    EXPECT_TRUE(status().problems.empty()) << status().problems[0];
}

} // namespace
} // namespace nullbox::egress
