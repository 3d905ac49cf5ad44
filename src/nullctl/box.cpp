#include "nullctl/box.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/json/serialize.hpp>
#include <cstring>
#include <openssl/evp.h>
#include <openssl/sslerr.h>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include "base/loop.h" // Clock
#include "base/text.h"
#include "net/await.h"
#include "nullctl/box_stream.h"
#include "nullctl/exit_status.h"
#include "varlink/message.h"

namespace nullbox::nullctl {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace json = boost::json;
using asio::ip::tcp;
using TlsStream = asio::ssl::stream<beast::tcp_stream>;

using net::kAwait;
constexpr std::chrono::seconds kConnectLimit{10};
constexpr std::chrono::seconds kStaleAfter{20};  // the box closes an idle connection after a minute
constexpr std::chrono::seconds kStreamLimit{60}; // the box sends an empty line more often than that
constexpr std::chrono::seconds kPieceLimit{60};
constexpr std::chrono::seconds kCallLimit{180};
constexpr size_t kMostAnswerBytes = size_t{64} << 20;
constexpr size_t kMostLineBytes = size_t{8} << 20;
constexpr size_t kPieceBytes = size_t{256} << 10;

struct Box::Impl {
    Impl(const KnownBox& box, const net::Identity& key) : box(box), key(key) {}

    asio::awaitable<Result<>> open();
    asio::awaitable<Result<Answer>> call(std::string target, std::string body, std::chrono::seconds limit);
    asio::awaitable<Result<std::vector<Result<Answer>>>> call_all(const std::vector<Question>& questions);
    asio::awaitable<Result<>> follow(std::string target, std::string body,
                                     const std::function<Result<bool>(Answer)>& each);
    asio::awaitable<Result<>> upload(std::string target, int fd, uint64_t size, std::string digest,
                                     const std::function<void(uint64_t, uint64_t)>& moved);
    asio::awaitable<Result<>> upgrade(std::string target, std::string body);
    asio::awaitable<Result<>> send_body(int fd, uint64_t size,
                                        const std::function<void(uint64_t, uint64_t)>& moved);
    asio::awaitable<Result<Answer>> read_answer(std::chrono::seconds limit);
    http::request<http::string_body> request(http::verb verb, std::string target, std::string body) const;
    Error broken(std::string_view doing, const beast::error_code& failure);
    Error refused(const beast::error_code& failure);
    std::string where() const { return cat(box.name, " (", box.host, " port ", box.port, ")"); }
    beast::tcp_stream& lower() { return beast::get_lowest_layer(*stream); }

    template <typename T>
    Result<T> run(asio::awaitable<Result<T>> work);

