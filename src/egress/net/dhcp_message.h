// DHCPv4 messages (RFC 2131, options RFC 2132, long options RFC 3396) and the IPv4/UDP packet around them,
// which we make and take apart ourselves while the box has no address. Whatever arrives is hostile. Pure: no
// system calls.
#pragma once

#include <chrono>
#include <vector>

#include "base/error.h"
#include "egress/net/address.h"

namespace nullbox::egress {

constexpr uint16_t kDhcpServerPort = 67, kDhcpClientPort = 68;
constexpr size_t kMaxDhcpBytes = 1472; // what we say we take (option 57), and what is read at most
constexpr size_t kMaxDhcpServers = 8;  // of each list in an answer; more are left out

enum class DhcpType : uint8_t { Discover = 1, Offer, Request, Decline, Ack, Nak, Release, Inform };

struct DhcpMessage {
    bool reply = false; // BOOTREPLY, from a server
    DhcpType type = DhcpType::Discover;
    uint32_t transaction = 0;
    uint16_t seconds = 0; // since we began to ask
    Ip4 client;           // ciaddr: an address in use
    Ip4 yours;            // yiaddr: offered or given
    Mac mac;
    // Options; absent ones are empty.
    std::optional<Ip4> requested, server;
    std::optional<uint32_t> mask; // host byte order
    std::vector<Ip4> routers, dns_servers, time_servers;
    std::optional<uint32_t> lease_s, renewal_s, rebinding_s;
    std::optional<uint16_t> mtu;
    std::string hostname; // ours
    bool operator==(const DhcpMessage&) const = default;
};

// hostname: cut to 63 bytes. A client's message asks for what the parser understands.
std::vector<std::byte> encode(const DhcpMessage& message);
Result<DhcpMessage> parse_dhcp(std::span<const std::byte> bytes);

struct DhcpPacket {
    Ip4 source, destination;
    std::span<const std::byte> payload;
};
// IPv4 and UDP headers with both checksums, client port to server port.
std::vector<std::byte> wrap_in_udp(Ip4 source, Ip4 destination, std::span<const std::byte> payload);
// Of a packet to the client port from the server port. The UDP checksum is not looked at: a virtual link
// delivers packets whose checksum nobody has filled in.
Result<DhcpPacket> unwrap_from_udp(std::span<const std::byte> packet);

} // namespace nullbox::egress
