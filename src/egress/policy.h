// What one agent may reach: its manifest's list, compiled once, asked for every name and every connection.
// Pure: no system call, no state. Invariant: the last line of decide() is "deny".
//
// An entry without a port means ports 80 (HTTP) and 443 (TLS); `*.suffix` is one label or more below it
// (docs/manifest.md). A name with a binding (a secret put into a header), or with rules for requests, is
// terminated, never spliced.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "egress/budget.h"
#include "egress/name.h"
#include "egress/net/address.h"
#include "egress/net/tap_link.h"
#include "egress/request_rules.h"

namespace nullbox::egress {

using Host = std::variant<HostName, IpAddress>;
constexpr uint16_t kHttpPort = 80, kTlsPort = 443;

struct Destination {
    Host host;
    uint16_t port = 0;
    std::string text() const; // "api.example.org:443", "[2001:db8::7]:443"
    // "host" (port 443), "host:port", "address:port", "[address]:port".
    static Result<Destination> parse(std::string_view text);
};
std::string host_text(const Host& host);

// A secret that goes into one header of requests to one host, for the placeholder the agent has.
struct Binding {
    std::string secret;
    HostName host;
    std::string header;
    std::string format; // "Bearer {secret}"
    std::string placeholder;
    bool operator==(const Binding&) const = default;
};

enum class Mode : uint8_t {
    Tls,       // spliced: TLS end to end, the server name is checked
    Terminate, // TLS ends here; each request is checked and gets its secrets
    Http,      // each request's Host is checked
    Relay,     // bytes, for an entry that names its port
};
std::string_view mode_name(Mode mode);

struct Decision {
    bool allowed = false;
    std::string rule; // the entry that allows it
    Mode mode = Mode::Relay;
    bool private_allowed = false;
    std::string reason; // of a denial, for a person
    std::string add;    // the manifest line that would allow it; empty if none would
};

struct NameDecision {
    bool allowed = false;
    bool by_wildcard = false;
    std::string rule, reason, add;
};

class Policy {
public:
    struct Source {
        std::vector<std::string> allow;         // manifest capabilities.network.allow
        std::vector<std::string> allow_private; // names
        std::vector<Binding> inject;
        std::vector<manifest::RequestRule> rules; // manifest capabilities.network.rule
        Budget budget;
    };
    // An agent that may reach nothing.
    Policy() = default;
    static Result<Policy> compile(const Source& source);

    // Whether the name may be looked up at all: some entry names it, whatever the port.
    NameDecision decide_name(const HostName& name) const;
    Decision decide(const Destination& destination) const;
    std::vector<const Binding*> bindings(const HostName& host) const;
    // Asked for every request that decide() has let be made, where HTTP is looked into.
    const RequestRules& request_rules() const { return request_rules_; }
    const Budget& budget() const { return budget_; }
    // The IPv4 "address:port" entries. Guests speak IPv4; an IPv6 host is reached by its name.
    std::vector<Endpoint4> literals() const;
    size_t rules() const { return rules_.size(); }

private:
    struct Rule {
        std::string text;
        std::optional<HostName> name; // exact, or the suffix
        bool wildcard = false;
        std::optional<IpAddress> address;
        std::optional<uint16_t> port;
        bool holds_for(uint16_t wanted) const;
    };
    static Result<Rule> compile_rule(const std::string& text);
    const Rule* find(const Host& host, std::optional<uint16_t> port) const;
    const Rule* first(const std::vector<uint32_t>* places, std::optional<uint16_t> port) const;
    Decision allow(const Rule& rule, const Destination& destination) const;
    Decision deny(const Destination& destination) const;
    bool private_allowed(const Host& host) const;

    struct TextHash : std::hash<std::string_view> {
        using is_transparent = void;
    };
    // Where rules_ has what is for a host, in the manifest's order: what a look-up costs does not grow with
    // the list.
    using Index = std::unordered_map<std::string, std::vector<uint32_t>, TextHash, std::equal_to<>>;

    std::vector<Rule> rules_;
    Index exact_, below_;           // by host_text(); by what follows "*."
    std::vector<HostName> private_; // in order
    std::vector<Binding> bindings_;
    RequestRules request_rules_;
    Budget budget_;
};

} // namespace nullbox::egress
