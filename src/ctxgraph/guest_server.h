// Serves HTTP/1.1 (RFC 9112, by Boost.Beast) to guests, each connection a stream descriptor that cage passed,
// of one agent. What comes over it is hostile: heads, bodies, requests at a time, connections and watches are
// bounded for each agent, and everything has a time-out. Nobody says in the stream who he is.
#pragma once

#include <chrono>
#include <memory>

#include "base/fd.h"
#include "ctxgraph/guest_api.h"

namespace boost::asio {
class io_context;
}

namespace nullbox::ctxgraph {

struct GuestLimits {
    size_t connections = 256;
    size_t connections_of_agent = 32;
    size_t requests_of_agent = 4; // being read, answered or written at a time; others wait
    size_t watches_of_agent = 8;
    size_t head_bytes = size_t{8} << 10;
    size_t body_bytes = size_t{1} << 20;
    std::chrono::milliseconds request{30'000}; // from its first byte to its last
    std::chrono::milliseconds write{30'000};   // without the peer's taking all of an answer
    std::chrono::milliseconds idle{120'000};
    std::chrono::milliseconds heartbeat{15'000};
};

class GuestServer {
public:
    // Both must outlive the server, and the context's last run must be over before it ends.
    GuestServer(boost::asio::io_context& context, Memory& memory, GuestLimits limits = {});
    ~GuestServer();

    // A connected Unix stream socket. The error says why it is not served: it is none, or there are too many.
    Result<> serve(Fd stream, Access access);

    size_t connections() const;
    size_t watches() const;

    struct State; // internal to guest_server.cpp

private:
    std::shared_ptr<State> state_;
};

} // namespace nullbox::ctxgraph
