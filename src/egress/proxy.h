// The transparent proxy: every TCP connection of every agent ends here. It is made anew, by name, to an
// address that is checked at that moment; what flows is held to that name (SNI, Host) or ended (policy.h's
// modes).
//
// Invariant: no byte of an agent leaves before its destination was allowed, and no secret reaches it.
// Connections are bounded for each agent and in all, and each ends when nothing flows.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/fd.h"
#include "egress/agents.h"
#include "egress/records.h"
#include "egress/socket.h"

namespace nullbox::egress {

class Authority;
class Injector;
class ServerPool;
class Session;
class TrustedRoots;
class Upstream;

struct ProxyTimes {
    std::chrono::milliseconds hello{30'000};       // to a TLS hello or a request's head
    std::chrono::milliseconds dial{20'000};        // look-up, connect and TLS handshake
    std::chrono::milliseconds connect{5'000};      // to one address
    std::chrono::milliseconds keep_alive{120'000}; // to the next request
    std::chrono::milliseconds idle{600'000};       // with nothing flowing
};

inline Endpoint direct_route(const IpAddress& address, uint16_t port) { return {address, port}; }

struct ProxySetup {
    Upstream& upstream;
    Injector& injector;
    Authority& authority;
    TrustedRoots& roots;
    RecordBook& records;
    // Who is this connection? local is where it was going; nothing: nobody of ours.
    std::function<std::optional<Flow>(const Endpoint& local, const Endpoint& remote)> identify;
    // This box's own addresses, never dialled.
    std::function<std::vector<OwnAddress>()> own_addresses;
    // Where a checked address is to be found; tests put it elsewhere.
    std::function<Endpoint(const IpAddress&, uint16_t port)> route = direct_route;
    ProxyTimes times{};
    size_t most_connections = 1024;
    size_t most_of_one_agent = 256;
    std::shared_ptr<ServerPool> servers = {}; // the proxy's own
};

class Proxy {
public:
    Proxy(Tasks& tasks, ProxySetup setup);
    ~Proxy();
    // Until the proxy ends. listener: of open_proxy_listener().
    Result<> listen(Fd listener);
    // Ends the agent's connections; new ones find no agent.
    void end_agent(const std::string& name);
    // Those that the agent's policy, which replaced `before`, does not allow. How many.
    size_t end_not_allowed(const std::string& name, const Policy& before);
    size_t connections() const { return sessions_->size(); }

private:
    friend class Session;
    void sweep();
    void take(Fd connection, const Endpoint& from);
    void refuse(const Flow& flow, std::string reason);

    Tasks& tasks_;
    std::shared_ptr<ProxySetup> setup_; // sessions may end a moment after the proxy
    std::shared_ptr<std::set<std::shared_ptr<Session>>> sessions_;
    std::unique_ptr<Listener> listener_;
    Watch sweeper_;
};

} // namespace nullbox::egress
