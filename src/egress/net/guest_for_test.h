// The guest's end of a tap, for tests: writes frames as a hostile guest may, and reads what comes back.
#pragma once

#include <optional>
#include <vector>

#include "egress/net/network.h"

namespace nullbox::egress::test {

struct Packet {
    uint8_t protocol = 17; // 6, 17, 1 (ICMP echo request)
    Ip4 source, destination;
    uint16_t source_port = 40000, destination_port = 0;
    uint32_t sequence = 1000, acknowledged = 0; // TCP
    uint8_t flags = 2;                          // TCP; 2 is SYN, 0x12 SYN and ACK, 4 RST
    std::string payload;                        // UDP
};

std::vector<std::byte> ip_packet(const Packet& packet); // with right checksums
std::optional<Packet> read_ip_packet(std::span<const std::byte> bytes);

class Guest {
public:
    Guest(AttachedTap tap) : tap_(std::move(tap)) {}
    const TapLink& link() const { return tap_.link; }
    void send(const Packet& packet);
    void send_ethernet(uint16_t type, std::span<const std::byte> payload);
    // The next IPv4 packet to us, within the time; others (IPv6, ARP) are passed over.
    std::optional<Packet> receive(Loop& loop,
                                  std::chrono::milliseconds most = std::chrono::milliseconds(2000));
    // Frames of any kind that are there now.
    std::vector<std::vector<std::byte>> frames();
    Packet udp(Ip4 to, uint16_t port, std::string payload = "hello") const;
    Packet tcp_syn(Ip4 to, uint16_t port, uint16_t from = 40000) const;

private:
    AttachedTap tap_;
    std::vector<Packet> arrived_; // and not yet received
};

} // namespace nullbox::egress::test
