// Byte streams of a proxied connection: TCP, and TLS on top of it, behind one interface, so that what is done
// to HTTP is written once. Internal; one thread.
#pragma once

#include <openssl/bio.h>

#include "egress/socket.h"

namespace nullbox::egress {

// When a connection is to be closed for being idle. Whoever sweeps the connections looks at it.
struct Deadline {
    Clock::time_point at = Clock::now();
    Clock::duration idle{};
    // In this time from now, whatever happens.
    void limit(Clock::duration time) {
        idle = {};
        at = Clock::now() + time;
    }
    // In this time after the last byte that went through.
    void keep(Clock::duration time) {
        idle = time;
        at = Clock::now() + time;
    }
    void touch() {
        if (idle != Clock::duration{}) at = Clock::now() + idle;
    }
};

// Asked before bytes go on, in either direction.
class ByteAllowance {
public:
    virtual ~ByteAllowance() = default;
    virtual bool take_bytes(size_t count) = 0;
};

struct Traffic {
    uint64_t sent = 0, received = 0;
    ByteAllowance* allowance = nullptr; // none: no limit
    bool take(size_t count) const { return !allowance || allowance->take_bytes(count); }
};

class ByteStream {
public:
    virtual ~ByteStream() = default;
    // Bytes that came, good until the caller waits for anything; empty: the peer sends no more. One at a
    // time. Nothing is held for a connection on which nothing comes.
    virtual Task<Result<std::string_view>> receive() = 0;
    // Until receive() has something to give, which may be the end. False: it is broken.
    virtual Task<bool> ready() = 0;
    // All of it, which is sent or copied before this waits for anything. One at a time; receive() may go on
    // beside it.
    virtual Task<Result<>> write(std::string_view bytes) = 0;
    // We send no more; the peer may.
    virtual Task<void> end() = 0;
};

class TcpStream final : public ByteStream {
public:
    TcpStream(Socket socket, Deadline& deadline, Traffic& traffic)
        : socket_(std::move(socket)), deadline_(&deadline), traffic_(&traffic) {}
    // From now on, while nobody waits for it: what flows counts for these.
    void belong_to(Deadline& deadline, Traffic& traffic) {
        deadline_ = &deadline;
        traffic_ = &traffic;
    }
    Task<Result<std::string_view>> receive() override;
    Task<bool> ready() override;
    Task<Result<>> write(std::string_view bytes) override;
    Task<void> end() override;
    // The last receive() filled its buffer: there is more than this can take out at once.
    bool overflows() const { return overflows_; }
    // What more there is goes on to the other one and stays in the kernel, until there is no more for now.
    Task<Result<>> move_to(TcpStream& to);
    Socket& socket() { return socket_; }

private:
    Result<bool> send_now(std::string_view& bytes);
    Task<Result<>> send_from(int pipe, size_t bytes);
    Socket socket_;
    Deadline* deadline_;
    Traffic* traffic_;
    bool overflows_ = false;
};

// TLS by OpenSSL, whose bytes go through the lower stream here. Between two records nothing is kept but its
// state: no buffer of either direction.
class TlsStream final : public ByteStream {
public:
    // received: bytes of the lower stream that were read already. The lower stream and the context must
    // outlive this.
    static Result<std::unique_ptr<TlsStream>> make(SSL_CTX* context, TcpStream& lower,
                                                   std::string_view received = {});
    ~TlsStream() override;
    Task<Result<>> accept();
    // Verifies the peer's chain, and that its certificate is of this host.
    Task<Result<>> connect(const std::string& host);
    std::string server_name() const; // that the client asked for; after accept()
    bool quiet() const;              // nothing came that was not given out

    Task<Result<std::string_view>> receive() override;
    Task<bool> ready() override;
    Task<Result<>> write(std::string_view bytes) override;
    Task<void> end() override;

private:
    TlsStream(SSL* ssl, TcpStream& lower);
    static BIO_METHOD* bio_method();
    Task<Result<>> handshake();
    Task<Result<>> flush();
    Task<Result<bool>> receive_records();
    void keep_unread();
    Error failure(std::string_view what) const;

    SSL* ssl_;
    TcpStream& lower_;
    std::string_view unread_; // came, and OpenSSL has not asked for it yet
    std::string kept_;        // what unread_ is of, if there was a wait since it came
    std::string unsent_;
    bool flushing_ = false;
    Condition* flushed_ = nullptr; // of the one who waits until flushing_ ends
};

// Reads a stream in pieces of what the reader wants, with what was read ahead kept.
class BufferedReader {
public:
    explicit BufferedReader(ByteStream& stream) : stream_(stream) {}
    std::string& bytes() { return bytes_; }
    void take(size_t count);
    // Adds what comes; false: nothing comes any more.
    Task<Result<bool>> fill();

private:
    ByteStream& stream_;
    std::string bytes_;
};

} // namespace nullbox::egress
