// What the proxy stands between, for tests: an agent's program and a server outside, each with blocking
// sockets and OpenSSL's own TLS, so that nothing of the proxy's code judges itself; and a warden that answers
// as told.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <openssl/types.h>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "egress/proxy.h"
#include "egress/upstream.h"

namespace nullbox::egress {

// A connection to loopback, by TLS or not. Every call waits at most a few seconds.
class TestClient {
public:
    explicit TestClient(uint16_t port);
    ~TestClient();
    TestClient(const TestClient&) = delete;
    // Trusts only roots (PEM). Returns OpenSSL's words for a failure, empty: done.
    std::string tls(const std::string& server_name, const std::string& roots, unsigned extra_extension = 0,
                    const char* groups = nullptr,
                    std::string_view protocols = {}); // of ALPN, each with its length before it
    std::string protocol() const;                     // that was chosen
    void send(std::string_view bytes);
    void end(); // our sending side
    // Until so many bytes, the text, or the end.
    std::string receive_until(std::string_view text);
    std::string receive_all();
    // A request, and its whole answer by Content-Length, chunks or the close.
    std::string exchange(std::string_view request);
    bool ended(); // the peer has closed

private:
    size_t read_some();
    Fd fd_;
    SSL_CTX* context_ = nullptr;
    SSL* ssl_ = nullptr;
    std::string buffer_;
    bool over_ = false;
};

// Serves each connection in a thread: reads a request (head and Content-Length or chunked body, raw), gives
// what the handler returns for it, piece by piece, and goes on until the client ends.
class TestOrigin {
public:
    using Handler = std::function<std::vector<std::string>(const std::string& request)>;
    // context: null for plain TCP; it must outlive this.
    TestOrigin(SSL_CTX* context, Handler handler);
    ~TestOrigin();
    uint16_t port() const { return port_; }
    std::vector<std::string> requests();
    std::string all_bytes(); // that clients sent, after TLS
    int connections() const { return connections_; }
    // Instead of requests: what to do with a connection's raw socket.
    std::function<void(int fd)> raw;

private:
    void serve(Fd fd);
    Fd listener_;
    uint16_t port_ = 0;
    SSL_CTX* context_;
    Handler handler_;
    std::mutex mutex_;
    std::vector<std::string> requests_;
    std::string bytes_;
    std::atomic<int> connections_ = 0;
    std::atomic<bool> over_ = false;
    std::thread accepting_;
    std::vector<std::thread> threads_;
};

// io.nullbox.warden's Injection, in a thread of its own.
class TestWarden {
public:
    explicit TestWarden(const std::string& socket_path);
    ~TestWarden();
    struct Item {
        std::string header, value, secret;
    };
    void grant(std::string host, std::vector<Item> items);
    void fail(std::string error); // "Locked"; empty: no more
    int asked() const { return asked_; }
    std::string agent();           // that was named last
    std::atomic<int> takes_ms = 0; // for each answer

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
    std::atomic<int> asked_ = 0;
};

// What a real TLS client sends first. name: none if it is null.
std::string real_hello(const char* name, unsigned extension = 0);
std::string reply(std::string_view body, std::string_view more_fields = "");

} // namespace nullbox::egress
