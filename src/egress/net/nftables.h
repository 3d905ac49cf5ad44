// nf_tables objects of one table as netlink messages, and a rule written from left to right as nft(8) would
// show it. Only what rules.cpp uses. Pure: no system calls; NetlinkSocket::batch() carries them out.
//
// A rule's matches must come in an order that the kernel can evaluate: a family and a protocol before a
// header field. ip_*() and the ports bring their own family and protocol checks along.
#pragma once

#include "egress/net/address.h"
#include "egress/net/netlink.h"

namespace nullbox::egress {

enum class Verdict { Accept, Drop, Return, Jump, Goto };

// Bits of ct_state(), as NF_CT_STATE_BIT has them.
constexpr uint32_t kCtInvalid = 1, kCtEstablished = 2, kCtRelated = 4, kCtNew = 8, kCtUntracked = 64;

class Rule {
public:
    Rule(std::string chain, std::string comment) : chain_(std::move(chain)), comment_(std::move(comment)) {}

    // --- matches
    Rule& in_set(bool input, std::string_view set, bool negated = false); // the link's name is in it
    Rule& ipv4();
    Rule& ipv6();
    Rule& protocol(uint8_t number);
    Rule& ip_source(Ip4 address);
    Rule& ip_destination(Ip4 address);
    Rule& ip_source(Prefix4 network);
    Rule& ip_destination(Prefix4 network);
    Rule& ip_destination_between(Ip4 first, Ip4 last);
    Rule& ip6_source(const Prefix6& network);
    Rule& udp_destination_port(uint16_t port);
    Rule& tcp_destination_port(uint16_t port);
    Rule& udp_source_port(uint16_t port);
    Rule& tcp_destination_in(std::string_view set); // ipv4_addr . inet_service
    Rule& tcp_syn();                                // SYN without ACK: a new connection
    Rule& icmp_type(uint8_t type);                  // IPv4
    Rule& icmpv6_types(uint8_t first, uint8_t last);
    Rule& hop_limit(uint8_t value); // IPv6
    Rule& ct_state(uint32_t any_of);
    Rule& mark(uint32_t value);
    Rule& socket_uid(uint32_t uid);
    Rule& rate(uint64_t per_second, uint32_t burst, bool over);
    Rule& connections_over(uint32_t count);

    // --- what is done
    Rule& count();
    Rule& count(std::string_view counter);
    Rule& log(uint16_t group, std::string_view prefix, uint32_t bytes);
    Rule& set_mark(uint32_t value);
    Rule& no_tracking();
    Rule& to_proxy(Ip4 listener, uint16_t port); // IPv4 TCP; goes on with the next rule if nobody listens
    Rule& by_link(bool input, std::string_view map);
    Rule& verdict(Verdict verdict, std::string_view chain = {});
    Rule& accept() { return verdict(Verdict::Accept); }
    Rule& drop() { return verdict(Verdict::Drop); }

    NetlinkMessage message() const;

private:
    template <typename Body>
    Rule& expression(std::string_view name, Body&& body);
    template <typename T>
    Rule& compare(uint32_t operation, T value);
    Rule& load_meta(uint32_t key);
    Rule& load_payload(uint32_t base, uint32_t offset, uint32_t bytes, uint32_t reg);
    Rule& mask(uint32_t bits, uint32_t bytes);
    Rule& mask(std::span<const std::byte> bits);
    Rule& immediate(uint32_t reg, uint32_t value, uint32_t bytes);
    Rule& look_up(std::string_view set, uint32_t flags, bool verdict);
    Rule& protocol_once(uint8_t number);

    std::string chain_, comment_;
    AttributeWriter expressions_;
    bool ipv4_ = false, ipv6_ = false;
    uint8_t protocol_ = 0;
};

namespace nft {

NetlinkMessage add_table();
NetlinkMessage delete_table();
NetlinkMessage add_chain(std::string_view name);
struct Hook {
    uint32_t number = 0; // NF_INET_*
    int32_t priority = 0;
    bool drop = true; // the policy
};
NetlinkMessage add_base_chain(std::string_view name, const Hook& hook);
NetlinkMessage delete_rules(std::string_view chain); // all of them
NetlinkMessage delete_chain(std::string_view name);
NetlinkMessage add_counter(std::string_view name);
NetlinkMessage delete_counter(std::string_view name);
NetlinkMessage read_counter(std::string_view name);

// id: any number that is unlike the other sets' of the same batch.
NetlinkMessage add_link_set(std::string_view name, uint32_t id);
NetlinkMessage add_link_map(std::string_view name, uint32_t id); // link name -> verdict
NetlinkMessage add_endpoint_set(std::string_view name, uint32_t id, size_t size);
NetlinkMessage delete_set(std::string_view name);
NetlinkMessage add_link(std::string_view set, std::string_view link);
NetlinkMessage delete_link(std::string_view set, std::string_view link);
NetlinkMessage map_link(std::string_view map, std::string_view link, std::string_view go_to_chain);
NetlinkMessage unmap_link(std::string_view map, std::string_view link, std::string_view go_to_chain);
NetlinkMessage delete_elements(std::string_view set); // all of them; a set that is empty is fine
NetlinkMessage add_endpoints(std::string_view set, std::span<const Endpoint4> endpoints);

struct Count {
    uint64_t packets = 0, bytes = 0;
};
Result<Count> parse_counter(const NetlinkView& view);

} // namespace nft
} // namespace nullbox::egress
