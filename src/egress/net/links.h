// Links, addresses, routes and neighbours through rtnetlink (rtnetlink(7)): what is there, and the few
// changes that NullBox makes. Whatever is set is asked for again and again, so everything set here may
// already be so.
#pragma once

#include "egress/net/netlink_socket.h"
#include "egress/net/tap_link.h"

namespace nullbox::egress {

struct Link {
    unsigned index = 0;
    std::string name;
    std::string kind;               // "tun", "vlan", "veth", "": a real device
    unsigned below = 0;             // the link that a VLAN's packets go through, else 0
    std::optional<uint16_t> vlan{}; // the id of a VLAN (IEEE 802.1Q)
    Mac mac;
    uint32_t mtu = 0;
    bool ethernet = false, loopback = false, up = false, carrier = false;
    bool is_card() const { return ethernet && !loopback && kind != "tun" && !vlan && !slot_of_tap(name); }
};

struct LinkAddress {
    unsigned link = 0;
    IpAddress address;
    uint8_t prefix = 0;
    // IPv6: still being checked for duplicates, or found to be somebody else's (RFC 4862 section 5.4): no
    // packet leaves with it.
    bool tentative = false, duplicate = false;
    bool usable() const { return !tentative && !duplicate; }
};

// The table that holds "local 0.0.0.0/0", and the rule that only packets with kMarkProxy look into it.
constexpr uint32_t kProxyRouteTable = 0x4e42, kProxyRulePriority = 100;

class Links {
public:
    static Result<Links> open();

    Result<std::vector<Link>> links();
    Result<std::vector<LinkAddress>> addresses();

    Result<> set_up(unsigned link, bool up = true);
    Result<> remove(unsigned link);
    Result<> set_mtu(unsigned link, uint32_t mtu);
    // A tap before it is up: hardware address, MTU, no IPv6 address of its own, an ARP that answers only for
    // its own address and only to that network, sources checked against routes, nothing redirected.
    Result<> set_up_tap(unsigned link, const TapLink& tap);
    // The card: ARP only for the address it has.
    Result<> set_up_card(unsigned link);
    // A link whose packets leave through another one with this tag. EOPNOTSUPP: the kernel knows no VLANs.
    Result<> add_vlan(unsigned below, uint16_t id, std::string_view name);
    // What only carries VLANs: no address, not even a link-local one, of either family.
    Result<> strip(unsigned link);

    // valid_s: seconds until the kernel itself takes it away, 0: for ever.
    Result<> set_address(unsigned link, Prefix4 address, uint32_t valid_s = 0);
    Result<> remove_address(unsigned link, Prefix4 address);
    // IPv4. Replaces the one that is there. on_link: reachable though no address of ours covers it.
    struct DefaultRoute {
        Ip4 gateway, source;
        bool on_link = false, by_dhcp = false;
    };
    Result<> set_default_route(unsigned link, const DefaultRoute& route);
    Result<> remove_default_route(unsigned link);
    // IPv6 (links6.cpp). The kernel itself checks for duplicates. Times in seconds, UINT32_MAX: for ever.
    struct Address6 {
        Prefix6 address;
        uint32_t preferred_s = UINT32_MAX, valid_s = UINT32_MAX;
        bool on_link = true; // its network is reached without a router
    };
    Result<> set_address(unsigned link, const Address6& address);
    Result<> remove_address(unsigned link, const Prefix6& address);
    struct DefaultRoute6 {
        Ip6 gateway; // link-local, or in a network that is on the link, or on_link
        uint32_t valid_s = UINT32_MAX;
        bool on_link = false, by_advert = false;
    };
    Result<> set_default_route(unsigned link, const DefaultRoute6& route);
    Result<> remove_default_route6(unsigned link);
    // No ARP for this address ever: it is there.
    Result<> set_neighbour(unsigned link, Ip4 address, const Mac& mac);
    // What kMarkProxy needs (see kProxyRouteTable).
    Result<> route_proxy_packets();

private:
    explicit Links(NetlinkSocket socket) : socket_(std::move(socket)) {}
    Result<> make_no_ipv6_address(unsigned link);
    Result<> add_or_keep(const NetlinkMessage& message);
    Result<> remove_or_lack(const NetlinkMessage& message);
    NetlinkSocket socket_;
};

} // namespace nullbox::egress
