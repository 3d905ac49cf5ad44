// A TLS client for tests: OpenSSL itself on a blocking socket, so that what gate answers is judged by
// somebody else's eyes. Every wait has a limit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "net/identity.h"

struct ssl_st;
struct ssl_ctx_st;

namespace nullbox::gate {

struct HttpAnswer {
    int status = 0; // 0: the connection ended first
    std::string head, body;
};

class TestClient {
public:
    struct Options {
        uint16_t port = 0;
        const net::Identity* identity = nullptr; // none: no certificate
        bool tls12 = false;
    };
    explicit TestClient(const Options& options);
    ~TestClient();
    TestClient(const TestClient&) = delete;
    TestClient& operator=(const TestClient&) = delete;

    bool connected() const { return connected_; } // TCP and our side of TLS
    const std::string& box_fingerprint() const { return box_fingerprint_; }
    bool send(std::string_view bytes);
    // Until the separator, the end, or the time is over.
    std::string read_until(std::string_view separator);
    HttpAnswer answer();
    HttpAnswer ask(std::string_view verb, std::string_view target, std::string_view body = {},
                   std::string_view headers = {});
    // True if the peer ends the connection within the time.
    bool ended();
    void end(); // sends no more, and does not close
    void cut(); // a reset, as a pulled cable does not even send

private:
    std::string read_exactly(size_t bytes);
    bool read_some();

    Fd socket_;
    std::shared_ptr<ssl_ctx_st> context_;
    std::shared_ptr<ssl_st> tls_;
    bool connected_ = false, over_ = false;
    std::string buffer_, box_fingerprint_;
    std::function<bool(std::string_view)> trusts_ = [](std::string_view) { return true; };
};

} // namespace nullbox::gate