    const KnownBox& box;
    const net::Identity& key;
    asio::io_context context{1};
    std::string seen; // the fingerprint that was shown
    bool any_key = false;
    std::function<bool(std::string_view)> judge = [this](std::string_view public_key) {
        seen = net::fingerprint(public_key);
        return any_key || seen == box.fingerprint;
    };
    std::unique_ptr<asio::ssl::context> tls;
    std::unique_ptr<TlsStream> stream;
    beast::flat_buffer buffer;
    Clock::time_point used_at{};
    bool answered = false; // on this connection, once
};

template <typename T>
Result<T> Box::Impl::run(asio::awaitable<Result<T>> work) {
    std::optional<Result<T>> got;
    asio::co_spawn(context, std::move(work), [&](const std::exception_ptr& thrown, Result<T> result) {
        if (!thrown) {
            got = std::move(result);
            return;
        }
        try {
            std::rethrow_exception(thrown);
        } catch (const std::exception& failure) {
            got = error(cat("talking to ", where(), ": ", failure.what()));
        }
    });
    context.restart();
    context.run();
    used_at = Clock::now();
    if (!got) return error("the connection's work ended without a result");
    return *std::move(got);
}

Error Box::Impl::refused(const beast::error_code& failure) {
    return ends_with(Exit::NotTrusted,
                     cat(where(), " does not let this key in (", failure.message(),
                         "). Its public key must stand under [operators] in the box's machine configuration: "
                         "nullctl keygen prints the lines"));
}

// TLS 1.3: the box judges our certificate after our side of the handshake is done, so its refusal arrives in
// place of the first answer.
Error Box::Impl::broken(std::string_view doing, const beast::error_code& failure) {
    bool alert = failure.category() == asio::error::get_ssl_category() &&
                 ERR_GET_REASON(static_cast<unsigned long>(failure.value())) > SSL_AD_REASON_OFFSET;
    stream.reset();
    if (alert && !answered) return refused(failure);
    if (failure == beast::error::timeout)
        return ends_with(Exit::Unreachable, cat(where(), ": ", doing, ": no answer in time"));
    return ends_with(Exit::Unreachable, cat(where(), ": ", doing, ": ", failure.message()));
}

asio::awaitable<Result<>> Box::Impl::open() {
    if (stream && Clock::now() - used_at < kStaleAfter) co_return Result<>();
    buffer.clear();
    answered = false;
    tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_client);
    if (auto set = net::use_tls(tls->native_handle(), key, judge); !set.has_value()) co_return set.error();
    stream = std::make_unique<TlsStream>(context, *tls);
    auto unreachable = [&](std::string_view doing, const beast::error_code& failure) {
        stream.reset();
        auto why =
            failure == beast::error::timeout ? std::string("no answer in 10 seconds") : failure.message();
        return ends_with(Exit::Unreachable,
                         cat("cannot reach ", where(), ": ", doing, ": ", why,
                             ". Is it on, and is the address right? Its console shows both"));
    };
    tcp::resolver resolver(context);
    // Not async_resolve(): its thread would live on and take signals that exec waits for.
    beast::error_code unresolved;
    auto places = resolver.resolve(box.host, std::to_string(box.port), unresolved);
    if (unresolved) co_return unreachable("look the name up", unresolved);
    lower().expires_after(kConnectLimit);
    auto [unconnected, place] = co_await lower().async_connect(places, kAwait);
    if (unconnected) co_return unreachable("connect", unconnected);
    beast::error_code ignored;
    lower().socket().set_option(tcp::no_delay(true), ignored);
    seen.clear();
    auto [failure] = co_await stream->async_handshake(asio::ssl::stream_base::client, kAwait);
    if (!failure) co_return Result<>();
    if (seen.empty() || any_key || seen == box.fingerprint) co_return unreachable("TLS handshake", failure);
    stream.reset();
    co_return ends_with(
        Exit::NotTrusted,
        cat(where(), " is not the box that it was: it shows ", seen, ", known is ", box.fingerprint,
            ". Compare with the fingerprint on its console. If the box was set up anew: nullctl box add ",
            box.name, " ", box.host, ":", box.port, " --fingerprint ", seen,
            ". If not, somebody else answers there"));
}

http::request<http::string_body> Box::Impl::request(http::verb verb, std::string target,
                                                    std::string body) const {
    http::request<http::string_body> out(verb, target, 11);
    out.set(http::field::host, box.host);
    out.set(http::field::content_type, "application/json");
    out.body() = std::move(body);
    out.prepare_payload();
    return out;
}

static std::string target_of(std::string_view service, std::string_view method) {
    return cat("/v1/io.nullbox.", service, "/", method);
}

static Result<json::object> parse_answer(std::string_view text) {
    return varlink::parse_object(text).context("the box's answer");
}

asio::awaitable<Result<Answer>> Box::Impl::read_answer(std::chrono::seconds limit) {
    http::response_parser<http::string_body> parser;
    parser.body_limit(kMostAnswerBytes);
    lower().expires_after(limit);
    auto [failure, count] = co_await http::async_read(*stream, buffer, parser, kAwait);
    if (failure) co_return broken("read the answer", failure);
    answered = true;
    auto& message = parser.get();
    auto parsed = parse_answer(message.body());
    if (!message.keep_alive()) stream.reset();
    if (!parsed.has_value()) co_return parsed.error();
    if (message.result_int() != 200) co_return refusal_of(message.result_int(), *parsed);
    co_return Answer{.parameters = std::move(*parsed), .text = std::move(message.body())};
}

