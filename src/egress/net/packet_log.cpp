#include "egress/net/packet_log.h"

#include <netinet/in.h>

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>

#include "base/text.h"
#include "egress/net/rules.h"

namespace nullbox::egress {

static NetlinkMessage configuration(std::string label) {
    nfgenmsg header{.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = network_order(kLogGroup)};
    return NetlinkMessage::make(NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG, 0, std::move(label), header);
}

std::vector<NetlinkMessage> subscribe_to_packet_log() {
    auto bind = configuration("take the log of dropped packets");
    nfulnl_msg_config_cmd command{.command = NFULNL_CFG_CMD_BIND};
    bind.body.bytes(NFULA_CFG_CMD, std::as_bytes(std::span(&command, 1)));
    auto mode = configuration("set up the log of dropped packets");
    nfulnl_msg_config_mode packets{.copy_range = network_order(kLogBytes), .copy_mode = NFULNL_COPY_PACKET};
    mode.body.bytes(NFULA_CFG_MODE, std::as_bytes(std::span(&packets, 1)));
    mode.body.network_number(NFULA_CFG_QTHRESH,
                             uint32_t{1}); // at once: there are few, by the rules' rate limit
    return {bind, mode};
}

static uint16_t port_at(std::span<const std::byte> packet, size_t offset) {
    if (packet.size() < offset + 2) return 0;
    return static_cast<uint16_t>(std::to_integer<uint16_t>(packet[offset]) << 8 |
                                 std::to_integer<uint16_t>(packet[offset + 1]));
}

DroppedPacket describe_packet(std::span<const std::byte> packet) {
    DroppedPacket out;
    if (packet.empty()) return out;
    auto first = std::to_integer<uint8_t>(packet[0]);
    size_t transport = 0;
    bool first_fragment = true;
    if (first >> 4 == 4 && packet.size() >= 20) {
        transport = size_t{first & 15u} * 4;
        first_fragment = (port_at(packet, 6) & 0x1fff) == 0;
        out.protocol = std::to_integer<uint8_t>(packet[9]);
        out.source = *IpAddress::from_bytes(packet.subspan(12, 4));
        out.destination = *IpAddress::from_bytes(packet.subspan(16, 4));
    } else if (first >> 4 == 6 && packet.size() >= 40) {
        transport = 40; // extension headers are shown as the protocol they are
        out.protocol = std::to_integer<uint8_t>(packet[6]);
        out.source = *IpAddress::from_bytes(packet.subspan(8, 16));
        out.destination = *IpAddress::from_bytes(packet.subspan(24, 16));
    }
    bool has_ports = out.protocol == IPPROTO_TCP || out.protocol == IPPROTO_UDP;
    if (has_ports && first_fragment && transport >= 20) out.destination_port = port_at(packet, transport + 2);
    return out;
}

std::optional<DroppedPacket> parse_packet_log(const NetlinkView& view) {
    if (view.type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET)) return std::nullopt;
    auto attributes = Attributes::parse(view.after(sizeof(nfgenmsg)));
    if (!attributes) return std::nullopt;
    auto slot = slot_of_tap(attributes->text(NFULA_PREFIX));
    if (!slot) return std::nullopt;
    auto out = describe_packet(attributes->find(NFULA_PAYLOAD).value_or(std::span<const std::byte>()));
    out.slot = *slot;
    return out;
}

static std::string protocol_name(uint8_t protocol) {
    switch (protocol) {
    case IPPROTO_TCP:
        return "TCP";
    case IPPROTO_UDP:
        return "UDP";
    case IPPROTO_ICMP:
        return "ICMP";
    case IPPROTO_ICMPV6:
        return "ICMPv6";
    default:
        return cat("IP protocol ", protocol);
    }
}

std::string DroppedPacket::text() const {
    auto out = cat(protocol_name(protocol), ' ', source.text(), " -> ", destination.text());
    if (destination_port != 0) out += cat(" port ", destination_port);
    return out;
}

} // namespace nullbox::egress
