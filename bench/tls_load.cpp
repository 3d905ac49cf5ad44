// Requests over TLS, as many as go:
// bench_tls_load requests|connections ADDRESS PORT NAME ROOTS AT_A_TIME MS PROXY
//
//   requests      on connections that are opened before the clock starts, the next one as soon as the answer
//                 to the last has come
//   connections   for each a new one: connect, a whole handshake, one request, its answer, close
//
// PROXY is the process in between, of one thread. Prints as one JSON object how many were answered, in what
// time, for how long of that the proxy ran, and how long the middle one of all answers took. An answer that
// is not the server's, and a connection that fails, end it with 1: what is counted went through.
#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <memory>
#include <netinet/tcp.h>
#include <optional>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <vector>

#include "base/log.h"
#include "base/loop.h"
#include "base/text.h"
#include "tls_end.h"

namespace nullbox::bench {
namespace {

constexpr auto kOpeningTime = std::chrono::seconds(60);
constexpr auto kWarmUpTime = std::chrono::milliseconds(300);

struct Options {
    bool anew = false; // a connection for each request
    sockaddr_in server{};
    std::string name, roots;
    size_t at_a_time = 0;
    std::chrono::milliseconds time{};
    pid_t proxy = 0;
};

// For how long a process has run on a processor, all its threads together.
Result<std::chrono::nanoseconds> run_time(pid_t pid) {
    clockid_t clock = 0;
    timespec time{};
    if (int code = ::clock_getcpuclockid(pid, &clock); code != 0)
        return errno_error(code, cat("the clock of process ", pid));
    if (::clock_gettime(clock, &time) < 0) return errno_error(cat("the clock of process ", pid));
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// The content of a body in chunks, or nothing while it is not whole.
std::optional<std::string> content_of(std::string_view chunks) {
    std::string content;
    for (;;) {
        size_t end = chunks.find("\r\n"), size = 0;
        if (end == std::string_view::npos) return std::nullopt;
        const char* first = std::to_address(chunks.begin());
        auto read = std::from_chars(first, first + end, size, 16);
        if (read.ec != std::errc() || chunks.size() < end + 4 + size) return std::nullopt;
        if (size == 0) return content;
        content += chunks.substr(end + 2, size);
        chunks.remove_prefix(end + 4 + size);
    }
}

class Load {
public:
    Load(Loop& loop, const Options& options)
        : loop_(loop), options_(options), context_(SSL_CTX_new(TLS_client_method())),
          request_(cat("GET /v1/findings?topic=water HTTP/1.1\r\nHost: ", options.name,
                       "\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n")),
          body_(answer_body()) {}
    ~Load() {
        clients_.clear();
        SSL_CTX_free(context_);
    }

    Result<> run() {
        SSL_CTX_set_read_ahead(context_, 1); // one system call a record
        SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
        if (SSL_CTX_load_verify_file(context_, options_.roots.c_str()) != 1)
            return tls_error(cat("read ", options_.roots));
        clients_.resize(options_.at_a_time);
        for (auto& client : clients_) TRY(open(client));
        TRY(until([this] { return open_ >= clients_.size(); }, Clock::now() + kOpeningTime));
        if (open_ < clients_.size()) return error("not every connection was open in time");
        going_ = true;
        if (!options_.anew)
            for (auto& client : clients_) TRY(send(client));
        TRY(until([] { return false; }, Clock::now() + kWarmUpTime));
        took_.clear();
        auto proxy = TRY(run_time(options_.proxy));
        auto begin = Clock::now();
        TRY(until([] { return false; }, begin + options_.time));
        auto spent = std::chrono::nanoseconds(Clock::now() - begin);
        proxy = TRY(run_time(options_.proxy)) - proxy;
        auto middle = took_.begin() + static_cast<std::ptrdiff_t>(took_.size() / 2);
        std::ranges::nth_element(took_, middle);
        std::puts(cat(R"({"answered": )", took_.size(), R"(, "ns": )", spent.count(), R"(, "proxy_ns": )",
                      proxy.count(), R"(, "p50_ns": )", took_.empty() ? 0 : middle->count(), "}")
                      .c_str());
        return {};
    }

private:
    struct Client {
        std::unique_ptr<TlsEnd> end;
        bool open = false, ending = false;
        std::string received;
        Clock::time_point asked;
        Watch watch; // after what it watches: dropped first
    };

    template <typename Is>
    Result<> until(Is is, Clock::time_point deadline) {
        while (!is() && Clock::now() < deadline) {
            TRY(loop_.run_once(std::chrono::milliseconds(5)));
            TRY(std::exchange(failed_, Result<>()));
        }
        return {};
    }

    Result<> open(Client& client) {
        // Blocking: a handshake of TCP on loopback needs nobody's time but ours.
        Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&options_.server), sizeof options_.server) <
            0)
            return errno_error("connect");
        TRY(set_nonblocking(fd.get()));
        int on = 1, number = fd.get();
        ::setsockopt(number, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        client.watch.drop();
        client.end = std::make_unique<TlsEnd>(context_, std::move(fd), SSL_set_connect_state);
        client.end->expect(options_.name);
        client.open = client.ending = false;
        client.received.clear();
        client.watch = TRY(loop_.watch(number, EPOLLIN, [this, &client](uint32_t) {
            if (auto went = step(client); !went) failed_ = went;
        }));
        return step(client); // where the answer is there at once, no event tells
    }

