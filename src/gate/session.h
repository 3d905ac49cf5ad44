// One connection: the handshake, then HTTP/1.1 requests one after the other (Beast). Brings Asio. Internal to
// src/gate: session.cpp has the requests, upload.cpp the uploads, exec.cpp the streams into agents, door.cpp
// the connections.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/json/object.hpp>

#include "gate/backend.h"
#include "gate/door.h"
#include "gate/request_target.h"

namespace nullbox::gate {

namespace beast = boost::beast;
namespace http = beast::http;

using TlsStream = asio::ssl::stream<beast::tcp_stream>;

// What all sessions share; the door has it.
struct House {
    Backend backend;
    Operators& operators;
    Limits limits;
    DoorCounts counts = {};
    bool winding_down = false; // each answer is its connection's last
};

struct Response {
    unsigned status = 200;
    std::string body;         // JSON
    bool body_unread = false; // the request's: the connection ends after this answer
};

class Session : public std::enable_shared_from_this<Session> {
public:
    Session(asio::ip::tcp::socket socket, std::string peer, asio::ssl::context& tls, House& house);
    // Both keep the session alive while they run.
    asio::awaitable<bool> handshake(); // false: refused
    asio::awaitable<void> serve();
    asio::awaitable<void> linger();
    void close(); // from anywhere; a session that waits for something ends then

    bool closed() const { return closed_; }
    // Between a request's head and its answer's end; streams of any kind do not count.
    bool answering() const { return answering_ && !following_ && !guest_; }
    const Operator& who() const { return who_; }
    const std::string& peer() const { return peer_; }
    const std::string& why_refused() const { return why_refused_; }

private:
    using Head = http::request_parser<http::empty_body>;

    beast::tcp_stream& lower() { return beast::get_lowest_layer(stream_); }
    asio::awaitable<bool> read_head(Head& head);
    asio::awaitable<bool> answer(Head& head); // false: the connection ends
    asio::awaitable<bool> write(const Response& response, unsigned version, bool keep_alive);
    asio::awaitable<bool> go_on_if_asked(const Head& head); // 100 Continue
    asio::awaitable<void> leave();

    asio::awaitable<Response> call(Head& head, const Target& target, const struct Rule& rule, bool& over);
    // The body, checked, with "operator" filled in if it is to be; a status other than 200 refuses it.
    asio::awaitable<Response> read_parameters(Head& head, bool names_operator,
                                              boost::json::object& parameters);
    asio::awaitable<void> stream(const struct Rule& rule, boost::json::object parameters,
                                 const std::string& what);
    asio::awaitable<Response> upload(Head& head, const Target& target);
    asio::awaitable<Result<>> receive_upload(Head& head, Fd destination);
    asio::awaitable<Response> exec(Head& head, const Target& target, bool& over);
    asio::awaitable<void> relay(Fd stream);
    asio::awaitable<void> relay_to_guest(Fd stream);
    bool client_left();

    TlsStream stream_;
    House& house_;
    beast::flat_buffer buffer_;
    Operator who_;
    std::string peer_, why_refused_;
    Stream* following_ = nullptr;
    asio::posix::stream_descriptor* guest_ = nullptr; // while bytes are carried to and from one
    bool closed_ = false, answering_ = false;
    bool they_ended_ = false; // the client sends no more
};

std::string to_text(const boost::json::object& object);
// A refusal of gate's own: name without the interface.
Response refusal(unsigned status, std::string_view name, std::string_view message);
// What a service answered, or why it did not.
Response from_service(Result<varlink::Answer> answer);

} // namespace nullbox::gate
