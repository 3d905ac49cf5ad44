// The agents that have a network now: each one's policy, its link, and which name each of its synthetic
// addresses stands for. No system calls.
//
// Invariant: a synthetic address stands for one name of one agent from the first answer until the agent is
// detached; it is never given to another name, so no TTL race sends a connection elsewhere.
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <memory>

#include "base/loop.h" // Clock
#include "egress/net/tap_link.h"
#include "egress/policy.h"
#include "egress/turns.h"

namespace nullbox::egress {

// So many names below `*.suffix` entries may one agent look up while it is attached: each look-up of a new
// one is bytes for whoever runs that suffix's name server.
constexpr size_t kMaxWildcardNames = 256;

class SyntheticNames {
public:
    SyntheticNames(Ip4 first, Ip4 last) : first_(first), last_(last) {}
    // Nothing: the agent has had all the names it may have.
    std::optional<Ip4> address_of(const HostName& name, bool by_wildcard);
    const HostName* name_of(Ip4 address) const;
    size_t size() const { return names_.size(); }

private:
    Ip4 first_, last_;
    size_t wildcard_names_ = 0;
    std::map<HostName, Ip4> addresses_;
    std::vector<HostName> names_; // by address, from first_
};

// At most `burst` at once and `per_second` in the long run.
class TokenBucket {
public:
    TokenBucket(double burst, double per_second) : burst_(burst), per_second_(per_second), tokens_(burst) {}
    bool take(Clock::time_point now);
    bool full(Clock::time_point now);

private:
    void refill(Clock::time_point now);
    double burst_, per_second_, tokens_;
    Clock::time_point last_{};
};

struct AgentCounters {
    uint64_t lookups = 0, lookups_denied = 0, connections = 0, connections_denied = 0, bytes_up = 0,
             bytes_down = 0;
};

struct Agent {
    Agent(std::string agent_name, const TapLink& tap, Policy rules)
        : name(std::move(agent_name)), link(tap), policy(std::make_shared<const Policy>(std::move(rules))),
          names(tap.first_synthetic, tap.last_synthetic) {}
    std::string name;
    TapLink link;
    std::shared_ptr<const Policy>
        policy; // replaced while the agent runs; whoever waits holds the one it used
    SyntheticNames names;
    AgentCounters counters;
    // Of all its connections, and of those before it was attached anew: replaced by whoever keeps ledgers.
    std::shared_ptr<Ledger> ledger = std::make_shared<Ledger>();
    TokenBucket lookup_budget{100, 50};
    size_t open_connections = 0, idle_servers = 0;
    // OpenSSL holds some 50 KB for a connection until its handshake is done, four times what it holds later.
    std::shared_ptr<Turns> handshakes = std::make_shared<Turns>(
        8, Patience{.still = std::chrono::milliseconds(250), .most = std::chrono::seconds(20)});
    bool attached = true; // false: what still runs for it must end
};

// Where a connection that arrived at the proxy comes from and wants to go.
struct Flow {
    std::shared_ptr<Agent> agent;
    Destination destination;
};

class Agents {
public:
    // An agent of that name is replaced and keeps its slot. Nothing: all slots are taken.
    std::shared_ptr<Agent> attach(const std::string& name, Policy policy);
    void detach(const std::string& name);
    std::shared_ptr<Agent> find(const std::string& name) const;
    std::shared_ptr<Agent> of_slot(unsigned slot) const;
    // Nothing: not from a guest of ours, or to an address that stands for nothing.
    std::optional<Flow> flow(Ip4 guest, IpAddress to, uint16_t port) const;
    std::vector<std::shared_ptr<Agent>> all() const;

private:
    std::optional<unsigned> free_slot(const std::string& name);
    std::array<std::shared_ptr<Agent>, kMaxSlots> slots_;
    std::array<std::string, kMaxSlots> last_names_; // an agent that comes back gets its old slot if it can
};

} // namespace nullbox::egress
