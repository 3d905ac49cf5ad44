// What kind of place an address is, by IANA's special-purpose registries (RFC 6890 and its successors), and
// whether egress may dial it. Pure. The check is made on the very address that is dialled, at every connect:
// what a name resolved to earlier says nothing.
#pragma once

#include <span>
#include <string_view>

#include "egress/net/address.h"

namespace nullbox::egress {

enum class AddressClass : uint8_t {
    Public,
    Private,       // RFC 1918, fc00::/7
    Shared,        // carrier-grade NAT, RFC 6598
    Documentation, // RFC 5737, RFC 3849, RFC 9637
    Benchmarking,  // RFC 2544, RFC 5180
    Loopback,
    LinkLocal,
    Metadata, // where clouds serve credentials of the machine
    Multicast,
    Broadcast,
    Unspecified,
    Reserved,
    Embedded,  // an IPv4 address inside an IPv6 one: mapped, NAT64, 6to4, Teredo
    Own,       // of this box or of its agents' network; only may_dial() finds it
    Neighbour, // IPv6, public, and on a network that this box is on; only may_dial() finds it
};

AddressClass classify(const IpAddress& address);
// "a private address (RFC 1918)".
std::string_view describe(AddressClass kind);
// Whether a manifest's allow_private may open it.
bool can_be_opened(AddressClass kind);

struct DialCheck {
    bool allowed = false;
    AddressClass kind = AddressClass::Reserved;
};
// own: all of this box. The agents' network (tap_link.h) is always own. A neighbour is as good as private: on
// an IPv6 network every printer has a public address, and DNS may point at it.
DialCheck may_dial(const IpAddress& address, bool private_allowed, std::span<const OwnAddress> own);

} // namespace nullbox::egress
