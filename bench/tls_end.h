// One end of a TLS connection of the proxy benches' load and server: a nonblocking socket with OpenSSL right
// on its descriptor, so that the two ends cost as little as they can and the proxy between them is what is
// measured. Messages are small: what does not fit into the socket's buffer at once is a failure.
#pragma once

#include <openssl/ssl.h>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace nullbox::bench {

// What the server answers with. The load compares every answer with it.
std::string answer_body();

// OpenSSL's own words for what went wrong last.
Error tls_error(std::string_view what);

class TlsEnd {
public:
    enum class State { Done, Waiting, Over };

    // side: SSL_set_connect_state or SSL_set_accept_state. The context must outlive this.
    TlsEnd(SSL_CTX* context, Fd fd, void (*side)(SSL*));
    ~TlsEnd();
    TlsEnd(const TlsEnd&) = delete;
    TlsEnd& operator=(const TlsEnd&) = delete;

    // The server's name, sent and, if the context verifies, demanded of its certificate.
    void expect(const std::string& name);
    State handshake();                    // Done: open
    State read(std::string& into);        // Done: something was added
    bool write(std::string_view message); // all of it
    void end();                           // a polite close: close_notify, then the socket's sending side
    int fd() const { return fd_.get(); }

private:
    State state_of(int answer) const;
    Fd fd_;
    SSL* ssl_;
};

} // namespace nullbox::bench
