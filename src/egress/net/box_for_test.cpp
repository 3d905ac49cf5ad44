#include "egress/net/box_for_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace nullbox::egress::test {

static std::string why_not() {
    Fd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    if (!tun) return errno_error("open /dev/net/tun").message;
    if (std::system("command -v nft >/dev/null && command -v ip >/dev/null") != 0)
        return "the programs nft and ip are needed (packages nftables and iproute2)";
    if (std::system("nft list ruleset >/dev/null 2>&1") != 0) return "this kernel has no nf_tables";
    return {};
}

void BoxTest::SetUp() {
    auto world = TestNetwork::make();
    if (!world) GTEST_SKIP() << world.error().message;
    world_.emplace(std::move(*world));
    if (auto reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    run("ip link set lo up");
    loop_ = *Loop::make();
}

NetworkConfig BoxTest::static_config() {
    return {.dhcp = false,
            .address = Prefix4::parse("192.0.2.2/24"),
            .gateway = ip("192.0.2.1"),
            .egress_uid = ::geteuid()};
}

void BoxTest::start(NetworkConfig config) {
    NetworkEvents events{.changed = {},
                         .dropped = [this](const DroppedPacket& packet) { dropped_.push_back(packet); }};
    auto network = Network::start(*loop_, std::move(config), std::move(events));
    ASSERT_TRUE(network) << network.error().message;
    network_ = std::move(*network);
}

Guest BoxTest::attach(unsigned slot, std::vector<Endpoint4> literals) {
    auto tap = network_->attach(slot, std::move(literals));
    EXPECT_TRUE(tap) << tap.error().message;
    return Guest(std::move(*tap));
}

Ip4 ip(std::string_view text) { return Ip4::parse(text).value(); }

static sockaddr_in name_of(Ip4 address, uint16_t port) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(address.value);
    return name;
}

static Fd bound(int type, Ip4 address, uint16_t port) {
    Fd fd(::socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    auto name = name_of(address, port);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0)
        << address.text() << " " << port;
    return fd;
}

Fd udp_socket(Ip4 address, uint16_t port) { return bound(SOCK_DGRAM, address, port); }

Fd tcp_listener(Ip4 address, uint16_t port) {
    auto fd = bound(SOCK_STREAM, address, port);
    EXPECT_EQ(::listen(fd.get(), 16), 0);
    return fd;
}

Fd tcp_connect(Ip4 address, uint16_t port) {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    auto name = name_of(address, port);
    (void)::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name);
    return fd;
}

bool connected(int fd) {
    pollfd ready{.fd = fd, .events = POLLOUT, .revents = 0};
    return ::poll(&ready, 1, 0) == 1 && (ready.revents & (POLLERR | POLLHUP)) == 0;
}

bool send_udp(int fd, Ip4 to, uint16_t port, std::string_view text) {
    auto name = name_of(to, port);
    return ::sendto(fd, text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&name), sizeof name) ==
           static_cast<ssize_t>(text.size());
}

std::optional<std::string> receive_now(int fd) {
    char buffer[2048];
    ssize_t count = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (count < 0) return std::nullopt;
    return std::string(buffer, static_cast<size_t>(count));
}

static sockaddr_in6 name_of(std::string_view address, uint16_t port) {
    sockaddr_in6 name{};
    name.sin6_family = AF_INET6;
    name.sin6_port = htons(port);
    auto parsed = Ip6::parse(address).value();
    std::copy(parsed.bytes.begin(), parsed.bytes.end(), name.sin6_addr.s6_addr);
    return name;
}

Fd udp6(std::string_view address, uint16_t port) {
    Fd fd(::socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    auto name = name_of(address, port);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0) << address << " " << port;
    return fd;
}

bool send6(int fd, std::string_view to, uint16_t port, std::string_view text) {
    auto name = name_of(to, port);
    return ::sendto(fd, text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&name), sizeof name) ==
           static_cast<ssize_t>(text.size());
}

static Endpoint4 end_of(int fd, int (*which)(int, sockaddr*, socklen_t*)) {
    sockaddr_in name{};
    socklen_t size = sizeof name;
    EXPECT_EQ(which(fd, reinterpret_cast<sockaddr*>(&name), &size), 0);
    return {Ip4{ntohl(name.sin_addr.s_addr)}, ntohs(name.sin_port)};
}

Endpoint4 local_end(int fd) { return end_of(fd, ::getsockname); }
Endpoint4 peer_end(int fd) { return end_of(fd, ::getpeername); }

} // namespace nullbox::egress::test
