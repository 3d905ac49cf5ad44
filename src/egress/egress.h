// Egress as a whole: the agents that are attached, their DNS and their connections, the records of it all.
// What the kernel does for it (taps, rules, addresses) comes in as functions, so that everything above them
// is tested without any privilege.
#pragma once

#include <functional>
#include <memory>

#include "egress/agents.h"
#include "egress/authority.h"
#include "egress/injector.h"
#include "egress/net/network.h"
#include "egress/net/time_sync.h"
#include "egress/proxy.h"
#include "egress/records.h"
#include "egress/resolver.h"
#include "egress/upstream.h"

namespace nullbox::egress {

struct DnsSockets {
    Fd datagram, stream;
};

// What is asked of the network below (net/network.h).
struct NetworkAccess {
    // literals: "192.0.2.7:443" entries; connections to them are the proxy's too.
    std::function<Result<AttachedTap>(unsigned slot, std::vector<Endpoint4> literals)> attach;
    std::function<void(unsigned slot)> detach;
    std::function<Result<>(unsigned slot, std::vector<Endpoint4> literals)> set_literals;
    std::function<Result<DnsSockets>(const TapLink& link)> open_dns;
    std::function<uint64_t(unsigned slot)> dropped_packets;
    std::function<NetworkStatus()> status;
};

struct EgressOptions {
    std::string state_folder = "/var/egress";
    std::string root_file = "/system/config/ca-certificates.crt";
    std::string more_roots; // PEM; the machine configuration's, besides the file's
    std::string warden_socket = "/run/warden/warden.sock";
    int64_t clock_floor_s = 0;             // the image's build
    std::vector<std::string> time_servers; // configured; besides those by DHCP
    std::vector<std::string> problems;     // known before the start, for the status
    Upstream::Options upstream;
    std::function<Endpoint(const IpAddress&, uint16_t port)> route = direct_route; // see ProxySetup
    size_t most_connections_of_one_agent = 256;
};

struct Attached {
    TapLink link;
    Fd tap;
    std::string ca_pem;
};

class Egress {
public:
    // The network's functions are used until this ends.
    static Result<std::unique_ptr<Egress>> make(Tasks& tasks, NetworkAccess network, EgressOptions options);
    ~Egress();

    // listener: of open_proxy_listener().
    Result<> serve_proxy(Fd listener) { return proxy_.listen(std::move(listener)); }
    // An error is for a person: the agent gets no network, and why.
    Result<Attached> attach(const std::string& name, const Policy::Source& source);
    void detach(const std::string& name);
    // Other rules for an agent that is attached. Connections that they no longer allow, or would treat
    // otherwise, end at once; all others go on. How many ended. An error: all is as it was.
    Result<size_t> update(const std::string& name, const Policy::Source& source);

    void network_changed();
    void packet_dropped(const DroppedPacket& packet);
    // Told when status_line() may differ.
    void on_status(std::function<void()> changed) { status_changed_ = std::move(changed); }

    // "192.0.2.7 via 192.0.2.1, 2001:db8::7 via fe80::1, 2 agents", or what the network is waiting for; then
    // the first thing that is wrong with it.
    std::string status_line() const;
    std::vector<std::string> problems() const;
    NetworkStatus network_status() const { return network_.status(); }
    const TimeStatus& time_status() const { return time_->status(); }
    uint64_t dropped_packets(const Agent& agent) const { return network_.dropped_packets(agent.link.slot); }
    size_t connections() const { return proxy_.connections(); }
    const Agents& agents() const { return agents_; }
    RecordBook& records() { return records_; }

private:
    Egress(Tasks& tasks, NetworkAccess network, EgressOptions options, Authority authority);
    ProxySetup proxy_setup();
    Upstream::Options upstream_options();
    Result<Attached> connect(const std::shared_ptr<Agent>& agent);
    std::optional<Flow> identify(const Endpoint& local, const Endpoint& remote);
    Task<> look_up(HostName name, TimeSync::Answer answer);
    void keep_time();
    void tick();

    Tasks& tasks_;
    NetworkAccess network_;
    EgressOptions options_;
    RecordBook records_;
    Budgets budgets_; // of names: they stay while agents come and go
    Authority authority_;
    TrustedRoots roots_;
    Agents agents_;
    Upstream upstream_;
    Injector injector_;
    Resolver resolver_;
    Proxy proxy_;
    std::unique_ptr<TimeSync> time_;
    std::vector<std::string> time_servers_; // that time_ asks
    std::function<void()> status_changed_;
    std::string last_line_; // of the status, at the last tick
    Watch tick_;
};

} // namespace nullbox::egress
