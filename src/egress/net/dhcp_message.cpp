#include "egress/net/dhcp_message.h"

#include <array>
#include <cstring>
#include <map>

#include "base/text.h"

namespace nullbox::egress {

// Offsets of RFC 2131 section 2; all numbers are in network order.
constexpr size_t kFixedBytes = 236, kSname = 44, kFile = 108, kSnameBytes = 64, kFileBytes = 128;
constexpr size_t kLeastBytes = 300; // of BOOTP (RFC 951): some servers take no less
constexpr std::array kCookie{std::byte{99}, std::byte{130}, std::byte{83}, std::byte{99}};
constexpr uint8_t kRequest = 1, kReply = 2, kEthernet = 1;
constexpr size_t kMaxHostname = 63;

enum Option : uint8_t {
    kPad = 0,
    kMask = 1,
    kRouters = 3,
    kDnsServers = 6,
    kHostname = 12,
    kMtu = 26,
    kTimeServers = 42,
    kRequestedAddress = 50,
    kLeaseTime = 51,
    kOverload = 52,
    kMessageType = 53,
    kServerId = 54,
    kParameters = 55,
    kMaxSize = 57,
    kRenewalTime = 58,
    kRebindingTime = 59,
    kClientId = 61,
    kEnd = 255
};

using Bytes = std::span<const std::byte>;

static uint32_t read_number(Bytes bytes) {
    uint32_t value = 0;
    for (std::byte byte : bytes) value = value << 8 | std::to_integer<uint32_t>(byte);
    return value;
}

static void write_number(std::vector<std::byte>& out, uint32_t value, size_t bytes) {
    for (size_t i = bytes; i-- > 0;) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

// --- writing

class OptionWriter {
public:
    explicit OptionWriter(std::vector<std::byte>& out) : out_(out) {}
    void number(Option option, uint32_t value, size_t bytes) {
        header(option, bytes);
        write_number(out_, value, bytes);
    }
    void number(Option option, std::optional<uint32_t> value) {
        if (value) number(option, *value, 4);
    }
    void addresses(Option option, const std::vector<Ip4>& list) {
        if (list.empty()) return;
        header(option, 4 * list.size());
        for (auto address : list) write_number(out_, address.value, 4);
    }
    void bytes(Option option, Bytes value) {
        header(option, value.size());
        out_.insert(out_.end(), value.begin(), value.end());
    }
    void header(Option option, size_t bytes) {
        out_.push_back(std::byte{option});
        out_.push_back(static_cast<std::byte>(bytes));
    }

private:
    std::vector<std::byte>& out_;
};

static void write_client_options(OptionWriter& options, const DhcpMessage& message) {
    std::array<std::byte, 7> id{std::byte{kEthernet}};
    std::memcpy(id.data() + 1, message.mac.bytes.data(), message.mac.bytes.size());
    options.bytes(kClientId, id);
    options.number(kMaxSize, kMaxDhcpBytes, 2);
    constexpr std::array kWanted{kMask,        kRouters,   kDnsServers,  kMtu,
                                 kTimeServers, kLeaseTime, kRenewalTime, kRebindingTime};
    options.bytes(kParameters, std::as_bytes(std::span(kWanted)));
}

std::vector<std::byte> encode(const DhcpMessage& message) {
    std::vector<std::byte> out;
    out.push_back(std::byte{message.reply ? kReply : kRequest});
    out.push_back(std::byte{kEthernet});
    out.push_back(static_cast<std::byte>(message.mac.bytes.size()));
    out.push_back(std::byte{0}); // hops
    write_number(out, message.transaction, 4);
    write_number(out, message.seconds, 2);
    write_number(out, 0, 2); // flags: we can take an answer to our hardware address
    write_number(out, message.client.value, 4);
    write_number(out, message.yours.value, 4);
    out.resize(28); // siaddr and giaddr
    auto mac = std::as_bytes(std::span(message.mac.bytes));
    out.insert(out.end(), mac.begin(), mac.end());
    out.resize(kFixedBytes);
    out.insert(out.end(), kCookie.begin(), kCookie.end());
    OptionWriter options(out);
    options.number(kMessageType, static_cast<uint8_t>(message.type), 1);
    if (message.requested) options.number(kRequestedAddress, message.requested->value);
    if (message.server) options.number(kServerId, message.server->value);
    options.number(kMask, message.mask);
    options.addresses(kRouters, message.routers);
    options.addresses(kDnsServers, message.dns_servers);
    options.addresses(kTimeServers, message.time_servers);
    options.number(kLeaseTime, message.lease_s);
    options.number(kRenewalTime, message.renewal_s);
    options.number(kRebindingTime, message.rebinding_s);
    if (message.mtu) options.number(kMtu, *message.mtu, 2);
    auto hostname = std::string_view(message.hostname).substr(0, kMaxHostname);
    if (!hostname.empty()) options.bytes(kHostname, std::as_bytes(std::span(hostname)));
    if (!message.reply) write_client_options(options, message);
    out.push_back(std::byte{kEnd});
    if (out.size() < kLeastBytes) out.resize(kLeastBytes);
    return out;
}

// --- reading

// Values by option; of one that comes in pieces, all pieces in order (RFC 3396).
using Options = std::map<uint8_t, std::vector<std::byte>>;

static Result<> read_options(Bytes area, Options& options) {
    while (!area.empty()) {
        auto code = std::to_integer<uint8_t>(area[0]);
        area = area.subspan(1);
        if (code == kPad) continue;
        if (code == kEnd) return {};
        if (area.empty()) return error("DHCP message ends inside an option");
        auto length = std::to_integer<size_t>(area[0]);
        if (length > area.size() - 1)
            return error(
                cat("DHCP option ", code, " of ", length, " bytes, ", area.size() - 1, " are there"));
        auto& value = options[code]; // the message's own size bounds all of them together
        auto piece = area.subspan(1, length);
        value.insert(value.end(), piece.begin(), piece.end());
        area = area.subspan(1 + length);
    }
    return {}; // without an end: common, and harmless
}

// Wrong lengths make an option absent: one bad option must not cost the address.
static std::optional<uint32_t> number_option(const Options& options, Option option, size_t bytes) {
    auto found = options.find(option);
    if (found == options.end() || found->second.size() != bytes) return std::nullopt;
    return read_number(found->second);
}

static std::vector<Ip4> addresses_option(const Options& options, Option option) {
    std::vector<Ip4> list;
    auto found = options.find(option);
    if (found == options.end() || found->second.size() % 4 != 0) return list;
    for (Bytes rest = found->second; !rest.empty() && list.size() < kMaxDhcpServers; rest = rest.subspan(4))
        list.push_back(Ip4{read_number(rest.first(4))});
    return list;
}

static Result<> take_options(DhcpMessage& message, const Options& options) {
    auto type = number_option(options, kMessageType, 1);
    if (!type || *type < 1 || *type > 8) return error("DHCP message without a type");
    message.type = static_cast<DhcpType>(*type);
    if (auto address = number_option(options, kRequestedAddress, 4)) message.requested = Ip4{*address};
    if (auto address = number_option(options, kServerId, 4)) message.server = Ip4{*address};
    message.mask = number_option(options, kMask, 4);
    message.routers = addresses_option(options, kRouters);
    message.dns_servers = addresses_option(options, kDnsServers);
    message.time_servers = addresses_option(options, kTimeServers);
    message.lease_s = number_option(options, kLeaseTime, 4);
    message.renewal_s = number_option(options, kRenewalTime, 4);
    message.rebinding_s = number_option(options, kRebindingTime, 4);
    if (auto mtu = number_option(options, kMtu, 2)) message.mtu = static_cast<uint16_t>(*mtu);
    if (auto name = options.find(kHostname); name != options.end() && name->second.size() <= kMaxHostname)
        message.hostname.assign(reinterpret_cast<const char*>(name->second.data()), name->second.size());
    return {};
}

Result<DhcpMessage> parse_dhcp(Bytes bytes) {
    if (bytes.size() < kFixedBytes + kCookie.size() || bytes.size() > kMaxDhcpBytes)
        return error(cat("DHCP message of ", bytes.size(), " bytes"));
    if (std::memcmp(bytes.data() + kFixedBytes, kCookie.data(), kCookie.size()) != 0)
        return error("BOOTP message without DHCP's cookie");
    DhcpMessage message;
    auto operation = std::to_integer<uint8_t>(bytes[0]);
    if (operation != kRequest && operation != kReply)
        return error("DHCP message is neither request nor reply");
    if (std::to_integer<uint8_t>(bytes[1]) != kEthernet ||
        std::to_integer<uint8_t>(bytes[2]) != message.mac.bytes.size())
        return error("DHCP message is not for Ethernet");
    message.reply = operation == kReply;
    message.transaction = read_number(bytes.subspan(4, 4));
    message.seconds = static_cast<uint16_t>(read_number(bytes.subspan(8, 2)));
    message.client = Ip4{read_number(bytes.subspan(12, 4))};
    message.yours = Ip4{read_number(bytes.subspan(16, 4))};
    std::memcpy(message.mac.bytes.data(), bytes.data() + 28, message.mac.bytes.size());
    Options options;
    TRY(read_options(bytes.subspan(kFixedBytes + kCookie.size()), options));
    // Options may go on in the two name fields, file first (RFC 2132 section 9.3).
    auto overload = number_option(options, kOverload, 1).value_or(0);
    if (overload & 1) TRY(read_options(bytes.subspan(kFile, kFileBytes), options));
    if (overload & 2) TRY(read_options(bytes.subspan(kSname, kSnameBytes), options));
    TRY(take_options(message, options));
    return message;
}

// --- the packet around it

constexpr size_t kIpBytes = 20, kUdpBytes = 8;
constexpr uint8_t kUdp = 17, kTimeToLive = 64;

static uint32_t add_words(Bytes bytes, uint32_t sum) {
    for (; bytes.size() >= 2; bytes = bytes.subspan(2)) sum += read_number(bytes.first(2));
    if (!bytes.empty()) sum += read_number(bytes) << 8;
    return sum;
}

static uint16_t fold(uint32_t sum) {
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~sum);
}

static void set_checksum(std::vector<std::byte>& out, size_t at, uint16_t value) {
    out[at] = static_cast<std::byte>(value >> 8);
    out[at + 1] = static_cast<std::byte>(value);
}

std::vector<std::byte> wrap_in_udp(Ip4 source, Ip4 destination, Bytes payload) {
    auto udp_bytes = static_cast<uint32_t>(kUdpBytes + payload.size());
    std::vector<std::byte> out;
    write_number(out, 0x4500, 2); // version 4, five words, no service class
    write_number(out, static_cast<uint32_t>(kIpBytes) + udp_bytes, 2);
    write_number(out, 0, 4); // not fragmented
    write_number(out, uint32_t{kTimeToLive} << 8 | kUdp, 2);
    write_number(out, 0, 2);
    write_number(out, source.value, 4);
    write_number(out, destination.value, 4);
    set_checksum(out, 10, fold(add_words(out, 0)));
    write_number(out, kDhcpClientPort, 2);
    write_number(out, kDhcpServerPort, 2);
    write_number(out, udp_bytes, 2);
    write_number(out, 0, 2);
    out.insert(out.end(), payload.begin(), payload.end());
    Bytes all(out);
    // Over the addresses, the protocol, the length, and all from the UDP header on.
    uint32_t sum = add_words(all.subspan(12), kUdp + udp_bytes);
    uint16_t checksum = fold(sum);
    set_checksum(out, kIpBytes + 6, checksum == 0 ? 0xffff : checksum);
    return out;
}

Result<DhcpPacket> unwrap_from_udp(Bytes packet) {
    if (packet.size() < kIpBytes + kUdpBytes) return error("packet is too short for UDP");
    auto first = std::to_integer<uint8_t>(packet[0]);
    size_t header = size_t{first & 15u} * 4, total = read_number(packet.subspan(2, 2));
    if (first >> 4 != 4 || header < kIpBytes || total > packet.size() || total < header + kUdpBytes)
        return error("packet's IP header is wrong");
    if (fold(add_words(packet.first(header), 0)) != 0) return error("packet's IP checksum is wrong");
    if (read_number(packet.subspan(6, 2)) & 0x3fff) return error("packet is a fragment");
    auto udp = packet.subspan(header, total - header);
    size_t length = read_number(udp.subspan(4, 2));
    if (std::to_integer<uint8_t>(packet[9]) != kUdp || read_number(udp.first(2)) != kDhcpServerPort ||
        read_number(udp.subspan(2, 2)) != kDhcpClientPort)
        return error("packet is not a DHCP server's");
    if (length < kUdpBytes || length > udp.size()) return error("packet's UDP length is wrong");
    return DhcpPacket{.source = Ip4{read_number(packet.subspan(12, 4))},
                      .destination = Ip4{read_number(packet.subspan(16, 4))},
                      .payload = udp.subspan(kUdpBytes, length - kUdpBytes)};
}

} // namespace nullbox::egress
