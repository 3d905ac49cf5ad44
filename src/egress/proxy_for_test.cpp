#include "egress/proxy_for_test.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/text.h"
#include "egress/scrubber.h"
#include "varlink/server.h"

namespace nullbox::egress {

static void limit_waiting(int fd) {
    timeval limit{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

TestClient::TestClient(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    limit_waiting(fd_.get());
    if (::connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) over_ = true;
}

TestClient::~TestClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
}

static std::string openssl_words() {
    auto code = ERR_get_error();
    ERR_clear_error();
    const char* words = code ? ERR_reason_error_string(code) : nullptr;
    return words ? words : "ended";
}

std::string TestClient::tls(const std::string& server_name, const std::string& roots,
                            unsigned extra_extension, const char* groups, std::string_view protocols) {
    context_ = SSL_CTX_new(TLS_client_method());
    auto* bio = BIO_new_mem_buf(roots.data(), static_cast<int>(roots.size()));
    auto* root = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), root);
    X509_free(root);
    BIO_free(bio);
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    if (extra_extension)
        SSL_CTX_add_custom_ext(
            context_, extra_extension, SSL_EXT_CLIENT_HELLO,
            [](SSL*, unsigned, unsigned, const unsigned char** out, size_t* size, X509*, size_t, int*,
               void*) {
                *out = nullptr;
                *size = 0;
                return 1;
            },
            nullptr, nullptr, nullptr, nullptr);
    ssl_ = SSL_new(context_);
    if (groups) SSL_set1_groups_list(ssl_, groups);
    if (!protocols.empty())
        SSL_set_alpn_protos(ssl_, reinterpret_cast<const unsigned char*>(protocols.data()),
                            static_cast<unsigned>(protocols.size()));
    if (!server_name.empty()) SSL_set_tlsext_host_name(ssl_, server_name.c_str());
    SSL_set1_host(ssl_, server_name.c_str());
    SSL_set_fd(ssl_, fd_.get());
    ERR_clear_error();
    return SSL_connect(ssl_) == 1 ? "" : openssl_words();
}

std::string TestClient::protocol() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_, &name, &size);
    return {reinterpret_cast<const char*>(name), size};
}

void TestClient::send(std::string_view bytes) {
    if (ssl_)
        SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
    else
        ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

void TestClient::end() {
    if (ssl_) SSL_shutdown(ssl_);
    ::shutdown(fd_.get(), SHUT_WR);
}

size_t TestClient::read_some() {
    char bytes[16384];
    auto count =
        ssl_ ? SSL_read(ssl_, bytes, sizeof bytes) : static_cast<int>(::read(fd_.get(), bytes, sizeof bytes));
    if (count <= 0) {
        over_ = true;
        return 0;
    }
    buffer_.append(bytes, static_cast<size_t>(count));
    return static_cast<size_t>(count);
}

std::string TestClient::receive_until(std::string_view text) {
    while (!over_ && !buffer_.contains(text)) read_some();
    size_t at = buffer_.find(text);
    size_t size = at == std::string::npos ? buffer_.size() : at + text.size();
    auto out = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return out;
}

std::string TestClient::receive_all() {
    while (!over_) read_some();
    return std::exchange(buffer_, {});
}

std::string TestClient::exchange(std::string_view request) {
    send(request);
    auto head = receive_until("\r\n\r\n");
    bool head_only = request.starts_with("HEAD ") || head.contains(" 204 ") || head.contains(" 304 ");
    if (head_only) return head;
    if (head.contains("Transfer-Encoding: chunked")) return head + receive_until("0\r\n\r\n");
    size_t at = head.find("Content-Length: ");
    if (at == std::string::npos) return head + receive_all();
    auto size = static_cast<size_t>(std::atol(head.c_str() + at + 16));
    while (!over_ && buffer_.size() < size) read_some();
    auto body = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return head + body;
}

bool TestClient::ended() {
    while (!over_) read_some();
    return true;
}

TestOrigin::TestOrigin(SSL_CTX* context, Handler handler)
    : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), context_(context),
      handler_(std::move(handler)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size);
    ::listen(listener_.get(), 64);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] {
        while (!over_) {
            pollfd polled{.fd = listener_.get(), .events = POLLIN};
            if (::poll(&polled, 1, 20) <= 0) continue;
            Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (!fd) continue;
            connections_++;
            limit_waiting(fd.get());
            threads_.emplace_back([this, taken = fd.release()] { serve(Fd(taken)); });
        }
    });
}

TestOrigin::~TestOrigin() {
    over_ = true;
    accepting_.join();
    for (auto& thread : threads_) thread.join();
}

std::vector<std::string> TestOrigin::requests() {
    std::lock_guard lock(mutex_);
    return requests_;
}

std::string TestOrigin::all_bytes() {
    std::lock_guard lock(mutex_);
    return bytes_;
}

