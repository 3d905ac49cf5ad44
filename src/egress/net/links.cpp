#include "egress/net/links.h"

#include <algorithm>
#include <cerrno>
#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "base/text.h"
#include "egress/net/rules.h"

namespace nullbox::egress {

constexpr size_t kMaxLinks = 4096;
constexpr unsigned kLoopback = 1; // the kernel gives every network namespace's "lo" this index

Result<Links> Links::open() { return Links(TRY(NetlinkSocket::open(NETLINK_ROUTE))); }

Result<> Links::add_or_keep(const NetlinkMessage& message) {
    auto done = socket_.request(message);
    if (!done && done.error().code != EEXIST) return std::move(done.error());
    return {};
}

Result<> Links::remove_or_lack(const NetlinkMessage& message) {
    auto done = socket_.request(message);
    if (done) return {};
    for (int code : {ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL})
        if (done.error().code == code) return {};
    return std::move(done.error());
}

// --- looking

static Result<Link> parse_link(const NetlinkView& view) {
    auto header = view.header<ifinfomsg>();
    if (!header) return error("a link's description is cut short");
    auto attributes = TRY(Attributes::parse(view.after(sizeof(ifinfomsg))));
    Link link{.index = static_cast<unsigned>(header->ifi_index),
              .name = attributes.text(IFLA_IFNAME),
              .mtu = attributes.number<uint32_t>(IFLA_MTU).value_or(0),
              .ethernet = header->ifi_type == ARPHRD_ETHER,
              .loopback = (header->ifi_flags & IFF_LOOPBACK) != 0,
              .up = (header->ifi_flags & IFF_UP) != 0,
              .carrier = attributes.number<uint8_t>(IFLA_CARRIER).value_or(0) != 0};
    auto info = TRY(attributes.nested(IFLA_LINKINFO));
    link.kind = info.text(IFLA_INFO_KIND);
    if (link.kind == "vlan") {
        link.below = attributes.number<uint32_t>(IFLA_LINK).value_or(0);
        auto data = TRY(info.nested(IFLA_INFO_DATA));
        link.vlan = data.number<uint16_t>(IFLA_VLAN_ID).value_or(0);
    }
    auto mac = attributes.find(IFLA_ADDRESS);
    if (mac && mac->size() == link.mac.bytes.size())
        std::memcpy(link.mac.bytes.data(), mac->data(), mac->size());
    return link;
}

Result<std::vector<Link>> Links::links() {
    ifinfomsg all{};
    std::vector<Link> links;
    for (const auto& reply : TRY(socket_.dump(NetlinkMessage::make(RTM_GETLINK, 0, "list links", all)))) {
        if (reply.type != RTM_NEWLINK) continue;
        if (links.size() == kMaxLinks) return error("list links: too many");
        links.push_back(TRY(parse_link(reply.view())));
    }
    std::ranges::sort(links, {}, &Link::index);
    return links;
}

Result<std::vector<LinkAddress>> Links::addresses() {
    ifaddrmsg all{};
    std::vector<LinkAddress> addresses;
    for (const auto& reply : TRY(socket_.dump(NetlinkMessage::make(RTM_GETADDR, 0, "list addresses", all)))) {
        auto header = reply.view().header<ifaddrmsg>();
        if (reply.type != RTM_NEWADDR || !header) continue;
        if (addresses.size() == kMaxLinks) return error("list addresses: too many");
        auto attributes = TRY(Attributes::parse(reply.view().after(sizeof(ifaddrmsg))));
        // On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL, where there is one, is ours.
        auto bytes = attributes.find(IFA_LOCAL);
        if (!bytes) bytes = attributes.find(IFA_ADDRESS);
        auto address = bytes ? IpAddress::from_bytes(*bytes) : std::nullopt;
        if (address)
            addresses.push_back({.link = header->ifa_index,
                                 .address = *address,
                                 .prefix = header->ifa_prefixlen,
                                 .tentative = (header->ifa_flags & IFA_F_TENTATIVE) != 0,
                                 .duplicate = (header->ifa_flags & IFA_F_DADFAILED) != 0});
    }
    return addresses;
}

// --- changing links

static NetlinkMessage change_link(unsigned link, std::string_view label, unsigned flags = 0,
                                  unsigned mask = 0) {
    ifinfomsg header{
        .ifi_family = AF_UNSPEC, .ifi_index = static_cast<int>(link), .ifi_flags = flags, .ifi_change = mask};
    return NetlinkMessage::make(RTM_NEWLINK, 0, cat(label, " of link ", link), header);
}

Result<> Links::set_up(unsigned link, bool up) {
    TRY(socket_.request(change_link(link, up ? "bring up" : "take down", up ? IFF_UP : 0, IFF_UP)));
    return {};
}

Result<> Links::remove(unsigned link) {
    ifinfomsg header{.ifi_family = AF_UNSPEC, .ifi_index = static_cast<int>(link)};
    return remove_or_lack(NetlinkMessage::make(RTM_DELLINK, 0, cat("remove link ", link), header));
}

Result<> Links::set_mtu(unsigned link, uint32_t mtu) {
    auto message = change_link(link, cat("set MTU ", mtu));
    message.body.number(IFLA_MTU, mtu);
    TRY(socket_.request(message));
    return {};
}

static void put_conf(AttributeWriter& out, std::initializer_list<std::pair<uint16_t, uint32_t>> settings) {
    out.nest(AF_INET, [&](auto& inet) {
        inet.nest(IFLA_INET_CONF, [&](auto& conf) {
            for (auto [which, value] : settings) conf.number(which, value);
        });
    });
}

Result<> Links::set_up_tap(unsigned link, const TapLink& tap) {
    auto message = change_link(link, cat("set up tap ", tap.name));
    message.body.bytes(IFLA_ADDRESS, std::as_bytes(std::span(tap.host_mac.bytes))).number(IFLA_MTU, kTapMtu);
    TRY(socket_.request(message));
    // Not one message with the above: what the kernel does of one before it refuses, stays done.
    auto families = change_link(link, cat("harden tap ", tap.name));
    families.body.nest(IFLA_AF_SPEC, [](auto& spec) {
        put_conf(spec, {{IPV4_DEVCONF_ARP_IGNORE, 2},
                        {IPV4_DEVCONF_ARP_ANNOUNCE, 2},
                        {IPV4_DEVCONF_ARP_ACCEPT, 0},
                        {IPV4_DEVCONF_PROXY_ARP, 0},
                        {IPV4_DEVCONF_RP_FILTER, 1},
                        {IPV4_DEVCONF_FORWARDING, 0},
                        {IPV4_DEVCONF_ACCEPT_REDIRECTS, 0},
                        {IPV4_DEVCONF_SEND_REDIRECTS, 0},
                        {IPV4_DEVCONF_ACCEPT_SOURCE_ROUTE, 0}});
    });
    TRY(socket_.request(families));
    return make_no_ipv6_address(link);
}

Result<> Links::make_no_ipv6_address(unsigned link) {
    auto message = change_link(link, "make no IPv6 address");
    message.body.nest(IFLA_AF_SPEC, [](auto& spec) {
        spec.nest(AF_INET6, [](auto& inet6) {
            inet6.number(IFLA_INET6_ADDR_GEN_MODE, uint8_t{IN6_ADDR_GEN_MODE_NONE});
        });
    });
    auto done = socket_.request(message);
    // A kernel without IPv6 has nothing to switch off.
    if (!done && done.error().code != EAFNOSUPPORT) return std::move(done.error());
    return {};
}

Result<> Links::add_vlan(unsigned below, uint16_t id, std::string_view name) {
    ifinfomsg header{.ifi_family = AF_UNSPEC};
    auto message = NetlinkMessage::make(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
                                        cat("make VLAN ", id, " on link ", below), header);
    message.body.text(IFLA_IFNAME, name).number(IFLA_LINK, uint32_t{below});
    message.body.nest(IFLA_LINKINFO, [id](auto& info) {
        info.text(IFLA_INFO_KIND, "vlan");
        info.nest(IFLA_INFO_DATA, [id](auto& data) { data.number(IFLA_VLAN_ID, id); });
    });
    TRY(socket_.request(message));
    return {};
}

Result<> Links::strip(unsigned link) {
    TRY(make_no_ipv6_address(link));
    for (const auto& one : TRY(addresses())) {
        if (one.link != link) continue;
        if (one.address.v6) {
            TRY(remove_address(link, Prefix6{Ip6{one.address.bytes}, one.prefix}));
        } else if (auto old = Prefix4::parse(cat(one.address.text(), '/', one.prefix))) {
            TRY(remove_address(link, *old));
        }
    }
    return {};
}

Result<> Links::set_up_card(unsigned link) {
    auto message = change_link(link, "harden");
    message.body.nest(IFLA_AF_SPEC, [](auto& spec) {
        put_conf(spec, {{IPV4_DEVCONF_ARP_IGNORE, 1}, {IPV4_DEVCONF_ARP_ANNOUNCE, 2}});
    });
    TRY(socket_.request(message));
    return {};
}

// --- addresses, routes, neighbours

static void put_ip4(AttributeWriter& out, uint16_t type, Ip4 address) {
    out.network_number(type, address.value);
}

static NetlinkMessage address_message(uint16_t type, uint16_t flags, unsigned link, Prefix4 address,
                                      std::string_view verb) {
    ifaddrmsg header{.ifa_family = AF_INET,
                     .ifa_prefixlen = address.length,
                     .ifa_scope = RT_SCOPE_UNIVERSE,
                     .ifa_index = link};
    auto message =
        NetlinkMessage::make(type, flags, cat(verb, " address ", address.text(), " of link ", link), header);
    put_ip4(message.body, IFA_LOCAL, address.address);
    put_ip4(message.body, IFA_ADDRESS, address.address);
    return message;
}

Result<> Links::set_address(unsigned link, Prefix4 address, uint32_t valid_s) {
    auto message = address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, link, address, "set");
    if (address.length < 31)
        put_ip4(message.body, IFA_BROADCAST, Ip4{address.address.value | ~address.mask()});
    uint32_t valid = valid_s == 0 ? UINT32_MAX : valid_s;
    ifa_cacheinfo times{.ifa_prefered = valid, .ifa_valid = valid};
    message.body.bytes(IFA_CACHEINFO, std::as_bytes(std::span(&times, 1)));
    TRY(socket_.request(message));
    return {};
}

