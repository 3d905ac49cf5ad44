#include "gate/session.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/json/serialize.hpp>

#include "base/log.h"
#include "base/text.h"
#include "gate/answer_status.h"
#include "gate/openapi.text.h"
#include "net/await.h"
#include "varlink/message.h"

namespace nullbox::gate {

namespace json = boost::json;

using net::kAwait;
constexpr size_t kMostLingerBytes = size_t{1} << 20;
constexpr std::chrono::seconds kLinger{2};
constexpr std::chrono::seconds kFirstAnswer{2};

std::string to_text(const json::object& object) { return json::serialize(object); }

Response refusal(unsigned status, std::string_view name, std::string_view message) {
    return {.status = status,
            .body = to_text({{"error", cat("io.nullbox.gate.", name)},
                             {"parameters", json::object{{"message", message}}}})};
}

Response from_service(Result<varlink::Answer> answer) {
    if (!answer.has_value()) {
        auto [status, name] = status_of_silence(answer.error());
        auto why = printable(answer.error().message, 500);
        return {.status = status,
                .body = to_text({{"error", name}, {"parameters", json::object{{"message", why}}}})};
    }
    if (answer->error.empty()) return {.body = to_text(answer->parameters)};
    return {.status = status_of_refusal(answer->error),
            .body = to_text({{"error", answer->error}, {"parameters", answer->parameters}})};
}

Session::Session(asio::ip::tcp::socket socket, std::string peer, asio::ssl::context& tls, House& house)
    : stream_(std::move(socket), tls), house_(house), peer_(std::move(peer)) {
    buffer_.max_size(house.limits.header_bytes + (size_t{16} << 10));
}

void Session::close() {
    if (std::exchange(closed_, true)) return;
    if (following_) following_->interrupt();
    beast::error_code ignored;
    if (guest_) guest_->cancel(ignored);
    lower().close();
}

asio::awaitable<bool> Session::handshake() {
    lower().expires_after(house_.limits.handshake);
    auto [failure] = co_await stream_.async_handshake(asio::ssl::stream_base::server, kAwait);
    why_refused_ = failure ? failure.message() : "its key is no operator's any more";
    if (failure) co_return false;
    auto key = net::peer_public_key(stream_.native_handle());
    const auto* known = key.has_value() ? house_.operators.find(*key) : nullptr;
    if (!known) co_return false;
    who_ = *known;
    co_return true;
}

asio::awaitable<void> Session::serve() {
    auto self = shared_from_this();
    while (!closed_) {
        Head head;
        if (!co_await read_head(head)) break;
        answering_ = true;
        if (!co_await answer(head)) break;
        answering_ = false;
    }
    co_await leave();
}

// The idle time ends with the first byte; from there the whole head must come in its own time.
asio::awaitable<bool> Session::read_head(Head& head) {
    if (buffer_.size() == 0) {
        lower().expires_after(house_.limits.idle);
        auto [failure, count] = co_await stream_.async_read_some(buffer_.prepare(4096), kAwait);
        they_ended_ = failure == asio::error::eof || failure == asio::ssl::error::stream_truncated;
        if (failure) co_return false;
        buffer_.commit(count);
    }
    head.header_limit(static_cast<uint32_t>(house_.limits.header_bytes));
    head.body_limit(boost::none); // each kind of request has its own
    lower().expires_after(house_.limits.header);
    auto [failure, count] = co_await http::async_read_header(stream_, buffer_, head, kAwait);
    if (!failure) co_return true;
    if (failure == http::error::header_limit || failure == http::error::buffer_overflow)
        (void)co_await write(refusal(431, "TooLarge", "the request's head is too long"), 11, false);
    else if (failure.category() == http::make_error_code(http::error::bad_target).category() &&
             failure != http::error::end_of_stream && failure != http::error::partial_message)
        (void)co_await write(refusal(400, "BadRequest", cat("no HTTP/1.1 request: ", failure.message())), 11,
                             false);
    co_return false;
}

asio::awaitable<bool> Session::go_on_if_asked(const Head& head) {
    if (!beast::iequals(head.get()[http::field::expect], "100-continue")) co_return true;
    lower().expires_after(house_.limits.write);
    static constexpr std::string_view kGoOn = "HTTP/1.1 100 Continue\r\n\r\n";
    auto [failure, count] = co_await asio::async_write(stream_, asio::buffer(kGoOn), kAwait);
    co_return !failure;
}

asio::awaitable<bool> Session::write(const Response& response, unsigned version, bool keep_alive) {
    http::response<http::string_body> message(static_cast<http::status>(response.status), version);
    message.set(http::field::content_type, "application/json");
    message.set(http::field::cache_control, "no-store");
    message.keep_alive(keep_alive);
    message.body() = response.body;
    message.prepare_payload();
    lower().expires_after(house_.limits.write);
    auto [failure, count] = co_await http::async_write(stream_, message, kAwait);
    co_return !failure;
}

// A request, from its head to its answer.
asio::awaitable<bool> Session::answer(Head& head) {
    const auto& request = head.get();
    auto target = parse_target(std::string_view(request.method_string()), std::string_view(request.target()));
    bool keep_alive = request.keep_alive(), over = false;
    unsigned version = request.version();
    auto what = cat(target.first, target.second.empty() ? "" : "/", target.second);

    // Struck off, or given another role, since the connection was made.
    const auto* known = house_.operators.find(who_.public_key);
    Response response;
    if (!known || *known != who_) {
        response = refusal(403, "NotAllowed", "this key is no operator's any more");
        response.body_unread = true, keep_alive = false;
    } else if (request.find(http::field::origin) != request.end()) {
        // A page in an operator's browser must not use the operator's certificate.
        response = refusal(403, "NotAllowed", "requests of web pages are refused (Origin)");
        response.body_unread = true;
    } else if (target.kind == Target::Kind::Description) {
        response = {.body = std::string(kOpenApi), .body_unread = !head.is_done()};
        what = "openapi.json";
    } else if (target.kind == Target::Kind::Upload) {
        response = co_await upload(head, target);
        what = cat("upload/", what);
    } else if (target.kind == Target::Kind::Exec) {
        response = co_await exec(head, target, over);
    } else if (target.kind == Target::Kind::WrongVerb) {
        response = refusal(405, "WrongVerb", cat("this target is for ", target.first));
        response.body_unread = true;
    } else if (const Rule* rule =
                   target.kind == Target::Kind::Call ? find_rule(target.first, target.second) : nullptr) {
        response = co_await call(head, target, *rule, over);
    } else {
        response = refusal(404, "NotFound", "there is nothing here; GET /v1/openapi.json says what there is");
        response.body_unread = true;
    }
    if (over || closed_) co_return false; // a stream has had its answer
    log_info(cat(who_.name, ": ", what.empty() ? "unknown" : what, ": ", response.status));
    keep_alive = keep_alive && !response.body_unread && !house_.winding_down;
    co_return co_await write(response, version, keep_alive) && keep_alive;
}

static Response unread(Response response) {
    response.body_unread = true;
    return response;
}

asio::awaitable<Response> Session::read_parameters(Head& head, bool names_operator,
                                                   json::object& parameters) {
    auto too_long = [&] {
        return unread(
            refusal(413, "TooLarge", cat("the body is longer than ", house_.limits.body_bytes, " bytes")));
    };
    if (head.content_length().value_or(0) > house_.limits.body_bytes) co_return too_long();
    if (!co_await go_on_if_asked(head)) co_return unread({.status = 400});

    http::request_parser<http::string_body> whole(std::move(head));
    whole.body_limit(house_.limits.body_bytes);
    lower().expires_after(house_.limits.body);
    auto [failure, count] = co_await http::async_read(stream_, buffer_, whole, kAwait);
    if (failure == http::error::body_limit) co_return too_long();
    if (failure) co_return unread(refusal(400, "BadRequest", "the body does not end as it should"));

    auto parsed = whole.get().body().empty() ? Result<json::object>(json::object())
                                             : varlink::parse_object(whole.get().body());
    if (!parsed.has_value())
        co_return refusal(400, "BadRequest", cat("the body: ", printable(parsed.error().message, 300)));
    if (names_operator) {
        if (parsed->contains("operator"))
            co_return refusal(400, "BadRequest", "\"operator\" is whose key this is; leave it out");
        (*parsed)["operator"] = who_.name;
    }
    parameters = std::move(*parsed);
    co_return Response{};
}

asio::awaitable<Response> Session::call(Head& head, const Target& target, const Rule& rule, bool& over) {
    if (who_.role < rule.least)
        co_return unread(refusal(403, "NotAllowed",
                                 cat(rule.interface, ".", rule.method, " needs the role ",
                                     role_name(rule.least), "; ", who_.name, " is ", role_name(who_.role))));
    if (target.more && !rule.stream)
        co_return unread(refusal(400, "BadRequest", "this method answers once; leave out more=1"));
    json::object parameters;
    auto read = co_await read_parameters(head, rule.names_operator, parameters);
    if (read.status != 200) co_return read;
    if (!target.more)
        co_return from_service(
            co_await house_.backend.call(rule.interface, rule.method, std::move(parameters), rule.limit));
    over = true;
    co_await stream(rule, std::move(parameters), cat(target.first, "/", target.second));
    co_return Response{};
}

static std::string chunk_of(std::string_view line) {
    std::string size = hex(line.size() + 1);
    return cat(std::string_view(size).substr(2), "\r\n", line, "\n\r\n");
}

// Until the service ends it, the client leaves (any byte from it means so), or the operator is struck off.
// The first answer decides the status; an error later is the last line.
asio::awaitable<void> Session::stream(const Rule& rule, json::object parameters, const std::string& what) {
    auto source = house_.backend.follow(rule.interface, rule.method, std::move(parameters));
    following_ = source.get();
    // A stream may have nothing to say yet; a refusal comes at once.
    auto first = co_await source->next(kFirstAnswer);
    if (first && (!first->answer.has_value() || !first->answer->error.empty())) {
        following_ = nullptr;
        auto response = from_service(std::move(first->answer));
        log_info(cat(who_.name, ": ", what, ": ", response.status));
        (void)co_await write(response, 11, false);
        co_return;
    }
    log_info(cat(who_.name, ": ", what, ": 200, a stream"));
    // Watches for the client's leaving; keeps the session, and so the stream's place, until it is done.
    auto self = shared_from_this();
    lower().socket().async_wait(asio::socket_base::wait_read, [self](const beast::error_code& failure) {
        if (!failure && self->following_) self->following_->interrupt();
    });
    std::string out = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nCache-Control: no-store\r\n"
                      "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    out += chunk_of(first ? to_text(first->answer->parameters) : "");
    bool last = first && first->last;
    while (!closed_) {
        if (last) out += "0\r\n\r\n";
        lower().expires_after(house_.limits.write);
        auto [failure, count] = co_await asio::async_write(stream_, asio::buffer(out), kAwait);
        if (failure || last) break;
        auto item = co_await source->next(house_.limits.heartbeat);
        if (source->interrupted()) break;
        out = chunk_of("");
        if (!item) continue;
        last = item->last;
        bool good = item->answer.has_value() && item->answer->error.empty();
        out = chunk_of(good ? to_text(item->answer->parameters) : from_service(std::move(item->answer)).body);
    }
    following_ = nullptr;
}

asio::awaitable<void> Session::leave() {
    if (closed_) co_return;
    // Nothing of theirs is on its way then, and their place is free for the next.
    if (they_ended_) co_return close();
    lower().expires_after(kLinger);
    (void)co_await stream_.async_shutdown(kAwait);
    co_await linger();
}

// Reads for a moment what is still on its way: closing with bytes unread would reset the connection, and the
// client might never see our last answer, or why it was refused.
asio::awaitable<void> Session::linger() {
    beast::error_code ignored;
    lower().socket().shutdown(asio::socket_base::shutdown_send, ignored);
    lower().expires_after(kLinger);
    char bytes[4096];
    for (size_t total = 0; total < kMostLingerBytes && !closed_;) {
        auto [ended, count] = co_await lower().async_read_some(asio::buffer(bytes), kAwait);
        if (ended) break;
        total += count;
    }
    close();
}

} // namespace nullbox::gate
