// A test with a box on a LAN: network namespaces, a loop, a Network, and what an independent reader says of
// them. Tests are skipped, with the reason, on a machine whose kernel does not let them run.
#pragma once

#include <gtest/gtest.h>

#include "egress/net/guest_for_test.h"
#include "egress/net/namespace_for_test.h"
#include "egress/net/network.h"

namespace nullbox::egress::test {

class BoxTest : public testing::Test {
protected:
    void SetUp() override;
    // 192.0.2.2/24 on eth0, the LAN's end is 192.0.2.1. Whoever runs the test is egress.
    static NetworkConfig static_config();
    void start(NetworkConfig config);
    Guest attach(unsigned slot, std::vector<Endpoint4> literals = {});
    bool wait(const std::function<bool()>& condition) { return wait_until(*loop_, condition); }
    const NetworkStatus& status() const { return network_->status(); }

    std::optional<TestNetwork> world_;
    std::unique_ptr<Loop> loop_;
    std::vector<DroppedPacket> dropped_;
    std::unique_ptr<Network> network_;
};

// A socket bound to an address, in the namespace we are in; port 0 is any.
Fd udp_socket(Ip4 address, uint16_t port);
Fd tcp_listener(Ip4 address, uint16_t port);
// A nonblocking connect(); ready() tells whether it has succeeded.
Fd tcp_connect(Ip4 address, uint16_t port);
bool connected(int fd);
bool send_udp(int fd, Ip4 to, uint16_t port, std::string_view text);
// What has arrived, or nothing.
std::optional<std::string> receive_now(int fd);
Endpoint4 local_end(int fd);
Endpoint4 peer_end(int fd);
Ip4 ip(std::string_view text);
// The same for IPv6.
Fd udp6(std::string_view address, uint16_t port);
bool send6(int fd, std::string_view to, uint16_t port, std::string_view text);

} // namespace nullbox::egress::test