Result<> Links::remove_address(unsigned link, Prefix4 address) {
    return remove_or_lack(address_message(RTM_DELADDR, 0, link, address, "remove"));
}

static NetlinkMessage route_message(uint16_t type, uint16_t flags, std::string label, uint8_t protocol) {
    rtmsg header{.rtm_family = AF_INET,
                 .rtm_table = RT_TABLE_MAIN,
                 .rtm_protocol = protocol,
                 .rtm_scope = RT_SCOPE_UNIVERSE,
                 .rtm_type = RTN_UNICAST};
    return NetlinkMessage::make(type, flags, std::move(label), header);
}

Result<> Links::set_default_route(unsigned link, const DefaultRoute& route) {
    rtmsg header{.rtm_family = AF_INET,
                 .rtm_table = RT_TABLE_MAIN,
                 .rtm_protocol = static_cast<uint8_t>(route.by_dhcp ? RTPROT_DHCP : RTPROT_STATIC),
                 .rtm_scope = RT_SCOPE_UNIVERSE,
                 .rtm_type = RTN_UNICAST,
                 .rtm_flags = route.on_link ? unsigned{RTNH_F_ONLINK} : 0};
    auto message = NetlinkMessage::make(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE,
                                        cat("set default route through ", route.gateway.text()), header);
    put_ip4(message.body, RTA_GATEWAY, route.gateway);
    put_ip4(message.body, RTA_PREFSRC, route.source);
    message.body.number(RTA_OIF, uint32_t{link});
    TRY(socket_.request(message));
    return {};
}

