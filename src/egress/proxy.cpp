#include "egress/proxy.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/text.h"
#include "egress/session.h"

namespace nullbox::egress {

constexpr auto kSweepTime = std::chrono::seconds(1);

Proxy::Proxy(Tasks& tasks, ProxySetup setup)
    : tasks_(tasks), setup_(std::make_shared<ProxySetup>(std::move(setup))),
      sessions_(std::make_shared<std::set<std::shared_ptr<Session>>>()) {
    setup_->servers = std::make_shared<ServerPool>(setup_->times.keep_alive);
}

Proxy::~Proxy() {
    for (const auto& session : *sessions_) session->close();
}

Result<> Proxy::listen(Fd listener) {
    // TCP_NODELAY: connections have it from their listener.
    int on = 1;
    if (::setsockopt(listener.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        return errno_error("prepare the proxy's listener");
    listener_ =
        TRY(Listener::start(tasks_.loop(), std::move(listener),
                            [this](Fd connection, const auto& from) { take(std::move(connection), from); }));
    sweep();
    return {};
}

void Proxy::refuse(const Flow& flow, std::string reason) {
    flow.agent->counters.connections_denied++;
    setup_->records.add({.agent = flow.agent->name,
                         .kind = RecordKind::Connection,
                         .verdict = Verdict::Denied,
                         .name = host_text(flow.destination.host),
                         .port = flow.destination.port,
                         .reason = std::move(reason)});
}

void Proxy::take(Fd connection, const Endpoint& from) {
    auto to = local_endpoint(connection.get());
    Socket socket(tasks_.loop(), std::move(connection));
    auto flow = to ? setup_->identify(*to, from) : std::nullopt;
    if (!flow) return socket.reset();
    if (flow->agent->open_connections >= setup_->most_of_one_agent) {
        refuse(*flow, cat("more than ", setup_->most_of_one_agent, " connections at once"));
        return socket.reset();
    }
    if (sessions_->size() >= setup_->most_connections) {
        refuse(*flow, "too many connections of all agents at once");
        return socket.reset();
    }
    auto session = std::make_shared<Session>(tasks_, setup_, *std::move(flow), std::move(socket));
    sessions_->insert(session);
    // The proxy may end before its last session has.
    tasks_.spawn(session->run(), [sessions = std::weak_ptr(sessions_), session] {
        if (auto kept = sessions.lock()) kept->erase(session);
    });
}

void Proxy::sweep() {
    for (const auto& session : *sessions_) session->close_if_late();
    setup_->servers->sweep();
    sweeper_ = tasks_.loop().after(kSweepTime, [this] { sweep(); });
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
