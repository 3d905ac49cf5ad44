// egress as it is (policy, proxy, injector, records), on loopback instead of taps, for bench/proxy.py:
// bench_egress_proxy FOLDER ORIGIN PORT ROOTS WARDEN_SOCKET PLAIN KEYED ENTRIES
//
// One agent that may reach two names, at the end of a list with ENTRIES others, both served at the address
// ORIGIN and PORT: PLAIN is spliced, KEYED is terminated and gets the secret DEMO_KEY. The namespace must
// give all of 198.18.0.0/15 to this machine, with the guest's address as the source, because that is how
// egress knows whose a connection is and where it wants to go. Prints one line, {"plain": ADDRESS, "keyed":
// ADDRESS}, when it serves; the box's certificate is in FOLDER/box.pem.
#include <cstdio>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/log.h"
#include "base/service.h"
#include "base/text.h"
#include "egress/egress.h"

namespace nullbox::bench {
namespace {

using namespace nullbox::egress;

constexpr uint16_t kHttps = 443;

struct Options {
    std::string folder, origin;
    uint16_t origin_port = 0;
    std::string roots, warden_socket, plain, keyed;
    int64_t entries = 0;
};

Result<Fd> bound(int type, Ip4 address, uint16_t port) {
    Fd fd(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return errno_error("make a socket");
    int on = 1; // the last one's connections may still be waiting for their end
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(address.value)}};
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) < 0 ||
        (type == SOCK_STREAM && ::listen(fd.get(), 1024) < 0))
        return errno_error(cat("listen at ", address.text(), " port ", port));
    return fd;
}

// What the kernel does for egress, done by the namespace.
NetworkAccess network() {
    return {.attach = [](unsigned slot, const std::vector<Endpoint4>&) -> Result<AttachedTap> {
                return AttachedTap{tap_link(slot), TRY(make_socket_pair(SOCK_STREAM)).first};
            },
            .detach = [](unsigned) {},
            .set_literals = [](unsigned, const std::vector<Endpoint4>&) -> Result<> { return {}; },
            .open_dns = [](const TapLink& link) -> Result<DnsSockets> {
                return DnsSockets{TRY(bound(SOCK_DGRAM, link.gateway, 53)),
                                  TRY(bound(SOCK_STREAM, link.gateway, 53))};
            },
            .dropped_packets = [](unsigned) { return uint64_t{0}; },
            .status = [] { return NetworkStatus{.rules_loaded = true}; }};
}

Policy::Source policy(const Options& options, const HostName& keyed) {
    std::vector<std::string> allow;
    for (int64_t i = 0; i < options.entries; i++)
        allow.push_back(cat(i % 2 ? "*.s" : "s", i, ".example.org"));
    allow.insert(allow.end(), {options.plain, options.keyed});
    return {.allow = std::move(allow),
            .inject = {{.secret = "DEMO_KEY",
                        .host = keyed,
                        .header = "Authorization",
                        .format = "Bearer {secret}",
                        .placeholder = "nullbox-DEMO_KEY-0123456789abcdef"}}};
}

// As the resolver gives it out.
Result<Ip4> address_of(Egress& egress, const HostName& name) {
    auto agent = egress.agents().find("bench");
    auto address = agent ? agent->names.address_of(name, false) : std::nullopt;
    if (!address) return error(cat("there is no address for ", name.text()));
    return *address;
}

Result<> serve(Service& service, const Options& options) {
    OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
    auto plain = TRY(HostName::parse(options.plain)), keyed = TRY(HostName::parse(options.keyed));
    auto origin = IpAddress::parse(options.origin);
    if (!origin) return error(cat(options.origin, " is no address"));
    Tasks tasks(service.loop());
    auto egress =
        TRY(Egress::make(tasks, network(),
                         {.state_folder = options.folder,
                          .root_file = options.roots,
                          .warden_socket = options.warden_socket,
                          .upstream = {.hosts = {{plain, *origin}, {keyed, *origin}}},
                          // Port 443 of every address here is the proxy's own.
                          .route = [&](const IpAddress& address,
                                       uint16_t) { return direct_route(address, options.origin_port); },
                          .most_connections_of_one_agent = 1024}));
    auto attached = TRY(egress->attach("bench", policy(options, keyed)));
    TRY(write_file_atomic(options.folder + "/box.pem", attached.ca_pem, 0644));
    // At every address: where a connection wants to go is the address at which it arrives.
    auto plain_address = TRY(address_of(*egress, plain)), keyed_address = TRY(address_of(*egress, keyed));
    auto listener = TRY(bound(SOCK_STREAM, Ip4{}, kHttps));
    TRY(egress->serve_proxy(std::move(listener)));
    std::puts(
        cat(R"({"plain": ")", plain_address.text(), R"(", "keyed": ")", keyed_address.text(), "\"}").c_str());
    std::fflush(stdout);
    service.ready();
    return service.serve();
}

} // namespace
} // namespace nullbox::bench

int main(int count, char** arguments) {
    using namespace nullbox;
    if (count != 9) {
        log_error("usage: bench_egress_proxy FOLDER ORIGIN PORT ROOTS WARDEN_SOCKET PLAIN KEYED ENTRIES");
        return 2;
    }
    bench::Options options{.folder = arguments[1],
                           .origin = arguments[2],
                           .origin_port =
                               static_cast<uint16_t>(parse_number(arguments[3], 1, 65535).value_or(0)),
                           .roots = arguments[4],
                           .warden_socket = arguments[5],
                           .plain = arguments[6],
                           .keyed = arguments[7],
                           .entries = parse_number(arguments[8], 0, 1'000'000).value_or(0)};
    return run_service("bench_egress_proxy",
                       [&](Service& service) { return bench::serve(service, options); });
}
