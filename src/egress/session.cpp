#include "egress/session.h"

#include <algorithm>

#include "base/text.h"
#include "egress/address_class.h"
#include "egress/http_relay.h"
#include "egress/upstream.h"

namespace nullbox::egress {

constexpr size_t kMaxDialled = 4; // addresses of one name
constexpr auto kFirstBytesTime = std::chrono::seconds(2);
constexpr auto kLingerTime = std::chrono::seconds(2);
constexpr size_t kMaxLingerBytes = size_t{1} << 20;
constexpr auto kEnded = "the connection was ended meanwhile";

Session::Session(Tasks& tasks, std::shared_ptr<ProxySetup> setup, Flow flow, Socket client)
    : tasks_(tasks), setup_(std::move(setup)), flow_(std::move(flow)),
      decision_(flow_.agent->policy->decide(flow_.destination)),
      client_(std::move(client), deadline_, client_traffic_) {
    flow_.agent->open_connections++;
    server_traffic_.allowance = this;
    deadline_.limit(setup_->times.hello);
}

Session::~Session() {
    auto& agent = *flow_.agent;
    agent.open_connections--;
    agent.counters.bytes_up += server_traffic_.sent;
    agent.counters.bytes_down += server_traffic_.received;
}

void Session::close() {
    client_.socket().close();
    if (server_) server_->tcp.socket().close();
}

// Of the same mode, with the same secrets and the same rules for requests, or it must begin anew.
bool Session::still_allowed(const Policy& before) const {
    const auto& now = *flow_.agent->policy;
    auto decision = now.decide(destination());
    const auto* host = std::get_if<HostName>(&destination().host);
    auto same = [](const Binding* one, const Binding* other) { return *one == *other; };
    return decision.allowed && decision.mode == decision_.mode &&
           (decision.private_allowed || !decision_.private_allowed) &&
           (!host || (std::ranges::equal(now.bindings(*host), before.bindings(*host), same) &&
                      now.request_rules().same(before.request_rules(), *host, destination().port)));
}

void Session::close_if_late() {
    if (Clock::now() > deadline_.at || !flow_.agent->attached) close();
}

Record Session::record_of(RecordKind kind, Verdict verdict) const {
    return {.agent = agent().name,
            .kind = kind,
            .verdict = verdict,
            .name = host_text(destination().host),
            .port = destination().port,
            .rule = decision_.rule};
}

void Session::record(const Refusal& refusal) {
    if (refusal.verdict == Verdict::Denied) flow_.agent->counters.connections_denied++;
    if (refusal.kind == RecordKind::Budget) return; // said once an hour, by use()
    auto record = record_of(refusal.kind, refusal.verdict);
    if (address_) record.address = address_->text();
    record.reason = printable(refusal.reason, 512);
    record.add = refusal.add;
    record.method = refusal.method;
    record.path = refusal.path;
    setup_->records.add(std::move(record));
}

void Session::record_request(const http::RequestHead& request, const RequestDecision& decision) {
    auto record = record_of(RecordKind::Request, Verdict::Allowed);
    record.rule = decision.rule;
    record.method = request.method;
    record.path = decision.path;
    setup_->records.add(std::move(record));
}

void Session::record_allowed(const IpAddress& address) {
    address_ = address;
    if (std::exchange(recorded_, true)) return;
    flow_.agent->counters.connections++;
    auto record = record_of(RecordKind::Connection, Verdict::Allowed);
    record.address = address.text();
    setup_->records.add(std::move(record));
}

Task<void> Session::run() {
    auto self = shared_from_this();
    co_await serve();
    record_end();
    close();
}

void Session::record_end() {
    if (!recorded_) return;
    auto record = record_of(RecordKind::Connection, Verdict::Ended);
    record.address = address_->text();
    record.bytes_up = server_traffic_.sent;
    record.bytes_down = server_traffic_.received;
    setup_->records.add(std::move(record));
}

Task<void> Session::serve() {
    if (!decision_.allowed) return serve_refusal();
    switch (decision_.mode) {
    case Mode::Tls:
        return serve_tls({});
    case Mode::Terminate:
        return serve_terminated();
    case Mode::Http:
        return serve_http({});
    case Mode::Relay:
        return serve_relay();
    }
}

Task<void> Session::serve_refusal() {
    auto bytes = co_await first_bytes(kFirstBytesTime);
    co_await refuse({.reason = decision_.reason, .add = decision_.add}, bytes);
}

// What the client says first, if it says it soon.
Task<std::string> Session::first_bytes(Clock::duration time) {
    deadline_.limit(time);
    auto late = loop().after(time, [this] { client_.socket().cancel(); });
    auto bytes = co_await client_.receive();
    co_return std::string(bytes ? *bytes : "");
}

Task<void> Session::linger() {
    deadline_.limit(kLingerTime);
    co_await client_.end();
    for (size_t read = 0; read < kMaxLingerBytes;) {
        auto bytes = co_await client_.receive();
        if (!bytes || bytes->empty()) co_return;
        read += bytes->size();
    }
}

// The line that gives twice as much.
static std::string budget_line(Resource resource, const Budget& budget) {
    switch (resource) {
    case Resource::Bytes:
        return cat("budget = { mb_per_hour = ", (budget.bytes >> 20) * 2, " }");
    case Resource::Connections:
        return cat("budget = { connections_per_hour = ", budget.connections * 2, " }");
    case Resource::Requests:
        return cat("budget = { requests_per_hour = ", budget.requests * 2, " }");
    }
    return {};
}

Refusal Session::instead_of(Refusal refusal) const {
    if (!used_up_) return refusal;
    const auto& budget = agent().policy->budget();
    auto limit = budget.limit(*used_up_);
    auto amount =
        *used_up_ == Resource::Bytes ? cat(limit >> 20, " MiB") : cat(limit, " ", name_of(*used_up_));
    return {.reason = cat("the agent's budget of ", amount, " an hour is used up"),
            .add = budget_line(*used_up_, budget),
            .status = 429,
            .kind = RecordKind::Budget};
}

bool Session::use(Resource resource, uint64_t amount) {
    auto& agent = *flow_.agent;
    auto now = Clock::now();
    if (agent.ledger->take(resource, amount, agent.policy->budget(), now)) return true;
    used_up_ = resource;
    if (!agent.ledger->tells(resource, now)) return false;
    auto told = instead_of({});
    auto record = record_of(RecordKind::Budget, Verdict::Denied);
    record.reason = cat(told.reason, "; more is refused until what was used is an hour old");
    record.add = told.add;
    setup_->records.add(std::move(record));
    return false;
}

Task<void> Session::refuse(Refusal refusal, std::string_view first_bytes) {
    refusal = instead_of(std::move(refusal));
    record(refusal);
    std::string answer;
    if (first_bytes.starts_with('\x16'))
        answer = alert_record(refusal.alert);
    else if (!first_bytes.empty() && first_bytes[0] >= 'A' && first_bytes[0] <= 'Z')
        answer = refusal_answer(*this, refusal);
    if (answer.empty()) co_return client_.socket().reset();
    deadline_.limit(kLingerTime);
    if (co_await client_.write(answer)) co_await linger();
}

Task<Result<std::vector<IpAddress>>> Session::addresses() {
    if (const auto* address = std::get_if<IpAddress>(&destination().host)) co_return std::vector{*address};
    co_return co_await setup_->upstream.lookup(std::get<HostName>(destination().host));
}

Task<Result<>> Session::connect_to(const IpAddress& address) {
    server_ = std::make_unique<ServerConnection>(Socket(loop()), deadline_, server_traffic_);
    auto& socket = server().socket();
    auto late = loop().after(setup_->times.connect, [&] { socket.close(); });
    auto connected = co_await socket.connect(setup_->route(address, destination().port));
    if (connected)
        socket.set_no_delay();
    else
        connected = errno_error(socket.is_open() ? connected.error().code : ETIMEDOUT,
                                cat("connect to ", address.text(), " port ", destination().port));
    co_return connected;
}

Task<bool> Session::try_addresses(const std::vector<IpAddress>& addresses, size_t most, Dialling& dialling) {
    size_t tried = 0;
    for (const auto& address : addresses) {
        if (!client_.socket().is_open()) break; // we are being closed
        auto check = may_dial(address, decision_.private_allowed, setup_->own_addresses());
        if (!check.allowed) {
            auto host = host_text(destination().host);
            address_ = address;
            dialling.refused =
                Refusal{.reason = cat(host, " is at ", address.text(), ", ", describe(check.kind)),
                        .add = can_be_opened(check.kind) ? cat("allow_private = [\"", host, "\"]") : ""};
            continue;
        }
        if (tried++ == most) break;
        dialling.tried++;
        auto connected = co_await connect_to(address);
        // Its rules may have changed while we were connecting.
        if (!client_.socket().is_open()) break;
        if (connected) {
            record_allowed(server_->address = address);
            co_return true;
        }
        dialling.said = connected.error().message;
    }
    co_return false;
}

// A connection over which no byte could go is not made.
std::optional<Refusal> Session::no_connection_left() {
    if (use(Resource::Bytes) && use(Resource::Connections)) return std::nullopt;
    return instead_of({});
}

Task<std::expected<void, Refusal>> Session::reach_server(const ServerPool::Key& key, bool repeatable) {
    auto shared = setup_->servers->take(key, {.user = number_, .repeatable = repeatable});
    if (!shared) {
        // As for a new one: what the name stands for now.
        deadline_.limit(setup_->times.dial);
        auto found = co_await addresses();
        if (!client_.socket().is_open())
            co_return std::unexpected(Refusal{.verdict = Verdict::Failed, .reason = kEnded});
        if (found)
            shared =
                setup_->servers->take(key, {.user = number_, .repeatable = repeatable, .addresses = *found});
    }
    if (!shared) co_return co_await dial();
    if (auto none = recorded_ ? std::nullopt : no_connection_left()) co_return std::unexpected(*none);
    server_ = std::move(shared);
    server().belong_to(deadline_, server_traffic_);
    record_allowed(server_->address);
    deadline_.keep(setup_->times.idle);
    co_return std::expected<void, Refusal>();
}

void Session::leave_server(const ServerPool::Key& key) {
    setup_->servers->put(key, std::move(server_), number_);
}

ServerPool::Key Session::server_key(bool tls) const {
    return {flow_.agent, std::get<HostName>(destination().host), destination().port, tls};
}

Task<std::expected<void, Refusal>> Session::dial() {
    deadline_.limit(setup_->times.dial);
    auto failed = [](std::string reason) {
        return std::unexpected(Refusal{.verdict = Verdict::Failed,
                                       .reason = std::move(reason),
                                       .status = 502,
                                       .alert = Alert::InternalError});
    };
    if (auto none = no_connection_left()) co_return std::unexpected(*none);
    auto found = co_await addresses();
    if (!found) co_return failed(found.error().message);
    auto reach = setup_->upstream.reach();
    const auto* name = std::get_if<HostName>(&destination().host);
    // One family that does not work leaves time for the other.
    size_t most = reach.v4 && reach.v6 && name ? kMaxDialled / 2 : kMaxDialled;
    Dialling dialling;
    bool connected = co_await try_addresses(*found, most, dialling);
    if (!connected && dialling.tried > 0 && name && client_.socket().is_open()) {
        auto others = co_await setup_->upstream.lookup_other(*name, found->front().v6);
        connected = co_await try_addresses(others, most, dialling);
    }
    if (connected) {
        deadline_.keep(setup_->times.idle);
        co_return std::expected<void, Refusal>();
    }
    server_.reset();
    if (!client_.socket().is_open()) co_return failed(kEnded);
    if (dialling.refused && dialling.tried == 0) co_return std::unexpected(*dialling.refused);
    co_return failed(dialling.said);
}

// One way. False: it broke, the other way is of no use either.
Task<bool> Session::pump(ByteStream& from, ByteStream& to, Scrubber* through) {
    for (;;) {
        auto received = co_await from.receive();
        if (!received) co_return false;
        bool ended = received->empty();
        std::string scrubbed;
        if (through) scrubbed = ended ? through->finish() : through->feed(*received);
        auto bytes = through ? std::string_view(scrubbed) : *received;
        if (!bytes.empty())
            if (auto sent = co_await to.write(bytes); !sent) co_return false;
        if (!ended) continue;
        co_await to.end();
        co_return true;
    }
}

Task<void> Session::relay(ByteStream& client, ByteStream& server, Scrubber* server_sends) {
    return both(pump(client, server, nullptr), pump(server, client, server_sends));
}

Task<void> Session::both(Task<bool> up, Task<bool> down) {
    deadline_.keep(setup_->times.idle);
    Condition other(loop());
    bool down_ended = false;
    // What it refers to lives until it has ended: this coroutine waits for it.
    auto and_tell = [&]() -> Task<> {
        if (!co_await down) close();
        down_ended = true;
        other.notify();
    };
    tasks_.spawn(and_tell());
    if (!co_await up) close();
    while (!down_ended) co_await other.wait();
}

std::string refusal_answer(const Session& session, const Refusal& refusal, bool keep_body) {
    std::string text =
        cat("NullBox: this request of agent ", session.agent().name, " to ", session.destination().text(),
            refusal.verdict == Verdict::Denied ? " is not allowed.\n" : " could not be carried out.\n",
            "Reason: ", refusal.reason, "\n");
    if (!refusal.add.empty())
        text += cat("An operator allows it with this line in the manifest, under [capabilities.network]: ",
                    refusal.add, "\n");
    auto status = refusal.status;
    std::string_view phrase = status == 403   ? "Forbidden"
                              : status == 400 ? "Bad Request"
                              : status == 429 ? "Too Many Requests"
                              : status == 502 ? "Bad Gateway"
                              : status == 503 ? "Service Unavailable"
                                              : "Refused";
    return cat("HTTP/1.1 ", status, " ", phrase,
               "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ", text.size(),
               "\r\nConnection: close\r\n",
               status == 503   ? "Retry-After: 10\r\n"
               : status == 429 ? "Retry-After: 60\r\n"
                               : "",
               "Cache-Control: no-store\r\nServer: NullBox\r\n\r\n", keep_body ? text : std::string());
}

} // namespace nullbox::egress