Result<> Links::remove_default_route(unsigned link) {
    auto message =
        route_message(RTM_DELROUTE, 0, cat("remove the default route of link ", link), RTPROT_UNSPEC);
    message.body.number(RTA_OIF, uint32_t{link});
    return remove_or_lack(message);
}

Result<> Links::set_neighbour(unsigned link, Ip4 address, const Mac& mac) {
    ndmsg header{.ndm_family = AF_INET, .ndm_ifindex = static_cast<int>(link), .ndm_state = NUD_PERMANENT};
    auto message = NetlinkMessage::make(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE,
                                        cat("set neighbour ", address.text(), " of link ", link), header);
    put_ip4(message.body, NDA_DST, address);
    message.body.bytes(NDA_LLADDR, std::as_bytes(std::span(mac.bytes)));
    TRY(socket_.request(message));
    return {};
}

Result<> Links::route_proxy_packets() {
    rtmsg local{.rtm_family = AF_INET,
                .rtm_protocol = RTPROT_STATIC,
                .rtm_scope = RT_SCOPE_HOST,
                .rtm_type = RTN_LOCAL};
    auto route = NetlinkMessage::make(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE,
                                      "make the proxy's destinations local", local);
    route.body.number(RTA_TABLE, kProxyRouteTable).number(RTA_OIF, uint32_t{kLoopback});
    TRY(socket_.request(route));
    fib_rule_hdr header{.family = AF_INET, .action = FR_ACT_TO_TBL};
    auto rule = NetlinkMessage::make(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL,
                                     "send packets for the proxy to their route table", header);
    rule.body.number(FRA_PRIORITY, kProxyRulePriority)
        .number(FRA_FWMARK, kMarkProxy)
        .number(FRA_FWMASK, UINT32_MAX)
        .number(FRA_TABLE, kProxyRouteTable);
    return add_or_keep(rule);
}

} // namespace nullbox::egress
