#include "egress/resolver.h"

#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

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
    Service(asio::io_context& context, RecordBook& book, std::shared_ptr<Agent> whose)
        : records(book), agent(std::move(whose)), datagrams(context), listener(context) {}
    RecordBook& records;
    std::shared_ptr<Agent> agent;
    udp::socket datagrams;
    tcp::acceptor listener;
    size_t streams = 0;
    bool from_guest(const asio::ip::address& address) const {
        return address.is_v4() && address.to_v4().to_uint() == agent->link.guest.value;
    }
    void close() {
        ErrorCode ignored;
        datagrams.close(ignored);
        listener.close(ignored);
    }
};

Resolver::~Resolver() {
    for (auto& [name, service] : services_) service->close();
}

Task<void> Resolver::serve_datagrams(std::shared_ptr<Service> service) {
    std::array<std::byte, dns::kMaxUdpBytes> message;
    while (service->datagrams.is_open()) {
        udp::endpoint from;
        auto [code, count] =
            co_await service->datagrams.async_receive_from(asio::buffer(message), from, kAwait);
        if (code == asio::error::operation_aborted || code == asio::error::bad_descriptor) co_return;
        if (code || !service->from_guest(from.address())) continue;
        auto answer =
            answer_query(*service->agent, service->records, std::span(message).first(count), Clock::now());
        ErrorCode ignored; // a full socket buffer loses the answer, as the network might
        if (!answer.empty()) service->datagrams.send_to(asio::buffer(answer), from, 0, ignored);
    }
}

Task<void> Resolver::serve_stream(std::shared_ptr<Service> service, std::shared_ptr<tcp::socket> socket) {
    asio::steady_timer timer(socket->get_executor());
    timer.expires_after(kStreamTime); // for all its queries
    timer.async_wait([socket](const ErrorCode& code) {
        ErrorCode ignored;
        if (!code) socket->close(ignored);
    });
    while (service->agent->attached) {
        std::array<uint8_t, 2> size;
        auto [no_size, size_read] = co_await asio::async_read(*socket, asio::buffer(size), kAwait);
        size_t bytes = size_t{size[0]} << 8 | size[1];
        if (no_size || bytes > kMaxStreamQuery) break;
        std::vector<std::byte> query(bytes);
        auto [no_query, read] = co_await asio::async_read(*socket, asio::buffer(query), kAwait);
        if (no_query) break;
        auto answer = answer_query(*service->agent, service->records, query, Clock::now());
        if (answer.empty()) break;
        std::array<std::byte, 2> prefix{std::byte(answer.size() >> 8), std::byte(answer.size() & 0xff)};
        answer.insert(answer.begin(), prefix.begin(), prefix.end());
        auto [unsent, sent] = co_await asio::async_write(*socket, asio::buffer(answer), kAwait);
        if (unsent) break;
    }
    timer.cancel();
    service->streams--;
}

Task<void> Resolver::serve_streams(std::shared_ptr<Service> service) {
    asio::steady_timer pause(service->listener.get_executor());
    while (service->listener.is_open()) {
        tcp::endpoint from;
        auto [code, socket] = co_await service->listener.async_accept(from, kAwait);
        if (code == asio::error::operation_aborted || code == asio::error::bad_descriptor) co_return;
        if (code) { // no descriptors left, say: not a reason to spin
            (void)co_await sleep_for(pause, std::chrono::milliseconds(100));
            continue;
        }
        if (!service->from_guest(from.address()) || service->streams == kMaxStreams) continue;
        service->streams++;
        auto kept = std::make_shared<tcp::socket>(std::move(socket));
        asio::co_spawn(service->listener.get_executor(), serve_stream(service, kept), asio::detached);
    }
}

Result<> Resolver::serve(std::shared_ptr<Agent> agent, Fd datagram, Fd stream) {
    stop(agent->name);
    auto service = std::make_shared<Service>(context_, records_, agent);
    ErrorCode code;
    service->datagrams.assign(udp::v4(), datagram.get(), code);
    if (code) return asio_error(code, "take the DNS socket");
    (void)datagram.release();
    service->listener.assign(tcp::v4(), stream.get(), code);
    if (code) return asio_error(code, "take the DNS listener");
    (void)stream.release();
    services_[agent->name] = service;
    asio::co_spawn(context_, serve_datagrams(service), asio::detached);
    asio::co_spawn(context_, serve_streams(service), asio::detached);
    return {};
}

void Resolver::stop(const std::string& agent_name) {
    auto found = services_.find(agent_name);
    if (found == services_.end()) return;
    found->second->close();
    services_.erase(found);
}

} // namespace nullbox::egress
