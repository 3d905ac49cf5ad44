#include "egress/stream.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <memory>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/text.h"

namespace nullbox::egress {

constexpr size_t kReceiveBytes = size_t{64} << 10;
constexpr size_t kTlsRecordBytes = size_t{16} << 10; // of content

static Error used_up() { return error("the agent's budget of bytes is used up"); }

Task<Result<std::string_view>> TcpStream::receive() {
    // One for all connections: it is used between two waits only.
    static std::array<char, kReceiveBytes> buffer;
    for (;;) {
        if (!co_await socket_.readable()) co_return errno_error(ECANCELED, "receive");
        auto count = socket_.receive(buffer);
        if (count >= 0) {
            overflows_ = count == static_cast<ssize_t>(buffer.size());
            deadline_->touch();
            traffic_->received += static_cast<size_t>(count);
            if (!traffic_->take(static_cast<size_t>(count))) co_return used_up();
            co_return std::string_view(buffer.data(), static_cast<size_t>(count));
        }
        if (errno != EAGAIN) co_return errno_error("receive");
    }
}

Task<bool> TcpStream::ready() { co_return co_await socket_.readable(); }

// What the kernel takes without a wait is gone from bytes afterwards. False: it takes no more now.
Result<bool> TcpStream::send_now(std::string_view& bytes) {
    while (!bytes.empty()) {
        auto count = socket_.send(bytes);
        if (count < 0 && errno == EAGAIN) return false;
        if (count < 0) return errno_error("send");
        bytes.remove_prefix(static_cast<size_t>(count));
        traffic_->sent += static_cast<size_t>(count);
        deadline_->touch();
    }
    return true;
}

Task<Result<>> TcpStream::write(std::string_view bytes) {
    if (!traffic_->take(bytes.size())) co_return used_up();
    auto sent = send_now(bytes);
    if (!sent) co_return sent.error();
    if (*sent) co_return Result<>();
    std::string kept(bytes);
    bytes = kept;
    while (!*sent) {
        if (!co_await socket_.writable()) co_return errno_error(ECANCELED, "send");
        sent = send_now(bytes);
        if (!sent) co_return sent.error();
    }
    co_return Result<>();
}

// Of a pipe with so many in it.
Task<Result<>> TcpStream::send_from(int pipe, size_t bytes) {
    while (bytes > 0) {
        auto count = socket_.send_from(pipe, bytes);
        if (count < 0 && errno != EAGAIN) co_return errno_error("send");
        if (count < 0 && !co_await socket_.writable()) co_return errno_error(ECANCELED, "send");
        if (count < 0) continue;
        bytes -= static_cast<size_t>(count);
        traffic_->sent += static_cast<size_t>(count);
        deadline_->touch();
    }
    co_return Result<>();
}

Task<Result<>> TcpStream::move_to(TcpStream& to) {
    auto pipe = make_pipe(O_NONBLOCK);
    if (!pipe) co_return Result<>(); // no descriptors left: receive() and write() do it
    for (unsigned in_a_row = 1;; in_a_row++) {
        auto count = socket_.receive_into(pipe->write.get(), kReceiveBytes);
        if (count <= 0) co_return Result<>(); // receive() knows why
        auto bytes = static_cast<size_t>(count);
        deadline_->touch();
        traffic_->received += bytes;
        if (!traffic_->take(bytes) || !to.traffic_->take(bytes)) co_return used_up();
        if (auto sent = co_await to.send_from(pipe->read.get(), bytes); !sent) co_return sent;
        if (in_a_row % Socket::kMostInARow == 0) co_await yield(socket_.loop());
    }
}

Task<void> TcpStream::end() {
    socket_.end();
    co_return;
}

// What OpenSSL reads from and writes to.
BIO_METHOD* TlsStream::bio_method() {
    static BIO_METHOD* const method = [] {
        BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "TlsStream");
        if (!made) return made;
        static constexpr auto stream = [](BIO* bio) { return static_cast<TlsStream*>(BIO_get_data(bio)); };
        BIO_meth_set_read(made, [](BIO* bio, char* into, int most) {
            auto& unread = stream(bio)->unread_;
            BIO_clear_retry_flags(bio);
            if (unread.empty()) {
                BIO_set_retry_read(bio);
                return -1;
            }
            auto count = unread.copy(into, static_cast<size_t>(most));
            unread.remove_prefix(count);
            return static_cast<int>(count);
        });
        BIO_meth_set_write(made, [](BIO* bio, const char* from, int count) {
            stream(bio)->unsent_.append(from, static_cast<size_t>(count));
            return count;
        });
        BIO_meth_set_ctrl(made, [](BIO*, int what, long, void*) { return long{what == BIO_CTRL_FLUSH}; });
        return made;
    }();
    return method;
}

Result<std::unique_ptr<TlsStream>> TlsStream::make(SSL_CTX* context, TcpStream& lower,
                                                   std::string_view received) {
    SSL* ssl = SSL_new(context);
    if (!ssl) return error("TLS: out of memory");
    std::unique_ptr<TlsStream> stream(new TlsStream(ssl, lower));
    BIO* bio = bio_method() ? BIO_new(bio_method()) : nullptr;
    if (!bio) return error("TLS: out of memory");
    BIO_set_data(bio, stream.get());
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    stream->unread_ = received;
    stream->keep_unread();
    return stream;
}

TlsStream::TlsStream(SSL* ssl, TcpStream& lower) : ssl_(ssl), lower_(lower) {}

