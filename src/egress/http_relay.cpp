#include "egress/http_relay.h"

#include <algorithm>
#include <openssl/crypto.h>

#include "base/text.h"
#include "egress/authority.h"

namespace nullbox::egress {

// Warden is asked again after this, so that a lock or a revoked grant takes effect on a kept connection.
constexpr auto kInjectionTime = std::chrono::seconds(2);
constexpr unsigned kMaxInterimAnswers = 8;
constexpr size_t kMostHeldBytes = size_t{16} << 10; // one TLS record

static Refusal failure(std::string reason, unsigned status = 502) {
    return {.verdict = Verdict::Failed,
            .reason = std::move(reason),
            .status = status,
            .kind = RecordKind::Request};
}

HttpRelay::HttpRelay(Session& session, ByteStream& client, bool tls, std::string received)
    : session_(session), client_(client), key_(session.server_key(tls)), from_client_(client) {
    from_client_.bytes() = std::move(received);
}

Task<void> HttpRelay::run() {
    // Between two requests, and while others have their turn, nothing is held but what the connection is.
    do {
        turn_.reset();
        session_.deadline().limit(session_.setup().times.keep_alive);
        if (from_client_.bytes().empty() && !co_await client_.ready()) break;
        turn_.emplace(session_.setup().servers->turns(key_), session_.loop());
        co_await turn_->wait();
    } while (co_await serve_one());
    turn_.reset();
    session_.close_server();
}

Task<void> HttpRelay::refuse(Refusal refusal, bool head_only) {
    refusal = session_.instead_of(std::move(refusal));
    session_.record(refusal);
    if (answer_begun_) co_return;
    session_.deadline().limit(std::chrono::seconds(5));
    if (!co_await client_.write(refusal_answer(session_, refusal, !head_only))) co_return;
    co_await client_.end();
    co_await session_.linger();
}

// False: the connection is over.
Task<bool> HttpRelay::serve_one() {
    answer_begun_ = false;
    auto exchange = co_await read_request();
    if (!exchange) {
        co_await refuse(exchange.error(), exchange.error().method == "HEAD");
        co_return false;
    }
    if (!*exchange) co_return false; // the client is done
    keep_alive_ = (*exchange)->keep_alive;
    auto done = co_await this->exchange(**exchange);
    if (done) co_return keep_alive_;
    co_await refuse(done.error(), (*exchange)->request.method == "HEAD");
    co_return false;
}

Task<std::expected<std::optional<HttpRelay::Exchange>, Refusal>> HttpRelay::read_request() {
    auto wrong = [](unsigned status, std::string reason) {
        return std::unexpected(
            Refusal{.reason = std::move(reason), .status = status, .kind = RecordKind::Request});
    };
    std::optional<size_t> end;
    while (!(end = http::head_end(from_client_.bytes()))) {
        if (from_client_.bytes().size() >= http::kMaxHeadBytes)
            co_return wrong(431, cat("the request's head is larger than ", http::kMaxHeadBytes, " bytes"));
        auto more = co_await from_client_.fill();
        if (!more || !*more) co_return std::nullopt;
        if (from_client_.bytes()[0] == 0x16 && !key_.tls)
            co_return wrong(400, "TLS on the port of plain HTTP");
    }
    auto head = http::parse_request(std::string_view(from_client_.bytes()).substr(0, *end));
    if (!head) co_return wrong(400, cat("the request is malformed: ", head.error().message));
    from_client_.take(*end);
    Exchange exchange{.framing = head->framing,
                      .client_minor = head->minor,
                      .keep_alive = head->keep_alive(),
                      .websocket = http::is_websocket(*head),
                      .expects_continue = head->fields.count("Expect") > 0};
    auto checked = http::check_request(*std::move(head), key_.host, session_.destination().port, key_.tls);
    if (!checked) co_return wrong(checked.error().status, checked.error().reason);
    exchange.request = *std::move(checked);
    if (auto refused = check_rules(exchange.request)) co_return std::unexpected(*std::move(refused));
    co_return exchange;
}

// By the rules as they are now, which may not be those that the connection began under.
std::optional<Refusal> HttpRelay::check_rules(http::RequestHead& request) {
    auto decision =
        session_.agent().policy->request_rules().decide(key_.host, session_.destination().port, request);
    if (!decision.allowed)
        return Refusal{.reason = std::move(decision.reason),
                       .add = std::move(decision.add),
                       .kind = RecordKind::Request,
                       .method = request.method,
                       .path = std::move(decision.path)};
    request.target = decision.target;
    if (!decision.rule.empty()) session_.record_request(request, decision);
    return std::nullopt;
}

Task<HttpRelay::Outcome> HttpRelay::exchange(Exchange& exchange) {
    session_.deadline().limit(session_.setup().times.dial);
    if (!session_.use(Resource::Requests)) co_return std::unexpected(session_.instead_of({}));
    if (auto injected = co_await inject(exchange); !injected) co_return injected;
    auto answer = co_await request_answer(exchange);
    for (auto& field : exchange.request.fields.all()) wipe(field.value);
    if (!answer) co_return std::unexpected(answer.error());
    if (answer->status == 101) co_return co_await upgrade(exchange, *std::move(answer));
    co_return co_await pass_answer(exchange, *std::move(answer));
}

std::shared_ptr<const SecretForms> HttpRelay::forms() const {
    static const auto none = std::make_shared<const SecretForms>();
    return injection_ ? std::shared_ptr<const SecretForms>(injection_, &injection_->forms) : none;
}

// Puts the secrets in, in place of whatever the agent has there.
Task<HttpRelay::Outcome> HttpRelay::inject(Exchange& exchange) {
    auto policy = session_.agent().policy; // held while warden is asked: it may be replaced meanwhile
    auto bindings = policy->bindings(key_.host);
    if (bindings.empty()) co_return Outcome();
    if (!injection_ || Clock::now() - injected_at_ > kInjectionTime) {
        injection_.reset();
        auto asked = co_await session_.setup().injector.ask(session_.agent().name, key_.host, bindings);
        if (!asked)
            co_return std::unexpected(
                Refusal{.verdict = asked.error().status == 403 ? Verdict::Denied : Verdict::Failed,
                        .reason = asked.error().reason,
                        .status = asked.error().status,
                        .kind = RecordKind::Request});
        injection_ = *std::move(asked);
        injected_at_ = Clock::now();
    }
    auto& fields = exchange.request.fields;
    for (const auto& item : injection_->items) fields.remove(item.header);
    for (const auto& item : injection_->items) fields.add(item.header, std::string(item.value.view()));
    // What comes back must be readable, or the secret could come back unseen: whole, and not compressed.
    for (auto name : {"Accept-Encoding", "Range", "If-Range", "Sec-WebSocket-Extensions"})
        fields.remove(name);
    fields.add("Accept-Encoding", "identity");
    co_return Outcome();
}

Task<HttpRelay::Outcome> HttpRelay::ensure_server(bool repeatable) {
    auto reached = co_await session_.reach_server(key_, repeatable);
    if (!reached) co_return std::unexpected(reached.error());
    if (server().reader) co_return Outcome(); // it has been used before
    if (key_.tls)
        if (auto begun = co_await begin_tls(); !begun) {
            session_.close_server();
            co_return begun;
        }
    server().reader = std::make_unique<BufferedReader>(server().stream());
    co_return Outcome();
}

Task<HttpRelay::Outcome> HttpRelay::begin_tls() {
    session_.deadline().limit(session_.setup().times.dial);
    auto context = session_.setup().roots.client_context();
    if (!context) co_return std::unexpected(failure(context.error().message));
    auto tls = TlsStream::make(*context, server().tcp);
    if (!tls) co_return std::unexpected(failure(tls.error().message));
    server().tls = *std::move(tls);
    if (auto connected = co_await server().tls->connect(key_.host.text()); !connected)
        co_return std::unexpected(failure(cat(key_.host.text(), ": ", connected.error().message)));
    co_return Outcome();
}

Task<HttpRelay::Outcome> HttpRelay::send_request(Exchange& exchange) {
    auto out = http::encode(exchange.request); // and what there is of the body already
    bool begun = false;
    auto flush = [&]() -> Task<Result<>> {
        auto sent = co_await server().stream().write(out);
        wipe(out);
        begun = true;
        co_return sent;
    };
    if (exchange.expects_continue && exchange.client_minor == 1 &&
        exchange.framing.kind != http::Framing::Kind::None) {
        if (auto sent = co_await flush(); !sent) co_return std::unexpected(failure(sent.error().message));
        if (auto told = co_await client_.write("HTTP/1.1 100 Continue\r\n\r\n"); !told)
            co_return std::unexpected(failure(told.error().message));
    }
    session_.deadline().keep(session_.setup().times.idle);
    http::BodyReader body(exchange.framing);
    bool chunked = exchange.framing.kind == http::Framing::Kind::Chunked;
    for (;;) {
        auto piece = body.next(from_client_.bytes());
        if (!piece) {
            wipe(out);
            co_return std::unexpected(
                Refusal{.reason = cat("the request's body is malformed: ", piece.error().message),
                        .status = 400,
                        .kind = RecordKind::Request});
        }
        if (!piece->content.empty())
            out += chunked ? http::chunk(piece->content) : std::string(piece->content);
        from_client_.take(piece->taken);
        if (body.done() && chunked) out += http::kLastChunk;
        bool waits = piece->taken == 0 && !body.done();
        if (!out.empty() && (waits || body.done() || out.size() >= kMostHeldBytes)) {
            bool first = !begun;
            if (auto sent = co_await flush(); !sent) {
                if (first) co_return std::unexpected(failure(sent.error().message));
                // A server that answers early may stop reading; its answer is what counts then, and the last.
                keep_alive_ = exchange.sent_whole = false;
                co_return Outcome();
            }
        }
        if (body.done()) co_return Outcome();
        if (!waits) continue;
        auto more = co_await from_client_.fill();
        if (!more || !*more)
            co_return std::unexpected(failure("the client left in the middle of its request", 400));
    }
}

// The answer's head. A kept connection that the server has closed meanwhile is made anew, once, if nothing is
// lost.
Task<std::expected<http::ResponseHead, Refusal>> HttpRelay::request_answer(Exchange& exchange) {
    for (;;) {
        bool repeatable = exchange.framing.kind == http::Framing::Kind::None;
        if (auto ready = co_await ensure_server(repeatable); !ready) co_return std::unexpected(ready.error());
        bool may_repeat = repeatable && server().last_user;
        auto sent = co_await send_request(exchange);
        if (!sent && !may_repeat) co_return std::unexpected(sent.error());
        auto answer = sent ? co_await read_answer() : std::unexpected(sent.error());
        bool silent = server().reader->bytes().empty();
        if (answer || !may_repeat || !silent) co_return answer;
        session_.close_server();
    }
}

Task<std::expected<http::ResponseHead, Refusal>> HttpRelay::read_answer() {
    for (unsigned interim = 0; interim < kMaxInterimAnswers;) {
        auto end = http::head_end(server().reader->bytes());
        if (!end) {
            if (server().reader->bytes().size() >= http::kMaxHeadBytes)
                co_return std::unexpected(failure("the head of the server's answer is too large"));
            auto more = co_await server().reader->fill();
            if (!more) co_return std::unexpected(failure(more.error().message));
            if (!*more)
                co_return std::unexpected(failure("the server ended the connection without an answer"));
            continue;
        }
        auto head = http::parse_response(std::string_view(server().reader->bytes()).substr(0, *end));
        if (!head)
            co_return std::unexpected(
                failure(cat("the server's answer is malformed: ", head.error().message)));
        server().reader->take(*end);
        if (head->status >= 200 || head->status == 101) co_return *std::move(head);
        interim++; // 100, 103: what they say is not for the agent
    }
    co_return std::unexpected(failure("the server sends interim answers without end"));
}

static void scrub_head(http::ResponseHead& answer, const Scrubber& scrubber) {
    answer.reason = scrubber.whole(answer.reason);
    for (auto& field : answer.fields.all()) {
        field.name = scrubber.whole(field.name);
        field.value = scrubber.whole(field.value);
    }
}

Task<HttpRelay::Outcome> HttpRelay::pass_answer(Exchange& exchange, http::ResponseHead answer) {
    auto framing = answer.framing(exchange.request.method);
    if (!framing)
        co_return std::unexpected(
            failure(cat("the server's answer is malformed: ", framing.error().message)));
    bool has_body = framing->kind != http::Framing::Kind::None;
    auto coding = answer.fields.find("Content-Encoding");
    if (injects() && has_body && coding && !http::same_name(*coding, "identity"))
        co_return std::unexpected(
            failure("the server compressed its answer though it was asked not to, so secrets could not be "
                    "taken out of it"));
    bool server_stays =
        exchange.sent_whole && answer.keep_alive() && framing->kind != http::Framing::Kind::UntilClose;
    for (const auto& named : answer.fields.tokens("Connection")) answer.fields.remove(named);
    for (auto name : {"Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Trailer",
                      "Transfer-Encoding", "Alt-Svc"})
        answer.fields.remove(name);
    // Taking a secret out changes the length.
    bool chunked =
        has_body && exchange.client_minor == 1 && (injects() || framing->kind != http::Framing::Kind::Length);
    if (has_body && (injects() || chunked)) answer.fields.remove("Content-Length");
    if (has_body && !chunked && !answer.fields.find("Content-Length")) keep_alive_ = false;
    if (chunked) answer.fields.add("Transfer-Encoding", "chunked");
    if (!keep_alive_) answer.fields.add("Connection", "close");
    if (keep_alive_ && exchange.client_minor == 0) answer.fields.add("Connection", "keep-alive");
    answer.minor = 1;
    scrub_head(answer, Scrubber(forms()));
    answer_begun_ = true;
    to_client_ = http::encode(answer);
    if (auto passed = co_await pass_body(*framing, chunked); !passed) co_return passed;
    if (server_stays)
        session_.leave_server(key_);
    else
        session_.close_server();
    if (!keep_alive_) co_await client_.end();
    co_return Outcome();
}

Task<Result<>> HttpRelay::flush_to_client() {
    if (to_client_.empty()) co_return Result<>();
    auto sent = co_await client_.write(to_client_);
    to_client_ = std::string(); // its memory too
    co_return sent;
}

// Head, content and end of a short answer go out as one: each write is a TLS record, a packet and a system
// call.
Task<HttpRelay::Outcome> HttpRelay::pass_body(const http::Framing& framing, bool chunked) {
    http::BodyReader body(framing);
    Scrubber scrub(forms());
    auto add = [&](std::string_view content) {
        if (!content.empty()) to_client_ += chunked ? http::chunk(content) : std::string(content);
    };
    while (!body.done()) {
        auto piece = body.next(server().reader->bytes());
        if (!piece)
            co_return std::unexpected(
                failure(cat("the server's answer is malformed: ", piece.error().message)));
        if (!piece->content.empty()) add(scrub.feed(piece->content));
        server().reader->take(piece->taken);
        bool waits = piece->taken == 0 && !body.done();
        if (waits || to_client_.size() >= kMostHeldBytes)
            if (auto sent = co_await flush_to_client(); !sent)
                co_return std::unexpected(failure(sent.error().message));
        if (!waits) continue;
        auto more = co_await server().reader->fill();
        if (!more) co_return std::unexpected(failure(more.error().message));
        if (*more) continue;
        if (auto whole = body.ended(); !whole) co_return std::unexpected(failure(whole.error().message));
    }
    add(scrub.finish());
    if (chunked) to_client_ += http::kLastChunk;
    if (auto sent = co_await flush_to_client(); !sent)
        co_return std::unexpected(failure(sent.error().message));
    co_return Outcome();
}

namespace {
// A stream with what was read of it already at its front.
class Resumed final : public ByteStream {
public:
    Resumed(ByteStream& stream, std::string front) : stream_(stream), front_(std::move(front)) {}
    Task<Result<std::string_view>> receive() override {
        given_ = std::exchange(front_, {});
        if (given_.empty()) co_return co_await stream_.receive();
        co_return given_;
    }
    Task<bool> ready() override { return stream_.ready(); }
    Task<Result<>> write(std::string_view bytes) override { return stream_.write(bytes); }
    Task<void> end() override { return stream_.end(); }

private:
    ByteStream& stream_;
    std::string front_, given_;
};
} // namespace

// WebSocket (RFC 6455): from here on the two speak freely, to the same server only. Frames count their bytes,
// so a secret becomes something as long as itself.
Task<HttpRelay::Outcome> HttpRelay::upgrade(Exchange& exchange, http::ResponseHead answer) {
    if (!exchange.websocket || !answer.fields.has_token("Upgrade", "websocket"))
        co_return std::unexpected(failure("the server changes to a protocol that nobody asked for"));
    if (injects()) answer.fields.remove("Sec-WebSocket-Extensions");
    scrub_head(answer, Scrubber(forms()));
    answer_begun_ = true;
    keep_alive_ = false;
    if (auto sent = co_await client_.write(http::encode(answer)); !sent)
        co_return std::unexpected(failure(sent.error().message));
    Scrubber scrub(forms(), Scrubber::Length::Kept);
    turn_->end(); // this is no request any more
    Resumed from_client(client_, std::move(from_client_.bytes()));
    Resumed from_server(server().stream(), std::move(server().reader->bytes()));
    co_await session_.relay(from_client, from_server, injects() ? &scrub : nullptr);
    co_return Outcome();
}

// received: what was read already.
Task<void> Session::serve_http(std::string received) {
    HttpRelay relay(*this, client_, false, std::move(received));
    co_await relay.run();
}

// TLS ends here, as the host that the name is of; towards the server it begins anew.
Task<void> Session::serve_terminated() {
    if (auto tls = co_await accept_tls()) {
        HttpRelay relay(*this, *tls, true, {});
        co_await relay.run();
    }
}

// Nothing: it was refused, or served in clear.
Task<std::unique_ptr<TlsStream>> Session::accept_tls() {
    std::string bytes;
    deadline_.limit(setup_->times.hello);
    auto hello = co_await read_hello(bytes);
    const auto& host = std::get<HostName>(destination().host);
    if (!hello && !bytes.empty() && bytes[0] != 0x16) {
        co_await serve_clear(std::move(bytes));
        co_return nullptr;
    }
    if (auto wrong = check_hello(hello)) {
        co_await refuse(*wrong, bytes);
        co_return nullptr;
    }
    Turn turn(agent().handshakes, loop());
    co_await turn.wait();
    auto context = setup_->authority.server_context(host);
    auto tls = context ? TlsStream::make(*context, client_, bytes) : context.error();
    if (!tls) {
        co_await refuse(
            {.verdict = Verdict::Failed, .reason = tls.error().message, .alert = Alert::InternalError},
            bytes);
        co_return nullptr;
    }
    if (auto accepted = co_await (*tls)->accept(); !accepted) {
        record({.verdict = Verdict::Failed,
                .reason = cat("with the agent: ", accepted.error().message,
                              "; its program may not know the box's certificate (/etc/ssl/certs)")});
        co_return nullptr;
    }
    // What OpenSSL understood must be what was checked, a second hello included.
    auto named = HostName::parse((*tls)->server_name());
    if (named && *named == host) co_return *std::move(tls);
    record({.reason = "the TLS hello named one server, and then another"});
    co_return nullptr;
}

// What is not TLS, where TLS would end here.
Task<void> Session::serve_clear(std::string bytes) {
    const auto& host = std::get<HostName>(destination().host);
    bool secrets = !agent().policy->bindings(host).empty();
    if (!secrets && destination().port != kTlsPort) co_return co_await serve_http(std::move(bytes));
    auto why =
        secrets ? cat("secrets go to ", host.text(), ", and never in clear") : "this is the port of TLS";
    co_await refuse({.reason = cat(why, "; use https://"), .status = 403}, bytes);
}

} // namespace nullbox::egress
