#include "egress/net/router_advert.h"

#include <algorithm>

#include "base/text.h"

namespace nullbox::egress {

constexpr uint8_t kSolicit = 133, kAdvert = 134; // ICMPv6 types
constexpr size_t kFixedBytes = 16, kUnit = 8;    // options count in units of 8 bytes
constexpr uint8_t kManaged = 0x80, kOnLink = 0x80, kAutonomous = 0x40;

enum Option : uint8_t { kSourceLink = 1, kPrefix = 3, kMtu = 5, kServers = 25 };
constexpr size_t kPrefixBytes = 32, kMtuBytes = 8, kServersHead = 8, kAddressBytes = 16;

using Bytes = std::span<const std::byte>;

static uint32_t read_number(Bytes bytes) {
    uint32_t value = 0;
    for (std::byte byte : bytes) value = value << 8 | std::to_integer<uint32_t>(byte);
    return value;
}

static uint8_t read_byte(Bytes bytes, size_t at) { return std::to_integer<uint8_t>(bytes[at]); }

// --- reading; each gets one whole option, header and all

static void take_prefix(RouterAdvert& advert, Bytes option) {
    auto length = read_byte(option, 2), flags = read_byte(option, 3);
    if (length > 128 || advert.prefixes.size() == kMaxAdvertPrefixes) return;
    auto address = Ip6::from_bytes(option.subspan(16, kAddressBytes));
    advert.prefixes.push_back({.prefix = {*address, length},
                               .on_link = (flags & kOnLink) != 0,
                               .autonomous = (flags & kAutonomous) != 0,
                               .valid_s = read_number(option.subspan(4, 4)),
                               .preferred_s = read_number(option.subspan(8, 4))});
}

static void take_servers(RouterAdvert& advert, Bytes option) {
    AdvertServers servers{.addresses = {}, .lifetime_s = read_number(option.subspan(4, 4))};
    size_t room = kMaxAdvertServers;
    for (const auto& earlier : advert.servers) room -= earlier.addresses.size();
    for (Bytes rest = option.subspan(kServersHead); !rest.empty() && room > 0; room--) {
        servers.addresses.push_back(*Ip6::from_bytes(rest.first(kAddressBytes)));
        rest = rest.subspan(kAddressBytes);
    }
    if (!servers.addresses.empty()) advert.servers.push_back(std::move(servers));
}

static void take_option(RouterAdvert& advert, Bytes option) {
    switch (read_byte(option, 0)) {
    case kPrefix:
        if (option.size() == kPrefixBytes) take_prefix(advert, option);
        break;
    case kMtu:
        if (option.size() == kMtuBytes) advert.mtu = read_number(option.subspan(4, 4));
        break;
    case kServers: // one unit, then two for each address
        if (option.size() > kServersHead && (option.size() - kServersHead) % kAddressBytes == 0)
            take_servers(advert, option);
        break;
    default:
        break;
    }
}

// 10 is reserved and means 0 (RFC 4191 section 2.2).
static int preference_of(uint8_t flags) {
    switch (flags >> 3 & 3) {
    case 1:
        return 1;
    case 3:
        return -1;
    default:
        return 0;
    }
}

Result<RouterAdvert> parse_router_advert(const AdvertPacket& packet) {
    auto bytes = packet.bytes;
    if (packet.hop_limit != kAdvertHopLimit)
        return error(cat("router advertisement with hop limit ", packet.hop_limit, ": it is from elsewhere"));
    if (!packet.source.link_local())
        return error(cat("router advertisement from ", packet.source.text(), ", which is not link-local"));
    if (bytes.size() < kFixedBytes || bytes.size() > kMaxAdvertBytes)
        return error(cat("router advertisement of ", bytes.size(), " bytes"));
    if (read_byte(bytes, 0) != kAdvert || read_byte(bytes, 1) != 0)
        return error("message is no router advertisement");
    auto flags = read_byte(bytes, 5);
    RouterAdvert advert{.lifetime_s = static_cast<uint16_t>(read_number(bytes.subspan(6, 2))),
                        .preference = preference_of(flags),
                        .managed = (flags & kManaged) != 0};
    for (auto rest = bytes.subspan(kFixedBytes); !rest.empty();) {
        if (rest.size() < 2) return error("router advertisement ends inside an option");
        size_t size = kUnit * read_byte(rest, 1);
        if (size == 0) return error("router advertisement has an option of length 0");
        if (size > rest.size())
            return error(cat("router advertisement's option ", read_byte(rest, 0), " has ", size, " bytes, ",
                             rest.size(), " are there"));
        take_option(advert, rest.first(size));
        rest = rest.subspan(size);
    }
    return advert;
}

// --- writing

static void write_number(std::vector<std::byte>& out, uint32_t value, size_t bytes) {
    for (size_t i = bytes; i-- > 0;) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

static void write_address(std::vector<std::byte>& out, const Ip6& address) {
    std::ranges::copy(std::as_bytes(std::span(address.bytes)), std::back_inserter(out));
}

static void begin_option(std::vector<std::byte>& out, Option option, size_t bytes) {
    write_number(out, option, 1);
    write_number(out, static_cast<uint32_t>(bytes / kUnit), 1);
}

std::vector<std::byte> encode(const RouterAdvert& advert) {
    std::vector<std::byte> out;
    write_number(out, uint32_t{kAdvert} << 24, 4);
    auto preference = advert.preference == 0 ? 0u : advert.preference > 0 ? 1u : 3u;
    write_number(out, 0, 1); // hop limit: not said
    write_number(out, (advert.managed ? kManaged : 0u) | preference << 3, 1);
    write_number(out, advert.lifetime_s, 2);
    write_number(out, 0, 4); // times for neighbours: not said
    write_number(out, 0, 4);
    for (const auto& prefix : advert.prefixes) {
        begin_option(out, kPrefix, kPrefixBytes);
        write_number(out, prefix.prefix.length, 1);
        write_number(out, (prefix.on_link ? kOnLink : 0u) | (prefix.autonomous ? kAutonomous : 0u), 1);
        write_number(out, prefix.valid_s, 4);
        write_number(out, prefix.preferred_s, 4);
        write_number(out, 0, 4);
        write_address(out, prefix.prefix.address);
    }
    if (advert.mtu) {
        begin_option(out, kMtu, kMtuBytes);
        write_number(out, 0, 2);
        write_number(out, *advert.mtu, 4);
    }
    for (const auto& servers : advert.servers) {
        begin_option(out, kServers, kServersHead + kAddressBytes * servers.addresses.size());
        write_number(out, 0, 2);
        write_number(out, servers.lifetime_s, 4);
        for (const auto& address : servers.addresses) write_address(out, address);
    }
    return out;
}

std::vector<std::byte> encode_router_solicit(const Mac& ours) {
    std::vector<std::byte> out;
    write_number(out, uint32_t{kSolicit} << 24, 4);
    write_number(out, 0, 4);
    begin_option(out, kSourceLink, kUnit);
    std::ranges::copy(std::as_bytes(std::span(ours.bytes)), std::back_inserter(out));
    return out;
}

} // namespace nullbox::egress
