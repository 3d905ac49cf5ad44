// The firewall: the nftables table `inet nullbox`, as batches that the kernel takes whole or not at all.
// Every hook but the two that only prepare has policy drop; no rule accepts anything to be forwarded.
//
// An agent's packet meets its own chain first (prerouting): only IPv4 from that tap's guest address, only
//   UDP and TCP port 53 of that tap's gateway address         -> mark kMarkDns
//   TCP to that slot's synthetic addresses or its literals    -> mark kMarkProxy, socket of the proxy
// and all else is counted, told (rate limited) to log group kLogGroup, and dropped. The input chain then
// takes from taps only what carries a mark, so a tap that is in no map reaches nothing. Marks are ours alone:
// no packet brings one in. A route table that only kMarkProxy selects makes every destination local
// (links.h).
//
// Pure: no system calls.
#pragma once

#include "egress/net/nftables.h"
#include "egress/net/tap_link.h"

namespace nullbox::egress {

constexpr uint32_t kMarkProxy = 0x4e42, kMarkDns = 0x4e43;
constexpr uint16_t kLogGroup = 78;
constexpr uint32_t kLogBytes = 64; // of each packet: the headers
constexpr uint32_t kAgentConnections = 1024;

struct RuleOptions {
    uint16_t gate_port = 8443, proxy_port = 15001;
    uint32_t egress_uid = 101;
};

// Replaces the whole table; agents' rules are gone with it.
std::vector<NetlinkMessage> base_rules(const RuleOptions& options, std::string_view uplink);
std::vector<NetlinkMessage> add_uplink(std::string_view link);
std::vector<NetlinkMessage> remove_uplink(std::string_view link);
std::vector<NetlinkMessage> agent_rules(const TapLink& link, std::span<const Endpoint4> literals,
                                        const RuleOptions& options);
// Of a slot whose agent_rules() are loaded.
// Other literal addresses for an agent that has its rules.
std::vector<NetlinkMessage> agent_literals(unsigned slot, std::span<const Endpoint4> literals);
std::vector<NetlinkMessage> remove_agent_rules(const TapLink& link);

struct AgentCounterNames {
    std::string dns, proxy, dropped;
};
AgentCounterNames counter_names(unsigned slot);

} // namespace nullbox::egress
