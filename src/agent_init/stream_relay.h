// Connections to a port of the guest's loopback, each carried on over a stream of its own to the host:
// 127.0.0.1:9100 is the host's memory service to every program of the agent, with no name to look up and no
// route to it. Ends of either direction are passed on; a side that does not read makes the other wait.
//
// Bounded: kMostConnections at a time (more wait in the kernel's queue), kDirectionBytes held a direction.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/loop.h"

namespace nullbox::agent_init {

constexpr size_t kMostRelayConnections = 32;
constexpr size_t kRelayDirectionBytes = size_t{32} << 10;

class StreamRelay {
public:
    // A nonblocking stream that is connected or about to be.
    using Connect = std::function<Result<Fd>()>;
    // port 0: the kernel chooses (tests).
    static Result<std::unique_ptr<StreamRelay>> listen(Loop& loop, uint16_t port, Connect connect);
    ~StreamRelay();

    uint16_t port() const { return port_; }
    size_t connections() const { return connections_.size(); }

private:
    class Connection;
    StreamRelay(Loop& loop, Connect connect);
    void accept();
    void remove(Connection* connection);

    Loop& loop_;
    Connect connect_;
    uint16_t port_ = 0;
    Fd listener_;
    Watch watch_;
    std::vector<std::unique_ptr<Connection>> connections_;
};

} // namespace nullbox::agent_init
