#include "egress/net/address.h"

#include <arpa/inet.h>
#include <bit>
#include <cstring>

#include "base/text.h"

namespace nullbox::egress {

std::string Ip4::text() const {
    return cat(value >> 24, '.', value >> 16 & 255, '.', value >> 8 & 255, '.', value & 255);
}

std::optional<Ip4> Ip4::parse(std::string_view text) {
    auto parts = split(text, '.');
    if (parts.size() != 4) return std::nullopt;
    Ip4 address;
    for (auto part : parts) {
        if (part.size() > 1 && part[0] == '0') return std::nullopt; // octal to some, decimal to others
        if (part.empty() || part[0] == '-' || part[0] == '+') return std::nullopt;
        auto number = parse_number(part, 0, 255);
        if (!number) return std::nullopt;
        address.value = address.value << 8 | static_cast<uint32_t>(*number);
    }
    return address;
}

std::string Prefix4::text() const { return cat(address.text(), '/', length); }

std::optional<Prefix4> Prefix4::parse(std::string_view text) {
    auto slash = text.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    auto address = Ip4::parse(text.substr(0, slash));
    auto length = parse_number(text.substr(slash + 1), 0, 32);
    if (!address || !length) return std::nullopt;
    return Prefix4{*address, static_cast<uint8_t>(*length)};
}

std::optional<uint8_t> prefix_length(uint32_t mask) {
    auto ones = std::countl_one(mask);
    if (std::popcount(mask) != ones) return std::nullopt;
    return static_cast<uint8_t>(ones);
}

bool Ip6::global_unicast() const {
    bool teredo = bytes[0] == 0x20 && bytes[1] == 0x01 && bytes[2] == 0 && bytes[3] == 0;
    bool six_to_four = bytes[0] == 0x20 && bytes[1] == 0x02;
    return ((bytes[0] & 0xe0) == 0x20 && !teredo && !six_to_four) || (bytes[0] & 0xfe) == 0xfc;
}

std::string Ip6::text() const { return IpAddress::of(*this).text(); }

std::optional<Ip6> Ip6::parse(std::string_view text) {
    auto address = IpAddress::parse(text);
    if (!address || !address->v6) return std::nullopt;
    return Ip6{address->bytes};
}

std::optional<Ip6> Ip6::from_bytes(std::span<const std::byte> bytes) {
    auto address = IpAddress::from_bytes(bytes);
    if (!address || !address->v6) return std::nullopt;
    return Ip6{address->bytes};
}

static bool same_bits(const std::array<uint8_t, 16>& one, const std::array<uint8_t, 16>& other,
                      uint8_t length) {
    for (size_t bit = 0; bit < length; bit++)
        if ((one[bit / 8] ^ other[bit / 8]) & (0x80 >> bit % 8)) return false;
    return true;
}

bool Prefix6::contains(const Ip6& other) const { return same_bits(address.bytes, other.bytes, length); }

bool OwnAddress::on_the_same_network(const IpAddress& other) const {
    return other.v6 == address.v6 && same_bits(address.bytes, other.bytes, length);
}

std::string Prefix6::text() const { return cat(address.text(), '/', length); }

std::optional<Prefix6> Prefix6::parse(std::string_view text) {
    auto slash = text.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    auto address = Ip6::parse(text.substr(0, slash));
    auto length = parse_number(text.substr(slash + 1), 0, 128);
    if (!address || !length) return std::nullopt;
    return Prefix6{*address, static_cast<uint8_t>(*length)};
}

std::string IpAddress::text() const {
    char out[INET6_ADDRSTRLEN]{};
    ::inet_ntop(v6 ? AF_INET6 : AF_INET, bytes.data(), out, sizeof out);
    return out;
}

IpAddress IpAddress::of(Ip4 address) {
    IpAddress out;
    for (size_t i = 0; i < 4; i++) out.bytes[i] = static_cast<uint8_t>(address.value >> (24 - 8 * i));
    return out;
}

Ip4 IpAddress::ip4() const {
    if (v6) return {};
    return {uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3]};
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
    if (auto v4 = Ip4::parse(text)) return of(*v4);
    if (text.find(':') == std::string_view::npos || text.find('\0') != std::string_view::npos)
        return std::nullopt;
    IpAddress out{.v6 = true};
    if (::inet_pton(AF_INET6, std::string(text).c_str(), out.bytes.data()) != 1) return std::nullopt;
    return out;
}

std::optional<IpAddress> IpAddress::from_bytes(std::span<const std::byte> bytes) {
    if (bytes.size() != 4 && bytes.size() != 16) return std::nullopt;
    IpAddress out{.v6 = bytes.size() == 16};
    std::memcpy(out.bytes.data(), bytes.data(), bytes.size());
    return out;
}

std::string Mac::text() const {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    for (uint8_t byte : bytes) {
        if (!out.empty()) out += ':';
        out += kDigits[byte >> 4];
        out += kDigits[byte & 15];
    }
    return out;
}

} // namespace nullbox::egress