TlsStream::~TlsStream() { SSL_free(ssl_); }

Error TlsStream::failure(std::string_view what) const {
    auto verify = SSL_get_verify_result(ssl_);
    unsigned long code = ERR_get_error();
    ERR_clear_error();
    if (!SSL_is_server(ssl_) && verify != X509_V_OK)
        return error(
            cat(what, ": the server's certificate is not accepted: ", X509_verify_cert_error_string(verify)));
    const char* reason = code ? ERR_reason_error_string(code) : nullptr;
    return error(cat(what, ": ", reason ? reason : "the connection ended"));
}

// Sends what OpenSSL wants sent. Reader and writer may both come here: the bytes keep their order.
Task<Result<>> TlsStream::flush() {
    while (flushing_) {
        Condition waiting(lower_.socket().loop());
        flushed_ = &waiting;
        co_await waiting.wait();
    }
    flushing_ = true;
    Result<> sent;
    while (sent.has_value() && !unsent_.empty()) {
        auto bytes = std::exchange(unsent_, {});
        sent = co_await lower_.write(bytes);
    }
    flushing_ = false;
    if (auto* waiting = std::exchange(flushed_, nullptr)) waiting->notify();
    co_return sent;
}

// False: the lower stream ended. OpenSSL has asked for more than there was, so nothing is unread here.
Task<Result<bool>> TlsStream::receive_records() {
    auto bytes = co_await lower_.receive();
    if (!bytes) co_return bytes.error();
    unread_ = *bytes;
    co_return !bytes->empty();
}

// Before a wait: what came is in a buffer that is not ours.
void TlsStream::keep_unread() {
    if (unread_.empty())
        kept_ = std::string(); // its memory too
    else if (kept_.empty())
        unread_ = kept_ = unread_;
}

Task<Result<>> TlsStream::handshake() {
    for (;;) {
        ERR_clear_error();
        int done = SSL_do_handshake(ssl_);
        int want = SSL_get_error(ssl_, done);
        auto failed = done != 1 && want != SSL_ERROR_WANT_READ && want != SSL_ERROR_WANT_WRITE;
        auto why = failed ? failure("TLS handshake") : Error{};
        keep_unread();
        auto sent = co_await flush(); // an alert too
        if (failed) co_return why;
        if (!sent) co_return sent;
        if (done == 1) co_return Result<>();
        auto more = co_await receive_records();
        if (!more) co_return more.error();
        if (!*more) co_return error("TLS handshake: the connection ended in the middle");
    }
}

Task<Result<>> TlsStream::accept() {
    SSL_set_accept_state(ssl_);
    return handshake();
}

Task<Result<>> TlsStream::connect(const std::string& host) {
    SSL_set_connect_state(ssl_);
    SSL_set_hostflags(ssl_, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(ssl_, host.c_str()) != 1 || SSL_set_tlsext_host_name(ssl_, host.c_str()) != 1)
        co_return error("TLS: the host name is not accepted");
    SSL_set_verify(ssl_, SSL_VERIFY_PEER, nullptr);
    co_return co_await handshake();
}

std::string TlsStream::server_name() const {
    const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
    return name ? name : "";
}

bool TlsStream::quiet() const { return unread_.empty() && SSL_has_pending(ssl_) == 0; }

Task<bool> TlsStream::ready() {
    if (!quiet()) co_return true;
    co_return co_await lower_.ready();
}

Task<Result<std::string_view>> TlsStream::receive() {
    // One for all connections: it is used between two waits only.
    static std::array<char, kTlsRecordBytes> buffer;
    // Mostly nothing is here yet, and OpenSSL would be asked in vain.
    bool waits = quiet() && !(SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN);
    for (;; waits = true) {
        if (waits) {
            if (auto sent = co_await flush(); !sent) co_return sent.error();
            auto more = co_await receive_records();
            if (!more) co_return more.error();
            // Without a close_notify somebody may have cut the stream short.
            if (!*more) co_return error("TLS: the connection ended without an orderly end");
        }
        ERR_clear_error();
        int count = SSL_read(ssl_, buffer.data(), buffer.size());
        int want = count > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl_, count);
        keep_unread();
        if (count > 0) co_return std::string_view(buffer.data(), static_cast<size_t>(count));
        if (want == SSL_ERROR_ZERO_RETURN) co_return std::string_view();
        if (want != SSL_ERROR_WANT_READ && want != SSL_ERROR_WANT_WRITE) co_return failure("TLS");
    }
}

Task<Result<>> TlsStream::write(std::string_view bytes) {
    while (!bytes.empty()) {
        ERR_clear_error();
        int count = SSL_write(ssl_, bytes.data(), static_cast<int>(std::min(bytes.size(), kTlsRecordBytes)));
        if (count <= 0) co_return failure("TLS"); // there is always room; nothing waits here
        bytes.remove_prefix(static_cast<size_t>(count));
    }
    co_return co_await flush();
}

Task<void> TlsStream::end() {
    ERR_clear_error();
    SSL_shutdown(ssl_);
    (void)co_await flush();
    co_await lower_.end();
}

void BufferedReader::take(size_t count) {
    bytes_.erase(0, count);
    if (bytes_.empty()) bytes_ = std::string(); // its memory too
}

Task<Result<bool>> BufferedReader::fill() {
    auto bytes = co_await stream_.receive();
    if (!bytes) co_return bytes.error();
    bytes_ += *bytes;
    co_return !bytes->empty();
}

} // namespace nullbox::egress
