#include "egress/egress.h"

#include <algorithm>
#include <chrono>
#include <netinet/in.h>

#include "base/log.h"
#include "base/text.h"
#include "egress/address_class.h"

namespace nullbox::egress {

constexpr auto kTickTime = std::chrono::seconds(5);
constexpr size_t kMaxTimeServers = 8;
constexpr size_t kMostProblemBytes = 300; // in the status line

static int64_t wall_clock_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

Result<std::unique_ptr<Egress>> Egress::make(Tasks& tasks, NetworkAccess network, EgressOptions options) {
    auto authority = TRY(Authority::open(options.state_folder + "/ca.pem", options.clock_floor_s));
    std::unique_ptr<Egress> egress(
        new Egress(tasks, std::move(network), std::move(options), std::move(authority)));
    egress->tick();
    return egress;
}

Egress::Egress(Tasks& tasks, NetworkAccess network, EgressOptions options, Authority authority)
    : tasks_(tasks), network_(std::move(network)), options_(std::move(options)),
      records_({.path = options_.state_folder + "/records.ndjson", .now_ms = wall_clock_ms}),
      budgets_({.path = options_.state_folder + "/budgets.json", .now_ms = wall_clock_ms}),
      authority_(std::move(authority)), roots_(options_.root_file, options_.more_roots),
      upstream_(
          tasks.loop(), [this] { return network_.status().dns_servers; }, upstream_options()),
      injector_(tasks.loop(), options_.warden_socket), resolver_(tasks, records_),
      proxy_(tasks, proxy_setup()) {
    auto lookup = [this](const std::string& name, TimeSync::Answer answer) {
        auto parsed = HostName::parse(name);
        if (!parsed) return answer(parsed.error());
        tasks_.spawn(look_up(*parsed, std::move(answer)));
    };
    time_ = std::make_unique<TimeSync>(tasks.loop(), lookup, SystemClock::real(),
                                       TimeSync::Options{.not_before_s = options_.clock_floor_s});
}

// Without any family (no network yet) IPv4 is what is tried.
Upstream::Options Egress::upstream_options() {
    auto options = options_.upstream;
    if (!options.reach)
        options.reach = [this] {
            auto status = network_.status();
            bool v6 = status.online6();
            return Reach{.v4 = status.online4() || !v6, .v6 = v6, .link = status.uplink_index};
        };
    return options;
}

Egress::~Egress() {
    for (const auto& agent : agents_.all()) detach(agent->name);
}

ProxySetup Egress::proxy_setup() {
    return {.upstream = upstream_,
            .injector = injector_,
            .authority = authority_,
            .roots = roots_,
            .records = records_,
            .identify = [this](const auto& local, const auto& remote) { return identify(local, remote); },
            .own_addresses = [this] { return network_.status().own_addresses; },
            .route = options_.route,
            .most_of_one_agent = options_.most_connections_of_one_agent};
}

Task<> Egress::look_up(HostName name, TimeSync::Answer answer) { answer(co_await upstream_.lookup(name)); }

std::optional<Flow> Egress::identify(const Endpoint& local, const Endpoint& remote) {
    auto guest = remote.address.ip4();
    if (auto flow = agents_.flow(guest, local.address, local.port)) return flow;
    // A synthetic address that nothing stands behind: guessed, or remembered from before a restart.
    auto slot = slot_of(guest);
    if (auto agent = slot ? agents_.of_slot(*slot) : nullptr)
        records_.add({.agent = agent->name,
                      .address = local.address.text(),
                      .port = local.port,
                      .reason = "this address stands for no name; look the name up first"});
    return std::nullopt;
}

Result<Attached> Egress::connect(const std::shared_ptr<Agent>& agent) {
    auto tap = TRY(network_.attach(agent->link.slot, agent->policy->literals()));
    agent->link = tap.link;
    auto sockets = TRY(network_.open_dns(tap.link).context("the agent's DNS"));
    TRY(resolver_.serve(agent, std::move(sockets.datagram), std::move(sockets.stream)));
    return Attached{tap.link, std::move(tap.fd), authority_.certificate_pem()};
}

Result<Attached> Egress::attach(const std::string& name, const Policy::Source& source) {
    auto policy = TRY(Policy::compile(source));
    detach(name);
    auto agent = agents_.attach(name, std::move(policy));
    if (!agent) return error(cat("all ", kMaxSlots, " places for agents with a network are taken; stop one"));
    agent->ledger = budgets_.of(name);
    auto attached = connect(agent);
    if (!attached) detach(name);
    if (status_changed_) status_changed_();
    return attached;
}

Result<size_t> Egress::update(const std::string& name, const Policy::Source& source) {
    auto agent = agents_.find(name);
    if (!agent) return error(cat("agent ", name, " is not attached"));
    auto policy = std::make_shared<const Policy>(TRY(Policy::compile(source)));
    TRY(network_.set_literals(agent->link.slot, policy->literals()));
    auto before = std::exchange(agent->policy, std::move(policy));
    return proxy_.end_not_allowed(name, *before);
}

void Egress::detach(const std::string& name) {
    auto agent = agents_.find(name);
    if (!agent) return;
    agents_.detach(name);
    resolver_.stop(name);
    proxy_.end_agent(name);
    network_.detach(agent->link.slot);
    if (status_changed_) status_changed_();
}

// The time servers of the configuration, else of the network.
void Egress::keep_time() {
    auto status = network_.status();
    auto servers = options_.time_servers;
    if (servers.empty())
        for (const auto& address : status.time_servers) servers.push_back(address.text());
    if (servers.size() > kMaxTimeServers) servers.resize(kMaxTimeServers);
    if (!status.online() || servers == time_servers_) return;
    time_servers_ = servers;
    time_->start(servers);
}

void Egress::network_changed() {
    keep_time();
    if (status_changed_) status_changed_();
}

void Egress::tick() {
    records_.tick();
    budgets_.tick();
    // What comes without an event: a DNS server that answers no more.
    if (auto line = status_line(); line != last_line_) {
        last_line_ = std::move(line);
        if (status_changed_) status_changed_();
    }
    tick_ = tasks_.loop().after(kTickTime, [this] { tick(); });
}

namespace {
struct PacketReason {
    std::string reason, add;
};
} // namespace

// A guest's own housekeeping, which every kernel does unasked: multicast membership, neighbours, routers. It
// is counted; a list of it would hide what matters.
static bool housekeeping(const DroppedPacket& packet) {
    if (packet.protocol == IPPROTO_IGMP) return true;
    return packet.destination.v6 && packet.destination.bytes[0] == 0xff &&
           (packet.protocol == IPPROTO_ICMPV6 || packet.protocol == IPPROTO_HOPOPTS);
}

// Why a packet that never came to the proxy was dropped, and what would help.
static PacketReason explain(const DroppedPacket& packet, const Agent& agent,
                            std::span<const OwnAddress> own) {
    bool tcp = packet.protocol == IPPROTO_TCP, udp = packet.protocol == IPPROTO_UDP;
    if ((tcp || udp) && packet.destination_port == 53)
        return {cat("DNS goes to the resolver at ", agent.link.gateway.text(), " only"), {}};
    if (!tcp && !udp) return {"only TCP and DNS leave an agent", {}};
    if (udp) return {"no UDP but DNS leaves an agent (QUIC is UDP; clients fall back to TCP)", {}};
    auto check = may_dial(packet.destination, true, own);
    if (!check.allowed) return {cat("this is ", describe(check.kind), ", which no agent reaches"), {}};
    if (packet.destination.v6) return {"agents speak IPv4; an IPv6 host is reached by its name", {}};
    auto decision = agent.policy->decide({packet.destination, packet.destination_port});
    if (decision.allowed)
        return {"not the beginning of a connection", {}}; // or its rules came a moment later
    return {"a connection to a bare address that the manifest does not name", decision.add};
}

void Egress::packet_dropped(const DroppedPacket& packet) {
    auto agent = agents_.of_slot(packet.slot);
    if (!agent || housekeeping(packet)) return;
    auto [reason, add] = explain(packet, *agent, network_.status().own_addresses);
    records_.add({.agent = agent->name,
                  .kind = RecordKind::Packet,
                  .address = packet.destination.text(),
                  .port = packet.destination_port,
                  .reason = cat(packet.text(), ": ", reason),
                  .add = add});
}

std::vector<std::string> Egress::problems() const {
    auto problems = options_.problems;
    std::ranges::copy(network_.status().problems, std::back_inserter(problems));
    if (!upstream_.problem().empty()) problems.push_back(upstream_.problem());
    if (!records_.problem().empty()) problems.push_back(records_.problem());
    if (!budgets_.problem().empty()) problems.push_back(budgets_.problem());
    return problems;
}

std::string Egress::status_line() const {
    auto status = network_.status();
    auto count = agents_.all().size();
    auto of_family = [&](bool v6) {
        auto found = std::ranges::find_if(status.addresses, [v6](const IpAddress& address) {
            return address.v6 == v6 && !address.link_local6();
        });
        return found == status.addresses.end() ? std::string() : found->text();
    };
    std::string line, addresses;
    auto add = [&](std::string address, const std::string& gateway) {
        if (address.empty()) return;
        addresses += cat(addresses.empty() ? "" : ", ", address);
        line += cat(line.empty() ? "" : ", ", address, gateway.empty() ? "" : " via ", gateway);
    };
    add(of_family(false), status.gateway ? status.gateway->text() : "");
    add(of_family(true), status.gateway6 ? status.gateway6->text() : "");
    // An address is kept while the cable is out, and is of no use then.
    if (!addresses.empty() && !status.uplink.carrier)
        return cat(status.uplink.state, ", address ", addresses);
    if (line.empty()) line = status.uplink.state;
    line += cat(", ", count, count == 1 ? " agent" : " agents");
    if (!status.rules_loaded) line += ", no firewall: agents get no network";
    // On the console, where nobody can ask: the first thing that is wrong.
    const auto& problem = status.problems.empty() ? upstream_.problem() : status.problems.front();
    if (!problem.empty()) line += cat("; ", printable(problem, kMostProblemBytes));
    return line;
}

} // namespace nullbox::egress
