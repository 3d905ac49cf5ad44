// Addresses as values: IPv4 in host byte order, an address of either family, a prefix, a hardware address.
// Texts are strict (no "10.1", no leading zero, no zone): what parses here means the same to everybody.
// Pure: no system calls.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace nullbox::egress {

struct Ip4 {
    uint32_t value = 0; // host byte order: 192.0.2.1 is 0xc0000201
    auto operator<=>(const Ip4&) const = default;
    std::string text() const;
    static std::optional<Ip4> parse(std::string_view text);
};

struct Prefix4 {
    Ip4 address; // may have host bits: "192.0.2.7/24" is an interface's address with its network
    uint8_t length = 32;
    bool operator==(const Prefix4&) const = default;
    uint32_t mask() const { return length == 0 ? 0 : ~uint32_t{0} << (32 - length); }
    bool contains(Ip4 other) const { return ((other.value ^ address.value) & mask()) == 0; }
    std::string text() const;
    static std::optional<Prefix4> parse(std::string_view text);
};

struct Endpoint4 {
    Ip4 address;
    uint16_t port = 0;
    auto operator<=>(const Endpoint4&) const = default;
};

struct Ip6 {
    std::array<uint8_t, 16> bytes{}; // network byte order
    auto operator<=>(const Ip6&) const = default;
    bool link_local() const { return bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80; } // fe80::/10
    // Of a host somewhere: 2000::/3 or fc00::/7, but for the ranges with IPv4 addresses inside (Teredo,
    // 6to4).
    bool global_unicast() const;
    std::string text() const;
    static std::optional<Ip6> parse(std::string_view text);
    static std::optional<Ip6> from_bytes(std::span<const std::byte> bytes); // of exactly 16
};

struct Prefix6 {
    Ip6 address; // may have host bits, as Prefix4's
    uint8_t length = 128;
    bool operator==(const Prefix6&) const = default;
    bool contains(const Ip6& other) const;
    std::string text() const;
    static std::optional<Prefix6> parse(std::string_view text);
};

// The prefix length of a netmask, or nothing if its ones are not contiguous.
std::optional<uint8_t> prefix_length(uint32_t mask);

struct IpAddress {
    bool v6 = false;
    std::array<uint8_t, 16> bytes{}; // network byte order; IPv4 in the first four
    bool operator==(const IpAddress&) const = default;
    size_t size() const { return v6 ? 16 : 4; }
    std::string text() const;
    static IpAddress of(Ip4 address);
    Ip4 ip4() const; // 0.0.0.0 for one of IPv6
    static IpAddress of(const Ip6& address) { return {.v6 = true, .bytes = address.bytes}; }
    bool link_local6() const { return v6 && Ip6{bytes}.link_local(); }
    static std::optional<IpAddress> parse(std::string_view text);
    // Of 4 or 16 bytes in network order; anything else is nothing.
    static std::optional<IpAddress> from_bytes(std::span<const std::byte> bytes);
};

// Where to connect to, or who has connected.
struct Endpoint {
    IpAddress address;
    uint16_t port = 0;
    uint32_t link = 0; // the interface's index, where the address is of a link (fe80::/10)
    bool operator==(const Endpoint&) const = default;
};

// One of this box's addresses, and the network that it is in.
struct OwnAddress {
    IpAddress address;
    uint8_t length = 0; // of the network's prefix, in bits; at most 32 or 128
    bool operator==(const OwnAddress&) const = default;
    bool on_the_same_network(const IpAddress& other) const;
};

struct Mac {
    std::array<uint8_t, 6> bytes{};
    bool operator==(const Mac&) const = default;
    std::string text() const; // "02:4e:42:01:00:07"
};

} // namespace nullbox::egress
