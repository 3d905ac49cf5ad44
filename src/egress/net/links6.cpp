// The IPv6 half of Links: addresses and the default route (rtnetlink(7)).
#include <cerrno>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "base/text.h"
#include "egress/net/links.h"

namespace nullbox::egress {

static void put_ip6(AttributeWriter& out, uint16_t type, const Ip6& address) {
    out.bytes(type, std::as_bytes(std::span(address.bytes)));
}

// A kernel without IPv6 has nothing to take away.
static Result<> unless_there_is_no_ipv6(Result<> done) {
    if (done || done.error().code == EAFNOSUPPORT || done.error().code == EOPNOTSUPP) return {};
    return done;
}

static NetlinkMessage address_message(uint16_t type, uint16_t flags, unsigned link, const Prefix6& address,
                                      std::string_view verb) {
    ifaddrmsg header{.ifa_family = AF_INET6,
                     .ifa_prefixlen = address.length,
                     .ifa_scope = RT_SCOPE_UNIVERSE,
                     .ifa_index = link};
    auto message =
        NetlinkMessage::make(type, flags, cat(verb, " address ", address.text(), " of link ", link), header);
    put_ip6(message.body, IFA_LOCAL, address.address);
    put_ip6(message.body, IFA_ADDRESS, address.address);
    return message;
}

Result<> Links::set_address(unsigned link, const Address6& address) {
    auto message = address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, link, address.address, "set");
    ifa_cacheinfo times{.ifa_prefered = address.preferred_s, .ifa_valid = address.valid_s};
    message.body.bytes(IFA_CACHEINFO, std::as_bytes(std::span(&times, 1)));
    message.body.number(IFA_FLAGS, address.on_link ? uint32_t{0} : uint32_t{IFA_F_NOPREFIXROUTE});
    TRY(socket_.request(message));
    return {};
}

Result<> Links::remove_address(unsigned link, const Prefix6& address) {
    return unless_there_is_no_ipv6(remove_or_lack(address_message(RTM_DELADDR, 0, link, address, "remove")));
}

Result<> Links::set_default_route(unsigned link, const DefaultRoute6& route) {
    rtmsg header{.rtm_family = AF_INET6,
                 .rtm_table = RT_TABLE_MAIN,
                 .rtm_protocol = static_cast<uint8_t>(route.by_advert ? RTPROT_RA : RTPROT_STATIC),
                 .rtm_scope = RT_SCOPE_UNIVERSE,
                 .rtm_type = RTN_UNICAST,
                 .rtm_flags = route.on_link ? unsigned{RTNH_F_ONLINK} : 0};
    auto message = NetlinkMessage::make(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE,
                                        cat("set IPv6 default route through ", route.gateway.text()), header);
    put_ip6(message.body, RTA_GATEWAY, route.gateway);
    message.body.number(RTA_OIF, uint32_t{link});
    if (route.valid_s != UINT32_MAX) message.body.number(RTA_EXPIRES, route.valid_s);
    TRY(socket_.request(message));
    return {};
}

Result<> Links::remove_default_route6(unsigned link) {
    rtmsg header{.rtm_family = AF_INET6, .rtm_table = RT_TABLE_MAIN, .rtm_scope = RT_SCOPE_NOWHERE};
    auto message =
        NetlinkMessage::make(RTM_DELROUTE, 0, cat("remove the IPv6 default route of link ", link), header);
    message.body.number(RTA_OIF, uint32_t{link});
    return unless_there_is_no_ipv6(remove_or_lack(message));
}

} // namespace nullbox::egress
