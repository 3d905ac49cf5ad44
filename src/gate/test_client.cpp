#include "gate/test_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/text.h"

namespace nullbox::gate {

constexpr timeval kPatience{.tv_sec = 8, .tv_usec = 0};

TestClient::TestClient(const Options& options) {
    socket_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(options.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
    if (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return;
    context_.reset(::SSL_CTX_new(::TLS_client_method()), ::SSL_CTX_free);
    if (options.identity && !net::use_tls(context_.get(), *options.identity, trusts_).has_value()) return;
    if (options.tls12) {
        ::SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
        ::SSL_CTX_set_max_proto_version(context_.get(), TLS1_2_VERSION);
    }
    tls_.reset(::SSL_new(context_.get()), ::SSL_free);
    ::SSL_set_fd(tls_.get(), socket_.get());
    connected_ = ::SSL_connect(tls_.get()) == 1;
    if (!connected_) return;
    if (auto key = net::peer_public_key(tls_.get()); key.has_value())
        box_fingerprint_ = net::fingerprint(*key);
}

TestClient::~TestClient() = default;

bool TestClient::send(std::string_view bytes) {
    return bytes.empty() ||
           (connected_ && ::SSL_write(tls_.get(), bytes.data(), static_cast<int>(bytes.size())) > 0);
}

bool TestClient::read_some() {
    char bytes[4096];
    int count = connected_ && !over_ ? ::SSL_read(tls_.get(), bytes, sizeof bytes) : 0;
    if (count > 0) buffer_.append(bytes, static_cast<size_t>(count));
    over_ = over_ || count <= 0;
    return count > 0;
}

std::string TestClient::read_until(std::string_view separator) {
    size_t end = 0;
    while ((end = buffer_.find(separator)) == std::string::npos)
        if (!read_some()) return std::exchange(buffer_, {});
    auto found = buffer_.substr(0, end + separator.size());
    buffer_.erase(0, found.size());
    return found;
}

std::string TestClient::read_exactly(size_t bytes) {
    while (buffer_.size() < bytes && read_some()) {
    }
    auto found = buffer_.substr(0, bytes);
    buffer_.erase(0, found.size());
    return found;
}

HttpAnswer TestClient::answer() {
    HttpAnswer answer{.head = read_until("\r\n\r\n")};
    if (!answer.head.starts_with("HTTP/1.1 ")) return answer;
    answer.status = static_cast<int>(parse_number(answer.head.substr(9, 3), 100, 599).value_or(0));
    constexpr std::string_view kLength = "Content-Length: ";
    if (auto at = answer.head.find(kLength); at != std::string::npos) {
        auto number = std::string_view(answer.head).substr(at + kLength.size());
        number = number.substr(0, number.find('\r'));
        answer.body = read_exactly(static_cast<size_t>(parse_number(number, 0, 1 << 30).value_or(0)));
    }
    return answer;
}

HttpAnswer TestClient::ask(std::string_view verb, std::string_view target, std::string_view body,
                           std::string_view headers) {
    (void)send(cat(verb, " ", target, " HTTP/1.1\r\nHost: box\r\nContent-Length: ", body.size(), "\r\n",
                   headers, "\r\n", body));
    return answer();
}

bool TestClient::ended() {
    while (read_some()) {
    }
    // Not merely that our patience is over, or that TLS has ended.
    if (!socket_) return true;
    char bytes[256];
    ssize_t count = 0;
    while ((count = ::recv(socket_.get(), bytes, sizeof bytes, 0)) > 0) {
    }
    return count == 0 || errno == ECONNRESET;
}

void TestClient::end() { ::shutdown(socket_.get(), SHUT_WR); }

void TestClient::cut() {
    linger none{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
    socket_.reset();
    over_ = true;
}

} // namespace nullbox::gate
