#include "egress/server_pool.h"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>

namespace nullbox::egress {

// A request that cannot be repeated does not go out on a connection that others left idle for longer: servers
// close theirs after some seconds (5 in Node, 5 in Apache httpd), and both may happen at once.
constexpr auto kFresh = std::chrono::seconds(4);

// Neither an end nor bytes that nobody asked for: with either it is over.
static bool silent(TcpStream& stream) {
    char byte = 0;
    return ::recv(stream.socket().fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

bool ServerPool::of_use(const Agent& agent, ServerConnection& connection) const {
    return agent.attached && connection.policy == agent.policy &&
           Clock::now() - connection.idle_since < keep_ && silent(connection.tcp);
}

std::unique_ptr<ServerConnection> ServerPool::remove(Agent& agent, Idle& idle, Idle::iterator which) {
    auto removed = std::move(*which);
    idle.erase(which);
    agent.idle_servers--;
    idle_--;
    return removed;
}

std::unique_ptr<ServerConnection> ServerPool::take(const Key& key, const Wish& wish) {
    auto known = servers_.find(key);
    if (known == servers_.end()) return nullptr;
    auto& idle = known->second.idle;
    for (auto at = idle.end(); at != idle.begin();) {
        auto which = std::prev(at);
        const auto& one = **which;
        bool fresh = wish.repeatable || Clock::now() - one.idle_since < kFresh;
        bool same_place = std::ranges::contains(wish.addresses, one.address);
        if (one.last_user != wish.user && !(fresh && same_place)) {
            at = which;
            continue;
        }
        auto removed = remove(*key.agent, idle, which);
        if (of_use(*key.agent, *removed)) return removed;
    }
    return nullptr;
}

void ServerPool::put(const Key& key, std::unique_ptr<ServerConnection> connection, uint64_t user) {
    auto& agent = *key.agent;
    bool quiet = connection->reader->bytes().empty() && (!connection->tls || connection->tls->quiet());
    if (!quiet || agent.idle_servers == kMostIdleOfOneAgent || idle_ == kMostIdle) return;
    connection->last_user = user;
    connection->idle_since = Clock::now();
    connection->policy = agent.policy;
    connection->tcp.belong_to(idle_deadline_, idle_traffic_);
    servers_[key].idle.push_back(std::move(connection));
    agent.idle_servers++;
    idle_++;
}

void ServerPool::sweep() {
    for (auto at = servers_.begin(); at != servers_.end();) {
        auto& [key, servers] = *at;
        for (auto which = servers.idle.begin(); which != servers.idle.end();) {
            auto next = std::next(which);
            if (!of_use(*key.agent, **which)) remove(*key.agent, servers.idle, which);
            which = next;
        }
        bool unused = servers.idle.empty() && servers.turns.use_count() == 1;
        at = unused ? servers_.erase(at) : std::next(at);
    }
}

void ServerPool::drop(const std::string& agent) {
    for (auto& [key, servers] : servers_)
        while (key.agent->name == agent && !servers.idle.empty())
            remove(*key.agent, servers.idle, servers.idle.begin());
}

} // namespace nullbox::egress
