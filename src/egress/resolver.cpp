#include "egress/resolver.h"

#include <sys/epoll.h>

#include "base/text.h"
#include "egress/dns_message.h"

namespace nullbox::egress {

constexpr size_t kMaxStreams = 8; // of one agent
constexpr size_t kMaxStreamQuery = 1024;
constexpr auto kStreamTime = std::chrono::seconds(10);

static void record(RecordBook& records, Agent& agent, Verdict verdict, const dns::Query& query,
                   std::string rule, std::string reason, std::string add) {
    agent.counters.lookups++;
    if (verdict == Verdict::Denied) agent.counters.lookups_denied++;
    records.add({.agent = agent.name,
                 .kind = RecordKind::Lookup,
                 .verdict = verdict,
                 .name = query.shown_name,
                 .port = 53,
                 .rule = std::move(rule),
                 .reason = std::move(reason),
                 .add = std::move(add)});
}

static std::vector<std::byte> answer_name(Agent& agent, RecordBook& records, const dns::Query& query) {
    if (!query.name) {
        record(records, agent, Verdict::Denied, query, {}, "not a host name that a manifest can hold", {});
        return dns::answer(query, dns::Rcode::NxDomain);
    }
    auto decision = agent.policy->decide_name(*query.name);
    if (!decision.allowed) {
        record(records, agent, Verdict::Denied, query, {}, decision.reason, decision.add);
        return dns::answer(query, dns::Rcode::NxDomain);
    }
    // The proxy speaks IPv4 to guests. Without HTTPS records there is neither ECH nor QUIC to be found.
    if (query.type != dns::kTypeA) return dns::answer(query, dns::Rcode::NoError);
    auto address = agent.names.address_of(*query.name, decision.by_wildcard);
    if (!address) {
        record(records, agent, Verdict::Denied, query, decision.rule,
               cat("the agent has looked up ", agent.names.size(),
                   " names, no more are answered until it restarts"),
               {});
        return dns::answer(query, dns::Rcode::Refused);
    }
    record(records, agent, Verdict::Allowed, query, decision.rule, {}, {});
    return dns::answer(query, dns::Rcode::NoError, address, kSyntheticTtl_s);
}

std::vector<std::byte> answer_query(Agent& agent, RecordBook& records, std::span<const std::byte> message,
                                    Clock::time_point now) {
    if (!agent.lookup_budget.take(now)) return {};
    auto query = dns::parse_query(message);
    if (!query) return dns::answer(query.error());
    if (query->klass != dns::kClassIn) return dns::answer(*query, dns::Rcode::NotImp);
    return answer_name(agent, records, *query);
}

struct Resolver::Service {
    Service(RecordBook& book, std::shared_ptr<Agent> whose, Fd sockets)
        : records(book), agent(std::move(whose)), datagrams(std::move(sockets)) {}
    RecordBook& records;
    std::shared_ptr<Agent> agent;
    Fd datagrams;
    Watch watch;
    std::unique_ptr<Listener> listener;
    size_t streams = 0;
    bool from_guest(const Endpoint& from) const { return from.address == IpAddress::of(agent->link.guest); }
    std::vector<std::byte> answer(std::span<const std::byte> query) {
        return answer_query(*agent, records, query, Clock::now());
    }
    void answer_datagram();
    // A stream that is being served may keep this.
    void close() {
        watch.drop();
        datagrams.reset();
        listener.reset();
    }
};

// One of a round: others have their turn before the next.
void Resolver::Service::answer_datagram() {
    static std::array<std::byte, dns::kMaxUdpBytes> message;
    auto received = receive_datagram(datagrams.get(), message);
    if (!received || !from_guest(received->from)) return;
    auto reply = answer(received->bytes);
    // A full socket buffer loses it, as the network might.
    if (!reply.empty()) send_datagram(datagrams.get(), reply, received->from);
}

// Queries and answers, each after its length (RFC 1035 4.2.2).
Task<> Resolver::serve_stream(std::shared_ptr<Service> service, std::shared_ptr<Socket> socket) {
    auto late = socket->loop().after(kStreamTime, [&] { socket->close(); }); // for all its queries
    while (service->agent->attached) {
        std::array<std::byte, 2> size;
        if (!co_await socket->receive_all(size)) break;
        auto bytes = size_t(size[0]) << 8 | size_t(size[1]);
        if (bytes > kMaxStreamQuery) break;
        std::vector<std::byte> query(bytes);
        if (!co_await socket->receive_all(query)) break;
        auto answer = service->answer(query);
        if (answer.empty()) break;
        std::array<std::byte, 2> prefix{std::byte(answer.size() >> 8), std::byte(answer.size() & 0xff)};
        answer.insert(answer.begin(), prefix.begin(), prefix.end());
        if (!co_await socket->send_all(answer)) break;
    }
    service->streams--;
}

Result<> Resolver::serve(std::shared_ptr<Agent> agent, Fd datagrams, Fd streams) {
    stop(agent->name);
    auto& loop = tasks_.loop();
    auto service = std::make_shared<Service>(records_, std::move(agent), std::move(datagrams));
    auto* of = service.get(); // which ends with what it watches
    service->watch = TRY(loop.watch(of->datagrams.get(), EPOLLIN, [of](uint32_t) { of->answer_datagram(); }));
    service->listener =
        TRY(Listener::start(loop, std::move(streams), [this, of](Fd stream, const Endpoint& from) {
            if (!of->from_guest(from) || of->streams == kMaxStreams) return;
            of->streams++;
            tasks_.spawn(serve_stream(services_.at(of->agent->name),
                                      std::make_shared<Socket>(tasks_.loop(), std::move(stream))));
        }));
    services_[of->agent->name] = std::move(service);
    return {};
}

Resolver::~Resolver() {
    for (auto& [name, service] : services_) service->close();
}

void Resolver::stop(const std::string& agent_name) {
    auto found = services_.find(agent_name);
    if (found == services_.end()) return;
    found->second->close();
    services_.erase(found);
}

} // namespace nullbox::egress
