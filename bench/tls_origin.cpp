// The server behind the proxies of bench/proxy.py: bench_tls_origin ADDRESS PORT CERTIFICATE KEY KEYED SECRET
//
// Every request gets the same answer. A request whose Host is KEYED must bring the secret as a bearer token,
// or it is refused, which the load counts as a failure: a proxy that does not do its work has no speed.
#include <arpa/inet.h>
#include <csignal>
#include <map>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/service.h"
#include "base/text.h"
#include "tls_end.h"

namespace nullbox::bench {
namespace {

struct Options {
    std::string address;
    uint16_t port = 0;
    std::string certificate, key, keyed, secret;
};

class Origin {
public:
    static Result<std::unique_ptr<Origin>> make(Loop& loop, const Options& options) {
        std::unique_ptr<Origin> origin(new Origin(loop, options));
        TRY(origin->prepare());
        TRY(origin->listen());
        return origin;
    }
    ~Origin() {
        accepting_.drop();
        connections_.clear();
        SSL_CTX_free(context_);
    }

private:
    struct Connection {
        std::unique_ptr<TlsEnd> end;
        bool open = false;
        std::string received;
        Watch watch; // after what it watches: dropped first
    };

    Origin(Loop& loop, const Options& options)
        : loop_(loop), options_(options), context_(SSL_CTX_new(TLS_server_method())),
          token_(cat("Bearer ", options.secret, "\r\n")) {
        auto body = answer_body();
        answer_ = cat("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ", body.size(),
                      "\r\n\r\n", body);
    }

    Result<> prepare() {
        SSL_CTX_set_read_ahead(context_, 1); // one system call a record
        SSL_CTX_set_num_tickets(context_, 0);
        if (SSL_CTX_use_certificate_chain_file(context_, options_.certificate.c_str()) != 1 ||
            SSL_CTX_use_PrivateKey_file(context_, options_.key.c_str(), SSL_FILETYPE_PEM) != 1)
            return tls_error(cat("load ", options_.certificate, " and ", options_.key));
        return {};
    }

    Result<> listen() {
        listener_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(options_.port)};
        int on = 1;
        ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (::inet_pton(AF_INET, options_.address.c_str(), &address.sin_addr) != 1 ||
            ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ||
            ::listen(listener_.get(), 1024) < 0)
            return errno_error(cat("listen at ", options_.address, " port ", options_.port));
        accepting_ = TRY(loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); }));
        return {};
    }

    void accept() {
        for (;;) {
            Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (!fd) return;
            int number = fd.get(), on = 1;
            ::setsockopt(number, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            auto& connection = connections_[number];
            connection.end = std::make_unique<TlsEnd>(context_, std::move(fd), SSL_set_accept_state);
            auto watch = loop_.watch(number, EPOLLIN, [this, number](uint32_t) { serve(number); });
            if (watch)
                connection.watch = *std::move(watch);
            else
                connections_.erase(number);
        }
    }

    void serve(int number) {
        auto& connection = connections_[number];
        if (!step(connection)) connections_.erase(number);
    }

    bool step(Connection& connection) {
        if (!connection.open) {
            auto state = connection.end->handshake();
            if (state != TlsEnd::State::Done) return state == TlsEnd::State::Waiting;
            connection.open = true;
        }
        auto state = connection.end->read(connection.received);
        if (state != TlsEnd::State::Done) {
            if (state == TlsEnd::State::Over) connection.end->end();
            return state == TlsEnd::State::Waiting;
        }
        for (;;) {
            size_t end = connection.received.find("\r\n\r\n");
            if (end == std::string::npos) return true;
            auto head = std::string_view(connection.received).substr(0, end + 4);
            bool refused = head.contains(options_.keyed) && !head.contains(token_);
            if (!connection.end->write(refused ? kRefusal : answer_)) return false;
            connection.received.erase(0, end + 4);
        }
    }

    static constexpr std::string_view kRefusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    Loop& loop_;
    const Options& options_;
    SSL_CTX* context_;
    std::string token_, answer_;
    Fd listener_;
    Watch accepting_;
    std::map<int, Connection> connections_;
};

} // namespace
} // namespace nullbox::bench

int main(int count, char** arguments) {
    using namespace nullbox;
    if (count != 7) {
        log_error("usage: bench_tls_origin ADDRESS PORT CERTIFICATE KEY KEYED SECRET");
        return 2;
    }
    bench::Options options{.address = arguments[1],
                           .port = static_cast<uint16_t>(parse_number(arguments[2], 1, 65535).value_or(0)),
                           .certificate = arguments[3],
                           .key = arguments[4],
                           .keyed = arguments[5],
                           .secret = arguments[6]};
    ::signal(SIGPIPE, SIG_IGN);
    return run_service("bench_tls_origin", [&](Service& service) -> Result<> {
        auto origin = TRY(bench::Origin::make(service.loop(), options));
        service.ready();
        return service.serve();
    });
}
