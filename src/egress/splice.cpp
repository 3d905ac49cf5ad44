// The modes in which bytes pass as they are: TLS that stays TLS, checked by its hello, and plain relaying.
#include "base/text.h"
#include "egress/session.h"

namespace nullbox::egress {

constexpr size_t kMaxRecordBytes = (size_t{16} << 10) + 256;
constexpr char kChangeCipherRecord = 20, kHandshakeRecord = 22, kDataRecord = 23;

static std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

static Task<Result<bool>> read_more(ByteStream& from, std::string& bytes) {
    auto more = co_await from.receive();
    if (!more) co_return more.error();
    bytes += *more;
    co_return !more->empty();
}

Task<Result<ClientHello>> Session::read_hello(std::string& bytes) {
    for (;;) {
        auto hello = parse_client_hello(as_bytes(bytes));
        if (!hello) co_return hello.error();
        if (*hello) co_return **std::move(hello);
        auto more = co_await read_more(client_, bytes);
        if (!more) co_return more.error();
        if (!*more) co_return error("the connection ended before the TLS hello");
    }
}

std::optional<Refusal> Session::check_hello(const Result<ClientHello>& hello) const {
    const auto& host = std::get<HostName>(destination().host);
    if (!hello)
        return Refusal{.reason = cat(hello.error().message, "; to this port only TLS may go"),
                       .status = 400,
                       .alert = Alert::DecodeError};
    if (hello->encrypted_hello)
        return Refusal{.reason = "the TLS hello may hide another server name (Encrypted Client Hello); "
                                 "switch ECH off in the client"};
    if (!hello->server_name)
        return Refusal{.reason = cat("the TLS hello names no server; it must name ", host.text()),
                       .alert = Alert::UnrecognizedName};
    auto name = HostName::parse(*hello->server_name);
    if (!name || *name != host)
        return Refusal{.reason = cat("the TLS hello names \"", printable(*hello->server_name, 80),
                                     "\", the connection goes to ", host.text()),
                       .add = name ? cat("allow = [\"", name->text(), "\"]") : "",
                       .alert = Alert::UnrecognizedName};
    return std::nullopt;
}

// Sends the checked hello on, and looks at what the server answers: if it asks for a second hello, that one
// is checked as well, before anything else of the client goes out. bytes: begins with the hello; what is left
// over afterwards is still to be sent.
Task<std::optional<Refusal>> Session::forward_hello(std::string& bytes) {
    auto hello = parse_client_hello(as_bytes(bytes));
    size_t size = (*hello)->bytes;
    auto failed = [](const Error& why) {
        return Refusal{.verdict = Verdict::Failed, .reason = why.message, .alert = Alert::InternalError};
    };
    if (auto sent = co_await server().write(std::string_view(bytes).substr(0, size)); !sent)
        co_return failed(sent.error());
    bytes.erase(0, size);
    std::string answer;
    std::optional<bool> retry;
    while (!retry) {
        auto more = co_await read_more(server(), answer);
        if (!more) co_return failed(more.error());
        retry = *more ? is_retry_request(as_bytes(answer)) : false;
        if (!*more) break;
    }
    if (auto sent = co_await client_.write(answer); !sent) co_return failed(sent.error());
    if (retry && *retry) co_return co_await forward_second_hello(bytes);
    co_return std::nullopt;
}

Task<std::optional<Refusal>> Session::forward_second_hello(std::string& bytes) {
    for (;;) {
        while (bytes.size() < kRecordHeaderBytes) {
            auto more = co_await read_more(client_, bytes);
            if (!more || !*more)
                co_return Refusal{.verdict = Verdict::Failed,
                                  .reason = "the client left in the TLS handshake"};
        }
        if (bytes[0] == kHandshakeRecord) break;
        // Before it may come a change of cipher for old middleboxes, and data that the server has to skip.
        size_t size =
            size_t{static_cast<unsigned char>(bytes[3])} << 8 | static_cast<unsigned char>(bytes[4]);
        if ((bytes[0] != kChangeCipherRecord && bytes[0] != kDataRecord) || size > kMaxRecordBytes)
            co_return Refusal{.verdict = Verdict::Failed,
                              .reason = "the TLS handshake ended with an alert",
                              .alert = Alert::UnexpectedMessage};
        while (bytes.size() < kRecordHeaderBytes + size) {
            auto more = co_await read_more(client_, bytes);
            if (!more || !*more)
                co_return Refusal{.verdict = Verdict::Failed,
                                  .reason = "the client left in the TLS handshake"};
        }
        auto sent = co_await server().write(std::string_view(bytes).substr(0, kRecordHeaderBytes + size));
        if (!sent) co_return Refusal{.verdict = Verdict::Failed, .reason = sent.error().message};
        bytes.erase(0, kRecordHeaderBytes + size);
    }
    co_return check_hello(co_await read_hello(bytes));
}

// One way, as pump(), where nobody looks into it.
Task<bool> Session::pass(TcpStream& from, TcpStream& to) {
    for (;;) {
        auto received = co_await from.receive();
        if (!received) co_return false;
        if (received->empty()) {
            co_await to.end();
            co_return true;
        }
        if (auto sent = co_await to.write(*received); !sent) co_return false;
        if (!from.overflows()) continue;
        if (auto moved = co_await from.move_to(to); !moved) co_return false;
    }
}

// received: what was read already.
Task<void> Session::serve_tls(std::string bytes) {
    deadline_.limit(setup_->times.hello);
    if (auto wrong = check_hello(co_await read_hello(bytes))) co_return co_await refuse(*wrong, bytes);
    if (!server_)
        if (auto dialled = co_await dial(); !dialled) co_return co_await refuse(dialled.error(), bytes);
    deadline_.limit(setup_->times.hello);
    std::string first = bytes.substr(0, 1);
    if (auto wrong = co_await forward_hello(bytes)) co_return co_await refuse(*wrong, first);
    if (!bytes.empty())
        if (auto sent = co_await server().write(bytes); !sent) co_return;
    co_await pass_both_ways();
}

namespace {
// Shared with two waits, of which one outlives the coroutine that started them by a moment.
struct Race {
    explicit Race(Loop& loop) : won(loop) {}
    Condition won;
    int first = 0;
};
Task<> take_part(std::shared_ptr<Race> race, Socket& socket, int number) {
    (void)co_await socket.readable();
    if (race->first == 0) race->first = number;
    race->won.notify();
}
} // namespace

Task<bool> Session::client_speaks_first() {
    auto race = std::make_shared<Race>(loop());
    tasks_.spawn(take_part(race, client_.socket(), 1));
    tasks_.spawn(take_part(race, server().socket(), 2));
    if (race->first == 0) co_await race->won.wait();
    client_.socket().cancel();
    server().socket().cancel();
    co_return race->first == 1;
}

// A port of its own in the manifest: any protocol. TLS is still held to the name, as on the usual port.
Task<void> Session::serve_relay() {
    if (auto dialled = co_await dial(); !dialled)
        co_return co_await refuse(dialled.error(), co_await first_bytes(std::chrono::seconds(1)));
    bool by_name = std::holds_alternative<HostName>(destination().host);
    if (!by_name) co_return co_await pass_both_ways();
    bool client_first = co_await client_speaks_first();
    std::string bytes;
    if (client_first) {
        auto more = co_await read_more(client_, bytes);
        if (!more) co_return;
        if (bytes.starts_with(kHandshakeRecord)) co_return co_await serve_tls(std::move(bytes));
        if (auto sent = co_await server().write(bytes); !sent) co_return;
    }
    co_await pass_both_ways();
}

} // namespace nullbox::egress