asio::awaitable<Result<Answer>> Box::Impl::call(std::string target, std::string body,
                                                std::chrono::seconds limit) {
    if (auto opened = co_await open(); !opened.has_value()) co_return opened.error();
    auto message = request(http::verb::post, std::move(target), std::move(body));
    lower().expires_after(kConnectLimit);
    auto [failure, count] = co_await http::async_write(*stream, message, kAwait);
    ::explicit_bzero(message.body().data(), message.body().size());
    if (failure) co_return broken("send the request", failure);
    co_return co_await read_answer(limit);
}

asio::awaitable<Result<std::vector<Result<Answer>>>>
Box::Impl::call_all(const std::vector<Question>& questions) {
    if (auto opened = co_await open(); !opened.has_value()) co_return opened.error();
    std::string all;
    for (const auto& question : questions) {
        std::ostringstream one;
        one << request(http::verb::post, target_of(question.service, question.method),
                       json::serialize(question.parameters));
        all += one.str();
    }
    lower().expires_after(kConnectLimit);
    auto [failure, count] = co_await asio::async_write(*stream, asio::buffer(all), kAwait);
    if (failure) co_return broken("send the request", failure);
    std::vector<Result<Answer>> answers;
    while (answers.size() < questions.size()) {
        if (stream)
            answers.push_back(co_await read_answer(kCallLimit));
        else
            answers.push_back(answers.back()); // the connection has ended before it
    }
    co_return answers;
}

asio::awaitable<Result<>> Box::Impl::follow(std::string target, std::string body,
                                            const std::function<Result<bool>(Answer)>& each) {
    if (auto opened = co_await open(); !opened.has_value()) co_return opened.error();
    auto message = request(http::verb::post, target + "?more=1", std::move(body));
    lower().expires_after(kConnectLimit);
    auto [unsent, sent] = co_await http::async_write(*stream, message, kAwait);
    if (unsent) co_return broken("send the request", unsent);
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);
    lower().expires_after(kStreamLimit);
    auto [no_head, head] = co_await http::async_read_header(*stream, buffer, parser, kAwait);
    if (no_head) co_return broken("read the answer", no_head);
    answered = true;
    auto status = parser.get().result_int();
    std::string lines, piece(size_t{16} << 10, '\0');
    while (!parser.is_done()) {
        parser.get().body().data = piece.data();
        parser.get().body().size = piece.size();
        lower().expires_after(kStreamLimit);
        auto [failure, count] = co_await http::async_read_some(*stream, buffer, parser, kAwait);
        if (failure && failure != http::error::need_buffer) co_return broken("read the stream", failure);
        lines.append(piece.data(), piece.size() - parser.get().body().size);
        if (lines.size() > kMostLineBytes) co_return error("the box sends a line that is too long");
        if (status != 200) continue;
        for (size_t end; (end = lines.find('\n')) != std::string::npos; lines.erase(0, end + 1)) {
            auto line = std::string_view(lines).substr(0, end);
            if (line.empty()) continue; // a heartbeat
            auto parsed = parse_answer(line);
            if (!parsed.has_value()) co_return parsed.error();
            if (parsed->contains("error") && parsed->contains("parameters"))
                co_return refusal_of(409, *parsed);
            auto wanted = each(Answer{.parameters = std::move(*parsed), .text = std::string(line)});
            if (!wanted.has_value()) co_return wanted.error();
            if (!*wanted) {
                stream.reset();
                co_return Result<>();
            }
        }
    }
    stream.reset();
    if (status == 200) co_return Result<>();
    auto parsed = parse_answer(lines);
    co_return parsed.has_value() ? refusal_of(status, *parsed) : parsed.error();
}

asio::awaitable<Result<>> Box::Impl::send_body(int fd, uint64_t size,
                                               const std::function<void(uint64_t, uint64_t)>& moved) {
    std::string piece(kPieceBytes, '\0');
    for (uint64_t done = 0; done < size;) {
        ssize_t count = ::pread(fd, piece.data(), std::min<uint64_t>(piece.size(), size - done),
                                static_cast<off_t>(done));
        if (count < 0) co_return errno_error("read the file");
        if (count == 0) co_return error("the file became shorter while it was sent");
        lower().expires_after(kPieceLimit);
        auto [failure, written] = co_await asio::async_write(
            *stream, asio::buffer(piece.data(), static_cast<size_t>(count)), kAwait);
        if (failure) co_return ends_with(Exit::Unreachable, cat("send the file: ", failure.message()));
        done += static_cast<uint64_t>(count);
        moved(done, size);
    }
    co_return Result<>();
}

