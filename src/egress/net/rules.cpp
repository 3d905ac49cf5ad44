#include "egress/net/rules.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

#include <linux/netfilter.h> // after netinet/in.h, which it would contradict
#include <linux/netfilter_ipv4.h>

#include "base/text.h"

namespace nullbox::egress {

constexpr std::string_view kTaps = "taps", kUplinks = "uplinks", kAgentOf = "agent_of";
constexpr Ip4 kProxyListener{0x7f000001};
constexpr Prefix6 kLinkLocal{.address = {{0xfe, 0x80}}, .length = 10};
constexpr uint8_t kMldVersion2Report = 143; // RFC 3810
constexpr uint16_t kDns = 53, kDhcpServer = 67, kDhcpClient = 68;
// New connections and questions of one agent: enough for a busy one, too few to make the rest of the box work
// for it.
constexpr uint64_t kConnectionsPerSecond = 100, kQuestionsPerSecond = 200, kLogsPerSecond = 10;

static std::string agent_chain(unsigned slot) { return cat("agent_", slot); }
static std::string allowed_chain(unsigned slot) { return cat("agent_", slot, "_may"); }
static std::string literal_set(unsigned slot) { return cat("literals_", slot); }

AgentCounterNames counter_names(unsigned slot) {
    return {cat("dns_", slot), cat("proxy_", slot), cat("dropped_", slot)};
}

using Batch = std::vector<NetlinkMessage>;

// --- what holds for all

static void objects(Batch& batch, std::string_view uplink) {
    // Adding what is there changes nothing, so that removing it never fails: one transaction, no open moment.
    batch.push_back(nft::add_table());
    batch.push_back(nft::delete_table());
    batch.push_back(nft::add_table());
    batch.push_back(nft::add_link_set(kTaps, 1));
    batch.push_back(nft::add_link_set(kUplinks, 2));
    batch.push_back(nft::add_link_map(kAgentOf, 3));
    if (!uplink.empty()) batch.push_back(nft::add_link(kUplinks, uplink));
    batch.push_back(nft::add_base_chain("untracked_in", {NF_INET_PRE_ROUTING, NF_IP_PRI_RAW, false}));
    batch.push_back(nft::add_base_chain("untracked_out", {NF_INET_LOCAL_OUT, NF_IP_PRI_RAW, false}));
    batch.push_back(nft::add_base_chain("arriving", {NF_INET_PRE_ROUTING, NF_IP_PRI_MANGLE, false}));
    batch.push_back(nft::add_base_chain("input", {NF_INET_LOCAL_IN, NF_IP_PRI_FILTER, true}));
    batch.push_back(nft::add_base_chain("forward", {NF_INET_FORWARD, NF_IP_PRI_FILTER, true}));
    batch.push_back(nft::add_base_chain("output", {NF_INET_LOCAL_OUT, NF_IP_PRI_FILTER, true}));
    for (auto chain : {"from_agents", "to_agents", "from_uplink", "to_uplink"})
        batch.push_back(nft::add_chain(chain));
}

static void preparation(Batch& batch) {
    auto rule = [&](const Rule& rule) { batch.push_back(rule.message()); };
    // Each question has a port of its own; tracked, they would fill the table that all connections share.
    rule(Rule("untracked_in", "agents' questions")
             .in_set(true, kTaps)
             .udp_destination_port(kDns)
             .no_tracking());
    rule(Rule("untracked_out", "answers to them").in_set(false, kTaps).udp_source_port(kDns).no_tracking());
    rule(Rule("arriving", "each agent's own rules").by_link(true, kAgentOf));
}

static void input(Batch& batch, const RuleOptions& options) {
    auto rule = [&](const Rule& rule) { batch.push_back(rule.message()); };
    rule(Rule("input", "agents").in_set(true, kTaps).verdict(Verdict::Goto, "from_agents"));
    rule(Rule("input", "the outside").in_set(true, kUplinks).verdict(Verdict::Goto, "from_uplink"));
    rule(Rule("input", "nobody else, loopback neither").count().drop());

    rule(Rule("from_agents", "to the proxy").mark(kMarkProxy).protocol(IPPROTO_TCP).accept());
    rule(Rule("from_agents", "to the resolver").mark(kMarkDns).accept());
    rule(Rule("from_agents", "what no agent's rules let in").count().drop());

    rule(Rule("from_uplink", "nobody outside has our agents' addresses")
             .ip_source(kAgentNetwork)
             .count()
             .drop());
    rule(Rule("from_uplink", "nor may speak to them").ip_destination(kAgentNetwork).count().drop());
    rule(Rule("from_uplink", "answers").ct_state(kCtEstablished | kCtRelated).accept());
    rule(Rule("from_uplink", "gate").tcp_destination_port(options.gate_port).ct_state(kCtNew).accept());
    rule(Rule("from_uplink", "DHCP answers")
             .ipv4()
             .udp_source_port(kDhcpServer)
             .udp_destination_port(kDhcpClient)
             .accept());
    rule(Rule("from_uplink", "ping").icmp_type(ICMP_ECHO).rate(10, 10, false).accept());
    rule(Rule("from_uplink", "IPv6 ping")
             .icmpv6_types(ICMP6_ECHO_REQUEST, ICMP6_ECHO_REQUEST)
             .rate(10, 10, false)
             .accept());
    // RFC 4861 sections 6.1.2 and 7.1: nobody beyond the link can send these.
    rule(Rule("from_uplink", "IPv6 routers")
             .icmpv6_types(ND_ROUTER_ADVERT, ND_ROUTER_ADVERT)
             .hop_limit(255)
             .ip6_source(kLinkLocal)
             .accept());
    rule(Rule("from_uplink", "IPv6 neighbours")
             .icmpv6_types(ND_NEIGHBOR_SOLICIT, ND_NEIGHBOR_ADVERT)
             .hop_limit(255)
             .accept());
    // Unanswered, a switch that listens along stops giving us our neighbours' questions (RFC 4541).
    rule(Rule("from_uplink", "who listens to which IPv6 group")
             .icmpv6_types(MLD_LISTENER_QUERY, MLD_LISTENER_QUERY)
             .hop_limit(1)
             .ip6_source(kLinkLocal)
             .rate(10, 10, false)
             .accept());
    rule(Rule("from_uplink", "all else").count().drop());
}

static void output(Batch& batch, const RuleOptions& options) {
    auto rule = [&](const Rule& rule) { batch.push_back(rule.message()); };
    rule(Rule("forward", "nothing passes through").count().drop());

    rule(Rule("output", "agents").in_set(false, kTaps).verdict(Verdict::Goto, "to_agents"));
    rule(Rule("output", "the outside").in_set(false, kUplinks).verdict(Verdict::Goto, "to_uplink"));
    rule(Rule("output", "nobody else, loopback neither").count().drop());

    rule(Rule("to_agents", "the resolver's answers")
             .ip_source(kAgentNetwork)
             .udp_source_port(kDns)
             .socket_uid(options.egress_uid)
             .accept());
    rule(Rule("to_agents", "answers").ct_state(kCtEstablished | kCtRelated).accept());
    rule(Rule("to_agents", "nobody opens a connection to an agent").count().drop());

    rule(Rule("to_uplink", "synthetic addresses mean nothing outside")
             .ip_destination(kAgentNetwork)
             .count()
             .drop());
    rule(Rule("to_uplink", "nor do agents' own").ip_source(kAgentNetwork).count().drop());
    // Not what is related to them: told that an answer came too late, its sender would know a closed port
    // from an open one, which is how a question's port is found and its answer forged (SAD DNS,
    // CVE-2020-25705).
    rule(Rule("to_uplink", "answers").ct_state(kCtEstablished).accept());
    for (uint8_t protocol : {uint8_t{IPPROTO_TCP}, uint8_t{IPPROTO_UDP}})
        rule(Rule("to_uplink", "egress, and nobody else")
                 .protocol(protocol)
                 .socket_uid(options.egress_uid)
                 .accept());
    // We look for routers; a router we never are.
    rule(Rule("to_uplink", "IPv6 routers")
             .icmpv6_types(ND_ROUTER_SOLICIT, ND_ROUTER_SOLICIT)
             .hop_limit(255)
             .accept());
    rule(Rule("to_uplink", "IPv6 neighbours")
             .icmpv6_types(ND_NEIGHBOR_SOLICIT, ND_NEIGHBOR_ADVERT)
             .hop_limit(255)
             .accept());
    rule(Rule("to_uplink", "IPv6 groups we listen to")
             .icmpv6_types(MLD_LISTENER_REPORT, MLD_LISTENER_REDUCTION)
             .accept());
    rule(Rule("to_uplink", "the same, version 2")
             .icmpv6_types(kMldVersion2Report, kMldVersion2Report)
             .accept());
    rule(Rule("to_uplink", "all else").count().drop());
}

Batch base_rules(const RuleOptions& options, std::string_view uplink) {
    Batch batch;
    objects(batch, uplink);
    preparation(batch);
    input(batch, options);
    output(batch, options);
    return batch;
}

Batch add_uplink(std::string_view link) { return {nft::add_link(kUplinks, link)}; }
Batch remove_uplink(std::string_view link) { return {nft::delete_link(kUplinks, link)}; }

// --- what holds for one agent

// In this chain the packet is IPv4 from the guest's own address; returning means: not allowed.
static void allowed(Batch& batch, const TapLink& link, const RuleOptions& options) {
    auto chain = allowed_chain(link.slot);
    auto counters = counter_names(link.slot);
    auto rule = [&](const Rule& rule) { batch.push_back(rule.message()); };
    auto to_proxy = [&](Rule rule) {
        return rule.to_proxy(kProxyListener, options.proxy_port)
            .set_mark(kMarkProxy)
            .count(counters.proxy)
            .accept();
    };
    rule(Rule(chain, "questions")
             .ip_destination(link.gateway)
             .udp_destination_port(kDns)
             .rate(kQuestionsPerSecond, 2 * kQuestionsPerSecond, false)
             .set_mark(kMarkDns)
             .count(counters.dns)
             .accept());
    rule(Rule(chain, "new connections too fast")
             .tcp_syn()
             .rate(kConnectionsPerSecond, 4 * kConnectionsPerSecond, true)
             .verdict(Verdict::Return));
    rule(Rule(chain, "too many connections")
             .ct_state(kCtNew)
             .connections_over(kAgentConnections)
             .verdict(Verdict::Return));
    rule(Rule(chain, "questions over TCP")
             .ip_destination(link.gateway)
             .tcp_destination_port(kDns)
             .set_mark(kMarkDns)
             .count(counters.dns)
             .accept());
    rule(to_proxy(Rule(chain, "names")
                      .ip_destination_between(link.first_synthetic, link.last_synthetic)
                      .protocol(IPPROTO_TCP)));
    rule(to_proxy(Rule(chain, "literal addresses").tcp_destination_in(literal_set(link.slot))));
}

Batch agent_rules(const TapLink& link, std::span<const Endpoint4> literals, const RuleOptions& options) {
    Batch batch;
    auto chain = agent_chain(link.slot);
    auto counters = counter_names(link.slot);
    for (const auto& counter : {counters.dns, counters.proxy, counters.dropped})
        batch.push_back(nft::add_counter(counter));
    // Always there, so that removing does not depend on what was asked for.
    batch.push_back(nft::add_endpoint_set(literal_set(link.slot), 100 + link.slot, kMaxLiterals));
    if (!literals.empty()) batch.push_back(nft::add_endpoints(literal_set(link.slot), literals));
    batch.push_back(nft::add_chain(allowed_chain(link.slot)));
    batch.push_back(nft::add_chain(chain));
    allowed(batch, link, options);
    auto rule = [&](const Rule& rule) { batch.push_back(rule.message()); };
    rule(Rule(chain, "from its own address")
             .ip_source(link.guest)
             .verdict(Verdict::Jump, allowed_chain(link.slot)));
    rule(Rule(chain, "told")
             .rate(kLogsPerSecond, 2 * kLogsPerSecond, false)
             .log(kLogGroup, link.name, kLogBytes));
    rule(Rule(chain, "all else").count(counters.dropped).drop());
    batch.push_back(nft::map_link(kAgentOf, link.name, chain));
    batch.push_back(nft::add_link(kTaps, link.name));
    return batch;
}

Batch agent_literals(unsigned slot, std::span<const Endpoint4> literals) {
    Batch batch{nft::delete_elements(literal_set(slot))};
    if (!literals.empty()) batch.push_back(nft::add_endpoints(literal_set(slot), literals));
    return batch;
}

Batch remove_agent_rules(const TapLink& link) {
    Batch batch;
    auto counters = counter_names(link.slot);
    batch.push_back(nft::unmap_link(kAgentOf, link.name, agent_chain(link.slot)));
    batch.push_back(nft::delete_link(kTaps, link.name));
    for (const auto& chain : {agent_chain(link.slot), allowed_chain(link.slot)})
        batch.push_back(nft::delete_rules(chain));
    for (const auto& chain : {agent_chain(link.slot), allowed_chain(link.slot)})
        batch.push_back(nft::delete_chain(chain));
    batch.push_back(nft::delete_set(literal_set(link.slot)));
    for (const auto& counter : {counters.dns, counters.proxy, counters.dropped})
        batch.push_back(nft::delete_counter(counter));
    return batch;
}

} // namespace nullbox::egress