// How long the first request in the bytes is; 0: not whole yet.
static size_t request_size(const std::string& bytes) {
    size_t end = bytes.find("\r\n\r\n");
    if (end == std::string::npos) return 0;
    end += 4;
    auto head = bytes.substr(0, end);
    if (size_t at = head.find("Content-Length: "); at != std::string::npos) {
        size_t size = end + static_cast<size_t>(std::atol(head.c_str() + at + 16));
        return bytes.size() >= size ? size : 0;
    }
    if (!head.contains("Transfer-Encoding: chunked")) return end;
    size_t last = bytes.find("\r\n0\r\n\r\n", end - 2);
    return last == std::string::npos ? 0 : last + 7;
}

void TestOrigin::serve(Fd fd) {
    if (raw) return raw(fd.get());
    SSL* ssl = context_ ? SSL_new(context_) : nullptr;
    if (ssl) SSL_set_fd(ssl, fd.get());
    bool open = !ssl || SSL_accept(ssl) == 1;
    std::string held;
    char bytes[16384];
    while (open && !over_) {
        auto count = ssl ? SSL_read(ssl, bytes, sizeof bytes)
                         : static_cast<int>(::read(fd.get(), bytes, sizeof bytes));
        if (count <= 0) break;
        held.append(bytes, static_cast<size_t>(count));
        {
            std::lock_guard lock(mutex_);
            bytes_.append(bytes, static_cast<size_t>(count));
        }
        while (size_t size = request_size(held)) {
            auto request = held.substr(0, size);
            held.erase(0, size);
            {
                std::lock_guard lock(mutex_);
                requests_.push_back(request);
            }
            for (const auto& piece : handler_(request)) {
                if (piece.empty()) { // an empty piece: the server closes
                    open = false;
                    break;
                }
                if (ssl)
                    SSL_write(ssl, piece.data(), static_cast<int>(piece.size()));
                else
                    ::send(fd.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
                ::usleep(3000); // so that pieces arrive as such
            }
        }
    }
    if (ssl) SSL_shutdown(ssl);
    SSL_free(ssl);
}

struct TestWarden::Impl {
    std::unique_ptr<Loop> loop = *Loop::make();
    std::mutex mutex;
    std::map<std::string, std::vector<Item>> grants;
    std::string error, agent;
    std::atomic<bool> over = false;
    std::unique_ptr<varlink::Server> server;
    std::thread thread;
};

TestWarden::TestWarden(const std::string& socket_path) : impl_(std::make_unique<Impl>()) {
    namespace json = boost::json;
    auto answer = [this](varlink::Call call) {
        asked_++;
        std::this_thread::sleep_for(std::chrono::milliseconds(takes_ms));
        std::lock_guard lock(impl_->mutex);
        impl_->agent = std::string(call.parameters().at("agent").get_string());
        if (!impl_->error.empty())
            return call.error(cat("io.nullbox.warden.", impl_->error), "as the test wants it");
        json::array items;
        for (const auto& item : impl_->grants[std::string(call.parameters().at("host").get_string())])
            items.push_back(json::object{
                {"header", item.header}, {"value_base64", base64(item.value)}, {"secret", item.secret}});
        call.reply({{"items", std::move(items)}});
    };
    impl_->server =
        *varlink::Server::listen(*impl_->loop, socket_path, {.product = "test", .version = "0"},
                                 {.name = "io.nullbox.warden",
                                  .description = "interface io.nullbox.warden\nmethod Injection() -> ()\n",
                                  .methods = {{.name = "Injection", .handle = answer}}});
    impl_->thread = std::thread([this] {
        while (!impl_->over) (void)impl_->loop->run_once(std::chrono::milliseconds(20));
    });
}

TestWarden::~TestWarden() {
    impl_->over = true;
    impl_->thread.join();
}

void TestWarden::grant(std::string host, std::vector<Item> items) {
    std::lock_guard lock(impl_->mutex);
    impl_->grants[std::move(host)] = std::move(items);
}

void TestWarden::fail(std::string error) {
    std::lock_guard lock(impl_->mutex);
    impl_->error = std::move(error);
}

std::string TestWarden::agent() {
    std::lock_guard lock(impl_->mutex);
    return impl_->agent;
}

std::string real_hello(const char* name, unsigned extension) {
    auto* context = SSL_CTX_new(TLS_client_method());
    if (extension)
        SSL_CTX_add_custom_ext(
            context, extension, SSL_EXT_CLIENT_HELLO,
            [](SSL*, unsigned, unsigned, const unsigned char** out, size_t* size, X509*, size_t, int*,
               void*) {
                static const unsigned char kBytes[] = {0, 1, 2, 3};
                *out = kBytes;
                *size = sizeof kBytes;
                return 1;
            },
            nullptr, nullptr, nullptr, nullptr);
    auto* ssl = SSL_new(context);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    if (name) SSL_set_tlsext_host_name(ssl, name);
    SSL_connect(ssl);
    char* data = nullptr;
    auto size = BIO_get_mem_data(SSL_get_wbio(ssl), &data);
    std::string hello(data, static_cast<size_t>(size));
    SSL_free(ssl);
    SSL_CTX_free(context);
    return hello;
}

std::string reply(std::string_view body, std::string_view more_fields) {
    return cat("HTTP/1.1 200 OK\r\nContent-Length: ", body.size(), "\r\n", more_fields, "\r\n", body);
}

} // namespace nullbox::egress
