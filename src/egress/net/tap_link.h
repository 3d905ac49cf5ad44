// The numbers of one agent's link: pure arithmetic on its slot, so that an address alone tells whose it is.
//
// All of it lies in 198.18.0.0/15 (RFC 2544: benchmarks; routed nowhere), 1024 addresses a slot:
//   base + 1            egress on the tap: gateway and DNS server
//   base + 2            the guest
//   base + 4 .. +1023   synthetic addresses: each stands for one name that this agent may reach
// The guest's own prefix is the /30 of the first four; all else goes to the gateway. Synthetic addresses are
// on no interface: the rules (rules.h) hand TCP to them to the proxy's listener, whatever the port, and only
// if the packet comes from that slot's tap with that slot's guest address.
#pragma once

#include "egress/net/address.h"

namespace nullbox::egress {

constexpr unsigned kMaxSlots = 128;
constexpr Prefix4 kAgentNetwork{Ip4{0xc6120000}, 15};
constexpr uint32_t kAddressesPerSlot = 1024;
constexpr uint8_t kGuestPrefix = 30;
constexpr uint32_t kTapMtu = 1500;
constexpr size_t kMaxLiterals = 256; // "address:port" entries of one agent

struct TapLink {
    unsigned slot = 0;
    std::string name;   // of the tap on the host: "nbtap7"
    Ip4 gateway, guest; // gateway is the DNS server too
    Ip4 first_synthetic, last_synthetic;
    Mac host_mac, guest_mac;
    bool is_synthetic(Ip4 address) const { return address >= first_synthetic && address <= last_synthetic; }
};

// slot < kMaxSlots.
TapLink tap_link(unsigned slot);
// Whose address this is: any of the slot's 1024; nothing outside kAgentNetwork.
std::optional<unsigned> slot_of(Ip4 address);
// "nbtap7" -> 7; nothing for a link that is not a tap of ours.
std::optional<unsigned> slot_of_tap(std::string_view link_name);

} // namespace nullbox::egress
