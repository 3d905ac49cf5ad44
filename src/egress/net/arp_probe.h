// Asks by ARP whether somebody on a link has an IPv4 address already, before it is used (RFC 5227 section
// 2.1). What others send is hostile: at worst it keeps us from an address, which who is on the link can do
// anyway.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/loop.h"
#include "egress/net/address.h"

namespace nullbox::egress {

// An ARP request from nobody's address for this one, as the payload of an Ethernet frame.
std::vector<std::byte> encode_arp_probe(const Mac& ours, Ip4 address);
// Who says by this ARP packet that the address is his, or is about to take it; nobody: it is about something
// else, broken, or our own.
std::optional<Mac> arp_claimant(std::span<const std::byte> packet, const Mac& ours, Ip4 address);

// Listens as long as it exists. Needs CAP_NET_RAW.
class ArpProbe {
public:
    using Claimed = std::function<void(const Mac& by)>; // may be told again and again
    static Result<std::unique_ptr<ArpProbe>> open(Loop& loop, unsigned link, const Mac& ours, Ip4 address,
                                                  Claimed claimed);
    Result<> send(); // one probe

private:
    ArpProbe(unsigned link, const Mac& ours, Ip4 address, Claimed claimed)
        : link_(link), ours_(ours), address_(address), claimed_(std::move(claimed)) {}
    void readable();
    unsigned link_;
    Mac ours_;
    Ip4 address_;
    Claimed claimed_;
    Fd socket_;
    Watch watch_; // after what it watches: dropped first
};

} // namespace nullbox::egress
