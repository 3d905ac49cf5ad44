#include "egress/address_class.h"

#include <algorithm>
#include <cstring>

#include "egress/net/tap_link.h"

namespace nullbox::egress {

using enum AddressClass;

namespace {
struct Range4 {
    uint32_t address;
    uint8_t length;
    AddressClass kind;
};
struct Range6 {
    std::array<uint8_t, 8>
        address; // no range here is longer than 64 bits, but for the single addresses below
    uint8_t length;
    AddressClass kind;
};
} // namespace

// The first that contains the address decides, so single addresses stand before the ranges around them.
static constexpr Range4 kRanges4[] = {
    {0xa9fea9fe, 32, Metadata},      // 169.254.169.254: nearly every cloud
    {0xa9feaa02, 32, Metadata},      // 169.254.170.2: credentials of containers
    {0x646464c8, 32, Metadata},      // 100.100.100.200
    {0xa83f8110, 32, Metadata},      // 168.63.129.16, in the middle of public space
    {0xffffffff, 32, Broadcast},     //
    {0x00000000, 8, Unspecified},    // "this network"; Linux connects 0.0.0.0 to itself
    {0x0a000000, 8, Private},        //
    {0x64400000, 10, Shared},        //
    {0x7f000000, 8, Loopback},       //
    {0xa9fe0000, 16, LinkLocal},     //
    {0xac100000, 12, Private},       //
    {0xc0000000, 24, Reserved},      // IETF protocol assignments
    {0xc0000200, 24, Documentation}, //
    {0xc0586300, 24, Reserved},      // 6to4 relays
    {0xc0a80000, 16, Private},       //
    {0xc6120000, 15, Benchmarking},  //
    {0xc6336400, 24, Documentation}, //
    {0xcb007100, 24, Documentation}, //
    {0xe0000000, 4, Multicast},      //
    {0xf0000000, 4, Reserved},       //
};

static constexpr Range6 kRanges6[] = {
    {{0x00, 0x64, 0xff, 0x9b}, 32, Embedded}, // NAT64: 64:ff9b::/96 and 64:ff9b:1::/48
    {{0x01, 0x00}, 64, Reserved},             // discard
    {{0x20, 0x01, 0x00, 0x00}, 32, Embedded}, // Teredo
    {{0x20, 0x01, 0x00, 0x02}, 48, Benchmarking},
    {{0x20, 0x01, 0x00}, 23, Reserved}, // IETF protocol assignments
    {{0x20, 0x01, 0x0d, 0xb8}, 32, Documentation},
    {{0x20, 0x02}, 16, Embedded}, // 6to4
    {{0x3f, 0xff}, 20, Documentation},
    {{0x20}, 3, Public},
    {{0xfc}, 7, Private},
    {{0xfe, 0x80}, 10, LinkLocal},
    {{0xfe, 0xc0}, 10, Private}, // site-local, deprecated and still private
    {{0xff}, 8, Multicast},
};

// fd00:ec2::254
static constexpr std::array<uint8_t, 16> kMetadata6 = {0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0,    0,
                                                       0,    0,    0,    0,    0, 0, 0x02, 0x54};

static uint32_t ip4_value(std::span<const uint8_t> bytes) {
    return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

static AddressClass classify4(uint32_t value) {
    for (const auto& range : kRanges4)
        if (Prefix4{Ip4{range.address}, range.length}.contains(Ip4{value})) return range.kind;
    return Public;
}

static bool begins_with(std::span<const uint8_t> bytes, const Range6& range) {
    for (unsigned bit = 0; bit < range.length; bit++)
        if (((bytes[bit / 8] ^ range.address[bit / 8]) >> (7 - bit % 8)) & 1) return false;
    return true;
}

static AddressClass classify6(const std::array<uint8_t, 16>& bytes) {
    auto zeros = [&](size_t count) {
        return std::ranges::all_of(std::span(bytes).first(count), [](uint8_t b) { return b == 0; });
    };
    if (zeros(16)) return Unspecified;
    if (zeros(15) && bytes[15] == 1) return Loopback;
    if (zeros(8)) return Embedded; // ::a.b.c.d, ::ffff:a.b.c.d and their kin
    if (bytes == kMetadata6) return Metadata;
    for (const auto& range : kRanges6)
        if (begins_with(bytes, range)) return range.kind;
    return Reserved;
}

AddressClass classify(const IpAddress& address) {
    return address.v6 ? classify6(address.bytes) : classify4(ip4_value(address.bytes));
}

std::string_view describe(AddressClass kind) {
    switch (kind) {
    case Public:
        return "a public address";
    case Private:
        return "a private address";
    case Shared:
        return "an address of a carrier's own network (RFC 6598)";
    case Documentation:
        return "an address for documentation";
    case Benchmarking:
        return "an address for benchmarks";
    case Loopback:
        return "this machine's loopback";
    case LinkLocal:
        return "a link-local address";
    case Metadata:
        return "a cloud's metadata address";
    case Multicast:
        return "a multicast address";
    case Broadcast:
        return "the broadcast address";
    case Unspecified:
        return "no address of anybody (0.0.0.0/8)";
    case Reserved:
        return "a reserved address";
    case Embedded:
        return "an IPv4 address inside an IPv6 one";
    case Own:
        return "an address of this box";
    case Neighbour:
        return "a machine on this box's own network";
    }
    return "an unknown kind of address";
}

bool can_be_opened(AddressClass kind) {
    switch (kind) {
    case Public:
    case Private:
    case Shared:
    case Documentation:
    case Benchmarking:
    case Neighbour:
        return true;
    case Loopback:
    case LinkLocal:
    case Metadata:
    case Multicast:
    case Broadcast:
    case Unspecified:
    case Reserved:
    case Embedded:
    case Own:
        return false;
    }
    return false;
}

DialCheck may_dial(const IpAddress& address, bool private_allowed, std::span<const OwnAddress> own) {
    if (!address.v6 && kAgentNetwork.contains(Ip4{ip4_value(address.bytes)})) return {.kind = Own};
    auto kind = classify(address);
    if (kind != Loopback && std::ranges::find(own, address, &OwnAddress::address) != own.end())
        return {.kind = Own};
    auto near = [&](const OwnAddress& one) { return one.on_the_same_network(address); };
    if (address.v6 && kind == Public && std::ranges::any_of(own, near)) kind = Neighbour;
    return {.allowed = kind == Public || (private_allowed && can_be_opened(kind)), .kind = kind};
}

} // namespace nullbox::egress
