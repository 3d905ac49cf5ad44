// Asks the box's DNS servers for the addresses of names that a manifest allows, when a connection is made.
// What comes back is not trusted: whoever dials checks the address (address_class.h). Queries go from a
// random port with a random id and random case (0x20), and only the asked server's answer arrives; one that
// does not match all of these is not seen. By TCP, where nobody off the path can slip an answer in, the name
// is asked for in lower case, so that a server which does not keep the letters' case is of use.
#pragma once

#include <chrono>
#include <functional>
#include <map>

#include "egress/dns_message.h"
#include "egress/socket.h"

namespace nullbox::egress {

// What the box's network is good for now.
struct Reach {
    bool v4 = true, v6 = false;
    unsigned link = 0; // that link-local servers (fe80::/10) are on
    bool operator==(const Reach&) const = default;
};

class Upstream {
public:
    struct Options {
        uint16_t port = 53;
        std::chrono::milliseconds timeout{1500};  // of one server's answer
        std::map<HostName, IpAddress> hosts = {}; // known without asking, from the machine configuration
        std::function<Reach()> reach = {};        // asked at each look-up; none: IPv4
    };
    // servers: asked for at each look-up, in order of preference.
    Upstream(Loop& loop, std::function<std::vector<IpAddress>()> servers, Options options);
    Upstream(Loop& loop, std::function<std::vector<IpAddress>()> servers)
        : Upstream(loop, std::move(servers), Options{}) {}

    // IPv4 addresses, or IPv6 ones for a name that has only these; the other way round where IPv6 is all that
    // the box has. Never empty.
    Task<Result<std::vector<IpAddress>>> lookup(HostName name);
    // For when none of those works, whose family was this: addresses of the other one. Empty: there are none,
    // or the box has not that family.
    Task<std::vector<IpAddress>> lookup_other(HostName name, bool family_v6);
    Reach reach() const { return options_.reach ? options_.reach() : Reach{}; }

    // For people: of the last look-up that no server answered; empty once one does.
    const std::string& problem() const { return problem_; }

private:
    struct Cached {
        Result<std::vector<IpAddress>> addresses;
        Clock::time_point until;
    };
    Task<Result<dns::UpstreamAnswer>> ask(const HostName& name, uint16_t type);
    Task<Result<dns::UpstreamAnswer>> ask_server(IpAddress server, const HostName& name, uint16_t type,
                                                 bool by_tcp);
    Task<Result<std::vector<std::byte>>> exchange_udp(Endpoint server, const dns::UpstreamQuestion& question);
    Task<Result<std::vector<std::byte>>> exchange_tcp(Endpoint server, const dns::UpstreamQuestion& question);
    // The servers to ask now: in order of preference, but those that lately failed after the others.
    std::vector<IpAddress> servers_in_order();
    void failed(const IpAddress& server);
    void answered(const IpAddress& server, bool by_tcp);
    bool by_tcp_only(const IpAddress& server);
    Endpoint where(const IpAddress& server) const;
    using Asked = std::pair<HostName, uint16_t>; // type 0: lookup()
    const Cached* cached(const Asked& asked);
    void remember(const Asked& asked, const Result<std::vector<IpAddress>>& addresses, uint32_t ttl_s);

    Loop& loop_;
    std::function<std::vector<IpAddress>()> servers_;
    Options options_;
    std::map<Asked, Cached> cache_;
    Reach cached_for_; // the cache is of this; another one asks anew
    struct Remembered {
        IpAddress server;
        Clock::time_point until;
    };
    static void put(std::vector<Remembered>& list, const IpAddress& server, Clock::duration time);
    static void drop(std::vector<Remembered>& list, const IpAddress& server);
    std::vector<Remembered> failing_, tcp_only_; // at most kMostRemembered each
    std::string problem_;
};

} // namespace nullbox::egress
