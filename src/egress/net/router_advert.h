// Router advertisements (RFC 4861 section 4.2; options of 4.6: prefix information, MTU; DNS servers of
// RFC 8106; preference of RFC 4191), and the solicitation that asks for one. Whatever arrives is hostile:
// anybody on the link may send it. Pure: no system calls.
//
// Not read: the hop limit and the times for neighbours (the kernel's own serve), routes of RFC 4191, search
// domains.
#pragma once

#include <chrono>
#include <vector>

#include "base/error.h"
#include "egress/net/address.h"

namespace nullbox::egress {

constexpr size_t kMaxAdvertBytes = 1500;
constexpr size_t kMaxAdvertPrefixes = 8, kMaxAdvertServers = 8; // of one message; more are left out
constexpr uint32_t kAdvertForEver = UINT32_MAX;                 // of a lifetime in seconds
constexpr uint8_t kAdvertHopLimit = 255;                        // no router in between has passed it on

struct AdvertPrefix {
    Prefix6 prefix; // as sent, host bits and all
    bool on_link = false, autonomous = false;
    uint32_t valid_s = 0, preferred_s = 0;
    bool operator==(const AdvertPrefix&) const = default;
};

struct AdvertServers { // DNS
    std::vector<Ip6> addresses;
    uint32_t lifetime_s = 0;
    bool operator==(const AdvertServers&) const = default;
};

struct RouterAdvert {
    uint16_t lifetime_s = 0; // 0: no default router
    int preference = 0;      // -1, 0, 1
    bool managed = false;    // addresses come by DHCPv6
    std::vector<AdvertPrefix> prefixes;
    std::vector<AdvertServers> servers;
    std::optional<uint32_t> mtu;
    bool operator==(const RouterAdvert&) const = default;
};

// An ICMPv6 message with what the packet around it said.
struct AdvertPacket {
    Ip6 source;
    int hop_limit = 0;
    std::span<const std::byte> bytes; // from the ICMPv6 type on; the kernel has checked the checksum
};

// Refuses what RFC 4861 section 6.1.2 says to discard: a hop limit that is not 255, a source that is not
// link-local, a code, an option of length 0. Options that are unknown or of a wrong size are passed over.
Result<RouterAdvert> parse_router_advert(const AdvertPacket& packet);

// The checksum is left 0: a raw ICMPv6 socket fills it in.
std::vector<std::byte> encode(const RouterAdvert& advert);
std::vector<std::byte> encode_router_solicit(const Mac& ours);

} // namespace nullbox::egress