asio::awaitable<Result<>> Box::Impl::upload(std::string target, int fd, uint64_t size, std::string digest,
                                            const std::function<void(uint64_t, uint64_t)>& moved) {
    if (auto opened = co_await open(); !opened.has_value()) co_return opened.error();
    auto head =
        cat("PUT ", target, " HTTP/1.1\r\nHost: ", box.host, "\r\nContent-Type: application/octet-stream\r\n",
            "Content-Length: ", size, "\r\nRepr-Digest: ", digest, "\r\nExpect: 100-continue\r\n\r\n");
    lower().expires_after(kConnectLimit);
    auto [unsent, sent] = co_await asio::async_write(*stream, asio::buffer(head), kAwait);
    if (unsent) co_return broken("send the request", unsent);
    http::response_parser<http::string_body> first;
    first.body_limit(kMostAnswerBytes);
    lower().expires_after(kPieceLimit);
    auto [failure, count] = co_await http::async_read(*stream, buffer, first, kAwait);
    if (failure) co_return broken("read the answer", failure);
    answered = true;
    if (first.get().result() != http::status::continue_) {
        stream.reset();
        auto parsed = parse_answer(first.get().body());
        co_return parsed.has_value() ? refusal_of(first.get().result_int(), *parsed) : parsed.error();
    }
    auto went = co_await send_body(fd, size, moved);
    // What the box has to say about a body that it stopped taking is better than our own error.
    auto answer = co_await read_answer(kCallLimit);
    if (!went.has_value() && (answer.has_value() || exit_of(answer.error()) == Exit::Unreachable)) {
        stream.reset();
        co_return went.error();
    }
    if (!answer.has_value()) co_return answer.error();
    co_return Result<>();
}

// Leaves the connection in `stream`, with its first bytes in `buffer`, when the box has switched.
asio::awaitable<Result<>> Box::Impl::upgrade(std::string target, std::string body) {
    if (auto opened = co_await open(); !opened.has_value()) co_return opened.error();
    auto message = request(http::verb::post, std::move(target), std::move(body));
    message.set(http::field::connection, "Upgrade");
    message.set(http::field::upgrade, "nullbox-exec");
    lower().expires_after(kConnectLimit);
    auto [unsent, sent] = co_await http::async_write(*stream, message, kAwait);
    if (unsent) co_return broken("send the request", unsent);
    http::response_parser<http::string_body> parser;
    parser.body_limit(kMostAnswerBytes);
    lower().expires_after(kPieceLimit);
    auto [failure, count] = co_await http::async_read(*stream, buffer, parser, kAwait);
    if (failure) co_return broken("read the answer", failure);
    answered = true;
    if (parser.get().result() == http::status::switching_protocols) co_return Result<>();
    stream.reset();
    auto parsed = parse_answer(parser.get().body());
    co_return parsed.has_value() ? refusal_of(parser.get().result_int(), *parsed) : parsed.error();
}

Error refusal_of(unsigned status, const json::object& body) {
    auto text_at = [](const json::object& from, std::string_view name) -> std::string {
        const auto* value = from.if_contains(name);
        return value && value->is_string() ? std::string(value->get_string()) : std::string();
    };
    auto name = text_at(body, "error");
    const auto* inner = body.if_contains("parameters");
    const auto* parameters = inner ? inner->if_object() : nullptr;
    auto message = parameters ? text_at(*parameters, "message") : "";
    auto parameter = parameters ? text_at(*parameters, "parameter") : "";
    if (!parameter.empty()) message = cat(parameter, ": ", message);
    if (message.empty() && parameters && !parameters->empty()) message = json::serialize(*parameters);
    if (name.ends_with(".Locked"))
        return ends_with(Exit::Locked,
                         cat(message.empty() ? "the vault is locked" : message,
                             message.contains("vault unlock") ? "" : ". Open it: nullctl vault unlock"));
    auto said = message.empty() ? cat("the box refuses: ", name.empty() ? cat("status ", status) : name)
                                : cat(message, " (", name, ")");
    if (name == "io.nullbox.gate.ServiceNotThere")
        said += ". nullctl status shows which service is down, nullctl logs why";
    return ends_with(Exit::Failed, said);
}

