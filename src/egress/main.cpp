// egress: the only way out. Owns the network, and lets out what a manifest names.
#include <openssl/ssl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/service.h"
#include "base/text.h"
#include "egress/egress.h"
#include "egress/interface.h"
#include "egress/net/sockets.h"
#include "manifest/machine.h"

namespace nullbox::egress {
namespace {

struct Options {
    std::vector<uid_t> allowed;
    std::string machine = "/run/nulld/machine.toml";
    std::string socket = "/run/egress/egress.sock";
};

Result<Options> parse(std::span<char*> arguments) {
    Options options;
    for (size_t i = 0; i < arguments.size(); i++) {
        std::string_view argument = arguments[i];
        if (argument != "--allow-uid" || i + 1 == arguments.size())
            return error(cat("unknown argument ", argument, "; use [--allow-uid N]..."));
        auto uid = parse_number(arguments[++i], 0, UINT32_MAX - 1);
        if (!uid) return error(cat("--allow-uid ", arguments[i], ": must be a number"));
        options.allowed.push_back(static_cast<uid_t>(*uid));
    }
    return options;
}

// Secrets pass through this process: no core, no ptrace by others of our uid.
Result<> hide_memory() {
    rlimit none{};
    if (::prctl(PR_SET_DUMPABLE, 0) < 0) return errno_error("make this process not dumpable");
    if (::setrlimit(RLIMIT_CORE, &none) < 0) return errno_error("switch core files off");
    return {};
}

// When the image was built: no certificate is older, whatever the clock says.
int64_t build_time_s() {
    struct stat facts{};
    return ::stat("/proc/self/exe", &facts) == 0 ? facts.st_mtime : 0;
}

struct Configured {
    NetworkConfig network;
    std::vector<std::string> time_servers, problems;
    std::map<HostName, IpAddress> hosts;
    std::string certificate_authorities;
};

Configured configure(const std::string& path) {
    manifest::MachineConfig machine;
    Configured out;
    auto text = read_file(path);
    if (text)
        manifest::apply_machine_document(machine, *text, path);
    else
        out.problems.push_back(cat(text.error().message, "; using DHCP"));
    out.network.vlan = machine.vlan;
    out.network.dhcp = machine.dhcp;
    if (machine.address) out.network.address = Prefix4::parse(*machine.address);
    if (machine.gateway) out.network.gateway = Ip4::parse(*machine.gateway);
    out.network.router_advertisements = machine.router_advertisements;
    if (machine.address6) out.network.address6 = Prefix6::parse(*machine.address6);
    if (machine.gateway6) out.network.gateway6 = Ip6::parse(*machine.gateway6);
    if (out.network.address6 && !out.network.address6->address.global_unicast()) {
        out.problems.push_back(
            cat("network.address6 ", *machine.address6,
                " is no address that others can reach (2000::/3 or fc00::/7): it is not used"));
        out.network.address6.reset();
    }
    if (!machine.dhcp && !out.network.address && !machine.router_advertisements && !out.network.address6)
        out.problems.push_back("the machine configuration gives this box no address: set network.address, "
                               "network.address6, network.dhcp or network.router_advertisements");
    for (const auto& server : machine.dns_servers)
        if (auto address = IpAddress::parse(server)) out.network.dns_servers.push_back(*address);
    for (const auto& [name, address] : machine.hosts)
        if (auto host = HostName::parse(name); auto parsed = IpAddress::parse(address))
            if (host) out.hosts.emplace(*host, *parsed);
    out.certificate_authorities = machine.certificate_authorities;
    out.network.hostname = machine.hostname.value_or("");
    out.network.gate_port = machine.gate_port;
    out.time_servers = machine.time_servers;
    return out;
}

NetworkAccess access_to(Network& network) {
    return {
        .attach = [&](unsigned slot,
                      std::vector<Endpoint4> literals) { return network.attach(slot, std::move(literals)); },
        .detach =
            [&](unsigned slot) {
                if (auto gone = network.detach(slot); !gone)
                    log_warning(cat("take an agent's network away: ", gone.error().message));
            },
        .set_literals = [&](unsigned slot,
                            std::vector<Endpoint4> literals) { return network.set_literals(slot, literals); },
        .open_dns = [](const TapLink& link) -> Result<DnsSockets> {
            return DnsSockets{TRY(open_dns_datagram_socket(link)), TRY(open_dns_listener(link))};
        },
        .dropped_packets =
            [&](unsigned slot) {
                auto counters = network.counters(slot);
                return counters ? counters->dropped_packets : 0;
            },
        .status = [&] { return network.status(); }};
}

Result<> serve(Service& service, const Options& options) {
    TRY(hide_memory());
    OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
    auto configured = configure(options.machine);
    auto proxy_port = configured.network.proxy_port;
    Tasks tasks(service.loop());
    std::unique_ptr<Egress> egress; // told of events as soon as it is there
    auto network = TRY(Network::start(service.loop(), std::move(configured.network),
                                      {.changed =
                                           [&] {
                                               if (egress) egress->network_changed();
                                           },
                                       .dropped =
                                           [&](const DroppedPacket& packet) {
                                               if (egress) egress->packet_dropped(packet);
                                           }}));
    auto listener = open_proxy_listener(proxy_port);
    if (!listener) configured.problems.push_back(cat("agents' connections: ", listener.error().message));
    egress = TRY(Egress::make(tasks, access_to(*network),
                              {.more_roots = std::move(configured.certificate_authorities),
                               .clock_floor_s = build_time_s(),
                               .time_servers = std::move(configured.time_servers),
                               .problems = std::move(configured.problems),
                               .upstream = {.hosts = std::move(configured.hosts)}}));
    if (listener) TRY(egress->serve_proxy(*std::move(listener)));
    egress->on_status([&] { service.status(egress->status_line()); });
    auto server = TRY(serve_interface(service.loop(), *egress, options.socket, options.allowed));
    service.ready();
    egress->network_changed();
    auto served = service.serve();
    egress->on_status({});
    server.reset();
    egress.reset();
    network->release();
    return served;
}

} // namespace
} // namespace nullbox::egress

int main(int count, char** arguments) {
    using namespace nullbox;
    auto options = egress::parse(std::span(arguments, static_cast<size_t>(count)).subspan(1));
    if (!options) {
        log_error(cat("egress: ", options.error().message));
        return 2;
    }
    return run_service("egress", [&](Service& service) { return egress::serve(service, *options); });
}
