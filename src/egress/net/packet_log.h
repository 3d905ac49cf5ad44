// What the rules tell of dropped packets (nfnetlink_log): the message and the first bytes of the packet in
// it. The packet is the guest's, every byte of it. Pure: the subscription is a list of messages that
// NetlinkEvents sends.
#pragma once

#include "egress/net/netlink.h"
#include "egress/net/network.h"

namespace nullbox::egress {

// To one socket, which gets the packets of kLogGroup from then on.
std::vector<NetlinkMessage> subscribe_to_packet_log();

// Nothing: an acknowledgement, or a packet that is not of a tap of ours. A packet too short to say more about
// is reported with what is known.
std::optional<DroppedPacket> parse_packet_log(const NetlinkView& view);
// The headers alone.
DroppedPacket describe_packet(std::span<const std::byte> packet);

} // namespace nullbox::egress