static Result<std::string> digest_of(int fd, uint64_t size) {
    std::unique_ptr<EVP_MD_CTX, decltype([](EVP_MD_CTX* context) { ::EVP_MD_CTX_free(context); })> context(
        ::EVP_MD_CTX_new());
    bool good = context && ::EVP_DigestInit_ex(context.get(), ::EVP_sha256(), nullptr) == 1;
    std::string piece(kPieceBytes, '\0');
    for (uint64_t done = 0; good && done < size;) {
        ssize_t count = ::pread(fd, piece.data(), piece.size(), static_cast<off_t>(done));
        if (count < 0) return errno_error("read the file");
        if (count == 0) return error("the file became shorter while it was read");
        good = ::EVP_DigestUpdate(context.get(), piece.data(), static_cast<size_t>(count)) == 1;
        done += static_cast<uint64_t>(count);
    }
    unsigned char digest[32];
    good = good && ::EVP_DigestFinal_ex(context.get(), digest, nullptr) == 1;
    if (!good) return error("SHA-256 failed");
    return net::base64({reinterpret_cast<const char*>(digest), sizeof digest});
}

Box::Box(KnownBox box, net::Identity key) : box_(std::move(box)), key_(std::move(key)) {}
Box::~Box() = default;
Box::Box(Box&& other) noexcept : box_(std::move(other.box_)), key_(std::move(other.key_)) {}

Result<Answer> Box::call(std::string_view service, std::string_view method, json::object parameters,
                         std::chrono::seconds limit) {
    if (!impl_) impl_ = std::make_unique<Impl>(box_, key_);
    return impl_->run(impl_->call(target_of(service, method), json::serialize(parameters), limit));
}

std::vector<Result<Answer>> Box::call_all(const std::vector<Question>& questions) {
    if (!impl_) impl_ = std::make_unique<Impl>(box_, key_);
    auto answers = impl_->run(impl_->call_all(questions));
    if (answers.has_value()) return *std::move(answers);
    return std::vector<Result<Answer>>(questions.size(), answers.error());
}

Result<> Box::follow(std::string_view service, std::string_view method, json::object parameters,
                     const std::function<Result<bool>(Answer)>& each) {
    if (!impl_) impl_ = std::make_unique<Impl>(box_, key_);
    return impl_->run(impl_->follow(target_of(service, method), json::serialize(parameters), each));
}

Result<> Box::upload(std::string_view kind, std::string_view name, int fd,
                     const std::function<void(uint64_t, uint64_t)>& moved) {
    bool plain = !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    });
    if (!plain)
        return ends_with(Exit::Usage,
                         cat("name \"", name, "\": lower-case letters, digits and \"-\", at most 64"));
    struct stat facts{};
    if (::fstat(fd, &facts) < 0) return errno_error("look at the file");
    if (!S_ISREG(facts.st_mode)) return error("only a regular file can be sent");
    auto size = static_cast<uint64_t>(facts.st_size);
    auto digest = TRY(digest_of(fd, size));
    if (!impl_) impl_ = std::make_unique<Impl>(box_, key_);
    return impl_->run(
        impl_->upload(cat("/v1/upload/", kind, "/", name), fd, size, cat("sha-256=:", digest, ":"), moved));
}

Result<std::unique_ptr<BoxStream>> Box::stream(const std::string& target, const json::object& parameters) {
    if (!impl_) impl_ = std::make_unique<Impl>(box_, key_);
    TRY(impl_->run(impl_->upgrade(target, json::serialize(parameters))));
    return BoxStream::carry(impl_->context, {.tls = std::move(impl_->tls),
                                             .stream = std::move(impl_->stream),
                                             .buffer = std::move(impl_->buffer)});
}

Result<std::string> Box::fingerprint_at(const KnownBox& box, const net::Identity& key) {
    Impl impl(box, key);
    impl.any_key = true;
    TRY(impl.run(impl.open()));
    return impl.seen;
}

} // namespace nullbox::nullctl
