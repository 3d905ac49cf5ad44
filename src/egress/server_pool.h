// Connections to servers that the connections of one agent use in turn, each for one request and its answer.
// They are shared by those who would make the same one: the same agent, host, port and protection, under the
// same policy, while the name still stands for the server's address. One is put back only between two
// answers, with nothing unread on it, and ends with the policy that it was used under.
//
// To one destination kMostAtOnce requests go at a time, and more when these last (kPatience): a thousand
// short requests share 32 connections, and streams get one each.
//
// Internal to the proxy; one thread.
#pragma once

#include <compare>
#include <list>
#include <map>
#include <memory>
#include <span>

#include "egress/agents.h"
#include "egress/stream.h"

namespace nullbox::egress {

// The way to a server, for one connection of an agent or for one after the other.
struct ServerConnection {
    ServerConnection(Socket socket, Deadline& deadline, Traffic& traffic)
        : tcp(std::move(socket), deadline, traffic) {}
    ByteStream& stream() { return tls ? static_cast<ByteStream&>(*tls) : tcp; }

    TcpStream tcp;
    std::unique_ptr<TlsStream> tls;         // over tcp; none: in clear
    std::unique_ptr<BufferedReader> reader; // of stream()
    IpAddress address;
    // When it was put back, which it was if there is a user.
    uint64_t last_user = 0;
    Clock::time_point idle_since;
    std::shared_ptr<const Policy> policy;
};

class ServerPool {
public:
    static constexpr size_t kMostAtOnce = 32;
    static constexpr Patience kPatience{.still = std::chrono::milliseconds(250),
                                        .most = std::chrono::seconds(2)};
    static constexpr size_t kMostIdleOfOneAgent = 64, kMostIdle = 1024;

    struct Key {
        std::shared_ptr<Agent> agent;
        HostName host;
        uint16_t port;
        bool tls;
        auto operator<=>(const Key&) const = default;
    };
    explicit ServerPool(Clock::duration keep) : keep_(keep) {}
    // Of requests to this destination.
    const std::shared_ptr<Turns>& turns(const Key& key) { return servers_[key].turns; }
    struct Wish {
        uint64_t user;                          // not 0; takes what it put back, wherever that leads
        bool repeatable;                        // nothing is lost if the server is just closing it
        std::span<const IpAddress> addresses{}; // what others put back must lead to one of these
    };
    // Nothing: there is none that is of use.
    std::unique_ptr<ServerConnection> take(const Key& key, const Wish& wish);
    // After a whole answer. It ends here if it can be of no further use.
    void put(const Key& key, std::unique_ptr<ServerConnection> connection, uint64_t user);
    // Closes what nobody used for long, what its server has closed, what its policy no longer covers.
    void sweep();
    void drop(const std::string& agent);

private:
    using Idle = std::list<std::unique_ptr<ServerConnection>>; // the one put back last at the end
    struct Servers {                                           // of one destination
        Idle idle;
        std::shared_ptr<Turns> turns = std::make_shared<Turns>(kMostAtOnce, kPatience);
    };
    bool of_use(const Agent& agent, ServerConnection& connection) const;
    std::unique_ptr<ServerConnection> remove(Agent& agent, Idle& idle, Idle::iterator which);

    Clock::duration keep_;
    std::map<Key, Servers> servers_;
    size_t idle_ = 0;
    Deadline idle_deadline_; // what idle connections belong to: nothing flows on them
    Traffic idle_traffic_;
};

} // namespace nullbox::egress
