// The service side of Varlink (varlink.org, wire format: one JSON object a message, ended by a NUL byte) on a
// Unix stream socket. One Server a service; it lives on the service's Loop and calls handlers there.
//
// Hostile peers are expected: a message is at most kMaxMessageBytes, nesting is bounded, a connection that
// sends nonsense is told so and closed, one that does not read its answers is closed, and connections are at
// most kMaxConnections. The peer's uid (SO_PEERCRED) is checked against the method's table entry before the
// handler sees anything. Requests of one connection are answered in order, one at a time; "upgrade" is
// refused.
//
// Beyond the specification: descriptors may go with a message (SCM_RIGHTS, at its first byte). Those that
// have arrived when a request is taken up are that request's: a client that sends any waits for the answer
// before its next request.
#pragma once

#include <boost/json/fwd.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/loop.h"
#include "base/passing.h"

namespace nullbox::varlink {

constexpr size_t kMaxMessageBytes = size_t{1} << 20;
constexpr size_t kMaxQueuedBytes = size_t{4} << 20; // unread answers of one connection, before it is closed
constexpr size_t kMaxConnections = 64;
constexpr size_t kMaxConnectionsOfOneUid = 48; // so that no one peer can lock the others out

struct Peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;
};

class Connection; // internal to server.cpp

// One request being answered. Move-only; may be kept and answered later. A Call that is dropped unanswered
// answers with io.nullbox.Internal, so that no client waits for ever. Answering after the peer left does
// nothing.
class Call {
public:
    Call(Call&&) noexcept;
    Call& operator=(Call&&) noexcept;
    ~Call();
    const boost::json::object& parameters() const;
    const Peer& peer() const;
    bool wants_more() const; // the client set "more": reply_continues may be used
    bool connected() const;  // false once the peer is gone: a stream should end
    // The descriptors that came with the request, in the sender's order; empty the second time. Not taken,
    // they are closed with the call.
    std::vector<Fd> take_fds();

    void reply(boost::json::object parameters);                      // the answer, or the last of a stream
    void reply(boost::json::object parameters, std::vector<Fd> fds); // at most kMaxPassedFds
    // One of a stream. Without wants_more() it is the end: the client gets org.varlink.service.ExpectedMore.
    void reply_continues(boost::json::object parameters);
    // name: "io.nullbox.cage.NoSuchAgent"; message becomes parameters.message, the text a person sees.
    void error(std::string_view name, std::string_view message);
    void error(std::string_view name, boost::json::object parameters);
    // org.varlink.service.InvalidParameter with parameter and message.
    void invalid_parameter(std::string_view parameter, std::string_view message);

private:
    friend class Connection;
    struct State;
    explicit Call(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

struct Method {
    std::string name;                // without the interface: "Status"
    std::vector<uid_t> allowed_uids; // who may call it; empty: anybody who can connect. uid 0 is not special.
    std::function<void(Call)> handle; // validates the parameters itself
};

struct InterfaceTable {
    std::string name;        // "io.nullbox.nulld"
    std::string description; // the text of the .varlink file
    std::vector<Method> methods;
};

// Vendor/product/version/url for org.varlink.service.GetInfo come from here.
struct ServiceInfo {
    std::string product; // "NullBox cage"
    std::string version;
};

// How long a connection may hold its place without taking a byte of what waits for it.
struct Patience {
    std::chrono::milliseconds stalled{30'000};
    std::chrono::milliseconds closing{5'000}; // after it was told that it sent nonsense
};

class Server {
public:
    // Replaces a stale socket at path; mode 0666 because the uid table decides, not the file. The loop must
    // outlive the server; a handler must not destroy the server it is called from.
    static Result<std::unique_ptr<Server>> listen(Loop& loop, std::string path, ServiceInfo info,
                                                  InterfaceTable interface, Patience patience = {});
    ~Server();

private:
    friend class Connection;
    struct Impl;
    explicit Server(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace nullbox::varlink
