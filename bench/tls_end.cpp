#include "tls_end.h"

#include <array>
#include <openssl/err.h>
#include <sys/socket.h>

#include "base/text.h"

namespace nullbox::bench {

constexpr size_t kBodyBytes = 512;
constexpr size_t kReadBytes = size_t{16} << 10;

std::string answer_body() {
    std::string body;
    while (body.size() < kBodyBytes) body += R"({"title":"water","value":42},)";
    body.resize(kBodyBytes);
    return body;
}

Error tls_error(std::string_view what) {
    auto code = ERR_get_error();
    ERR_clear_error();
    const char* words = code ? ERR_reason_error_string(code) : nullptr;
    return error(cat(what, ": ", words ? words : "the connection ended"));
}

TlsEnd::TlsEnd(SSL_CTX* context, Fd fd, void (*side)(SSL*)) : fd_(std::move(fd)), ssl_(SSL_new(context)) {
    SSL_set_fd(ssl_, fd_.get());
    side(ssl_);
}

TlsEnd::~TlsEnd() { SSL_free(ssl_); }

void TlsEnd::expect(const std::string& name) {
    SSL_set_tlsext_host_name(ssl_, name.c_str());
    SSL_set1_host(ssl_, name.c_str());
}

TlsEnd::State TlsEnd::state_of(int answer) const {
    if (answer > 0) return State::Done;
    return SSL_get_error(ssl_, answer) == SSL_ERROR_WANT_READ ? State::Waiting : State::Over;
}

TlsEnd::State TlsEnd::handshake() { return state_of(SSL_do_handshake(ssl_)); }

TlsEnd::State TlsEnd::read(std::string& into) {
    static std::array<char, kReadBytes> buffer; // one thread
    bool added = false;
    do { // what OpenSSL holds already, no event tells
        int count = SSL_read(ssl_, buffer.data(), kReadBytes);
        if (count <= 0) return added ? State::Done : state_of(count);
        into.append(buffer.data(), static_cast<size_t>(count));
        added = true;
    } while (SSL_has_pending(ssl_));
    return State::Done;
}

bool TlsEnd::write(std::string_view message) {
    return SSL_write(ssl_, message.data(), static_cast<int>(message.size())) ==
           static_cast<int>(message.size());
}

void TlsEnd::end() {
    SSL_shutdown(ssl_);
    ::shutdown(fd_.get(), SHUT_WR);
}

} // namespace nullbox::bench
