// The listening side of gate: TLS 1.3 connections of operators, each a Session; everything is counted and
// bounded. A peer that has not shown an operator's key has sent nothing that was parsed but TLS.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/loop.h"
#include "gate/operators.h"
#include "net/identity.h"

namespace boost::asio {
class io_context;
}

namespace nullbox::gate {

struct Limits {
    size_t connections = 32; // of operators
    size_t handshakes = 32;  // not finished; beyond, the oldest has to go
    size_t of_one_peer = 16; // both; an IPv6 peer is its /64
    size_t uploads = 4;      // at a time
    size_t execs = 20;       // commands and copies in agents; other connections stay possible
    size_t header_bytes = size_t{8} << 10;
    size_t body_bytes = size_t{1} << 20;
    uint64_t upload_bytes = uint64_t{16} << 30;
    std::chrono::milliseconds handshake{10'000};
    std::chrono::milliseconds header{10'000}; // from its first byte
    std::chrono::milliseconds body{30'000};   // a whole call's; of an upload, each piece's
    std::chrono::milliseconds write{30'000};
    std::chrono::milliseconds idle{60'000};
    std::chrono::milliseconds heartbeat{15'000}; // an empty line of a stream that has nothing to say
};

struct DoorOptions {
    uint16_t port = 8443; // 0: any that is free
    std::string run_folder = "/run";
    Limits limits;
};

struct DoorCounts {
    size_t connections = 0, handshakes = 0, uploads = 0, execs = 0;
    uint64_t refused = 0;
};

class Door {
public:
    // All must outlive the door; the door must outlive the context's last run.
    static Result<std::unique_ptr<Door>> open(boost::asio::io_context& context, Loop& loop,
                                              const net::Identity& identity, Operators& operators,
                                              DoorOptions options);
    ~Door();
    uint16_t port() const;
    const DoorCounts& counts() const;
    // Connections of operators that are none any more, or have another role now, end here and now.
    void operators_changed();
    // No more connections. Who waits or follows is shown out; whose answer is on its way still gets it: among
    // them who asked for the reboot that ends us. done is called once, when all have left or after limit.
    void wind_down(std::chrono::milliseconds limit, std::function<void()> done);

private:
    struct Impl;
    explicit Door(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

} // namespace nullbox::gate