    Result<> send(Client& client) {
        client.asked = Clock::now();
        if (!client.end->write(request_)) return tls_error("send a request");
        return {};
    }

    Result<> step(Client& client) {
        if (!client.open) {
            auto state = client.end->handshake();
            if (state == TlsEnd::State::Waiting) return {};
            if (state == TlsEnd::State::Over) return tls_error("the handshake");
            client.open = true;
            open_ += going_ ? 0 : 1;
            return options_.anew ? send(client) : Result<>();
        }
        auto state = client.end->read(client.received);
        if (state == TlsEnd::State::Waiting) return {};
        if (state == TlsEnd::State::Over) return tls_error("wait for an answer");
        if (!TRY(whole(client.received))) return {};
        took_.emplace_back(Clock::now() - client.asked);
        client.received.clear();
        if (!options_.anew) return send(client);
        client.end->end();
        return open(client);
    }

    // One request is under way, so one answer is all that can be there.
    Result<bool> whole(std::string_view answer) const {
        size_t end = answer.find("\r\n\r\n");
        if (end == std::string_view::npos) return false;
        if (!answer.starts_with("HTTP/1.1 200 "))
            return error(cat("not the server's answer: ", printable(answer.substr(0, end), 200)));
        auto head = answer.substr(0, end), body = answer.substr(end + 4);
        // egress passes answers on in chunks where a secret might have to be taken out of them.
        auto content = head.contains("Transfer-Encoding: chunked") ? content_of(body) : std::string(body);
        if (!content || content->size() < body_.size()) return false;
        if (*content != body_) return error("the answer's body is not what the server sent");
        return true;
    }

    Loop& loop_;
    const Options& options_;
    SSL_CTX* context_;
    std::string request_, body_;
    std::vector<Client> clients_;
    size_t open_ = 0;
    std::vector<std::chrono::nanoseconds> took_; // each answer
    bool going_ = false;
    Result<> failed_;
};

bool parse(char** arguments, Options& options) {
    std::string_view what = arguments[1];
    options.anew = what == "connections";
    options.server.sin_family = AF_INET;
    options.server.sin_port = htons(static_cast<uint16_t>(parse_number(arguments[3], 1, 65535).value_or(0)));
    options.name = arguments[4];
    options.roots = arguments[5];
    options.at_a_time = static_cast<size_t>(parse_number(arguments[6], 1, 4096).value_or(0));
    options.time = std::chrono::milliseconds(parse_number(arguments[7], 1, 60'000).value_or(0));
    options.proxy = static_cast<pid_t>(parse_number(arguments[8], 1, INT32_MAX).value_or(0));
    return (options.anew || what == "requests") && options.at_a_time > 0 && options.time.count() > 0 &&
           options.proxy > 0 && ::inet_pton(AF_INET, arguments[2], &options.server.sin_addr) == 1 &&
           options.server.sin_port != 0;
}

} // namespace
} // namespace nullbox::bench

int main(int count, char** arguments) {
    using namespace nullbox;
    bench::Options options;
    if (count != 9 || !bench::parse(arguments, options)) {
        log_error("usage: bench_tls_load requests|connections ADDRESS PORT NAME ROOTS AT_A_TIME MS PROXY");
        return 2;
    }
    ::signal(SIGPIPE, SIG_IGN);
    auto loop = Loop::make();
    auto done = loop ? bench::Load(**loop, options).run() : Result<>(loop.error());
    if (!done) log_error(done.error().message);
    return done ? 0 : 1;
}
