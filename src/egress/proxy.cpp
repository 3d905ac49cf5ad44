#include "egress/proxy.h"

#include "base/log.h"
#include "base/text.h"
#include "egress/session.h"

namespace nullbox::egress {

constexpr auto kSweepTime = std::chrono::seconds(1);

Proxy::Proxy(asio::io_context& context, ProxySetup setup)
    : context_(context), setup_(std::make_shared<ProxySetup>(std::move(setup))), acceptor_(context),
      sweeper_(context), sessions_(std::make_shared<std::set<std::shared_ptr<Session>>>()) {
    setup_->servers = std::make_shared<ServerPool>(setup_->times.keep_alive);
}

Proxy::~Proxy() {
    ErrorCode ignored;
    acceptor_.close(ignored);
    sweeper_.cancel();
    for (const auto& session : *sessions_) session->close();
}

Result<> Proxy::listen(Fd listener) {
    ErrorCode code;
    acceptor_.assign(tcp::v4(), listener.get(), code);
    if (code) return asio_error(code, "take the proxy's listener");
    (void)listener.release();
    asio::co_spawn(context_, accept(), asio::detached);
    asio::co_spawn(context_, sweep(), asio::detached);
    return {};
}

Task<void> Proxy::accept() {
    std::weak_ptr alive = sessions_; // a connection may have come just before the proxy ended
    asio::steady_timer pause(context_);
    for (;;) {
        auto [code, socket] = co_await acceptor_.async_accept(kAwait);
        if (code == asio::error::operation_aborted || code == asio::error::bad_descriptor) co_return;
        if (alive.expired()) co_return;
        if (code) { // no descriptors left, say: not a reason to spin
            log_warning(cat("accept a connection: ", code.message()));
            (void)co_await sleep_for(pause, std::chrono::milliseconds(100));
            if (alive.expired()) co_return;
            continue;
        }
        take(std::move(socket));
    }
}

void Proxy::refuse(const Flow& flow, tcp::socket socket, std::string reason) {
    flow.agent->counters.connections_denied++;
    setup_->records.add({.agent = flow.agent->name,
                         .kind = RecordKind::Connection,
                         .verdict = Verdict::Denied,
                         .name = host_text(flow.destination.host),
                         .port = flow.destination.port,
                         .reason = std::move(reason)});
    ErrorCode ignored;
    socket.set_option(asio::socket_base::linger(true, 0), ignored);
}

void Proxy::take(tcp::socket socket) {
    ErrorCode no_local, no_remote, ignored;
    auto local = socket.local_endpoint(no_local);
    auto remote = socket.remote_endpoint(no_remote);
    auto flow = no_local || no_remote ? std::nullopt : setup_->identify(local, remote);
    if (!flow) {
        socket.set_option(asio::socket_base::linger(true, 0), ignored);
        return;
    }
    if (flow->agent->open_connections >= setup_->most_of_one_agent)
        return refuse(*flow, std::move(socket),
                      cat("more than ", setup_->most_of_one_agent, " connections at once"));
    if (sessions_->size() >= setup_->most_connections)
        return refuse(*flow, std::move(socket), "too many connections of all agents at once");
    socket.set_option(tcp::no_delay(true), ignored);
    auto session = std::make_shared<Session>(setup_, *std::move(flow), std::move(socket));
    sessions_->insert(session);
    // The proxy may end before its last session has.
    asio::co_spawn(context_, session->run(),
                   [sessions = std::weak_ptr(sessions_), session](std::exception_ptr) {
                       if (auto kept = sessions.lock()) kept->erase(session);
                   });
}

Task<void> Proxy::sweep() {
    std::weak_ptr alive = sessions_; // its time may have come just before the proxy ended
    while (co_await sleep_for(sweeper_, kSweepTime) && !alive.expired()) {
        for (const auto& session : *sessions_) session->close_if_late();
        setup_->servers->sweep();
    }
}

size_t Proxy::end_not_allowed(const std::string& name, const Policy& before) {
    setup_->servers->drop(name);
    size_t ended = 0;
    for (const auto& session : *sessions_)
        if (session->agent().name == name && !session->still_allowed(before)) {
            session->close();
            ended++;
        }
    return ended;
}

void Proxy::end_agent(const std::string& name) {
    setup_->servers->drop(name);
    for (const auto& session : *sessions_)
        if (session->agent().name == name) session->close();
}

} // namespace nullbox::egress
