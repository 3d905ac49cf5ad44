// Asks the box's DNS servers for the addresses of names that a manifest allows, when a connection is made.
// What comes back is not trusted: whoever dials checks the address (address_class.h). Queries go from a
// random port with a random id and random case (0x20); an answer that does not match all three is not seen.
#pragma once

#include <chrono>
#include <functional>
#include <map>

#include "base/loop.h"
#include "egress/async.h"
#include "egress/dns_message.h"

namespace nullbox::egress {

class Upstream {
public:
    struct Options {
        uint16_t port = 53;
        std::chrono::milliseconds timeout{1500};  // of one server's answer
        std::map<HostName, IpAddress> hosts = {}; // known without asking, from the machine configuration
    };
    // servers: asked for at each look-up, in order of preference.
    Upstream(asio::io_context& context, std::function<std::vector<IpAddress>()> servers, Options options);
    Upstream(asio::io_context& context, std::function<std::vector<IpAddress>()> servers)
        : Upstream(context, std::move(servers), Options{}) {}

    // IPv4 addresses, or IPv6 ones for a name that has only these. Never empty.
    Task<Result<std::vector<IpAddress>>> lookup(HostName name);

private:
    struct Cached {
        Result<std::vector<IpAddress>> addresses;
        Clock::time_point until;
    };
    Task<Result<dns::UpstreamAnswer>> ask(const HostName& name, uint16_t type);
    Task<Result<dns::UpstreamAnswer>> ask_server(IpAddress server, const HostName& name, uint16_t type,
                                                 bool by_tcp);
    Task<Result<std::vector<std::byte>>> exchange_udp(udp::endpoint server,
                                                      const dns::UpstreamQuestion& question);
    Task<Result<std::vector<std::byte>>> exchange_tcp(tcp::endpoint server,
                                                      const dns::UpstreamQuestion& question);
    void remember(const HostName& name, const Result<std::vector<IpAddress>>& addresses, uint32_t ttl_s);

    asio::io_context& context_;
    std::function<std::vector<IpAddress>()> servers_;
    Options options_;
    std::map<HostName, Cached> cache_;
};

} // namespace nullbox::egress
