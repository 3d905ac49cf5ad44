#include "agent_init/stream_relay.h"

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/text.h"

namespace nullbox::agent_init {

namespace {

// Bytes on their way from one socket to the other.
struct Direction {
    int from = -1, to = -1;
    std::vector<char> bytes{};
    size_t sent = 0;
    bool ended = false;  // from has no more
    bool closed = false; // and to has been told

    size_t waiting() const { return bytes.size() - sent; }
    bool wants_to_read() const { return !ended && bytes.size() < kRelayDirectionBytes; }
    // False when the connection is broken.
    bool read();
    bool write();
};

bool Direction::read() {
    if (!wants_to_read()) return true;
    size_t before = bytes.size();
    bytes.resize(kRelayDirectionBytes);
    ssize_t count = ::recv(from, bytes.data() + before, bytes.size() - before, MSG_DONTWAIT);
    bytes.resize(before + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    if (count == 0) ended = true;
    return count >= 0 || errno == EAGAIN || errno == EINTR || errno == ENOTCONN;
}

bool Direction::write() {
    while (waiting() > 0) {
        ssize_t count = ::send(to, bytes.data() + sent, waiting(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno == EAGAIN || errno == ENOTCONN;
        sent += static_cast<size_t>(count);
    }
    bytes.clear();
    sent = 0;
    if (ended && !closed) {
        closed = true;
        ::shutdown(to, SHUT_WR); // what has been sent still arrives
    }
    return true;
}

} // namespace

class StreamRelay::Connection {
public:
    Connection(StreamRelay& relay, Fd guest, Fd host)
        : relay_(relay), guest_(std::move(guest)), host_(std::move(host)),
          up_{.from = guest_.get(), .to = host_.get()}, down_{.from = host_.get(), .to = guest_.get()} {}

    Result<> start() {
        guest_watch_ = TRY(relay_.loop_.watch(guest_.get(), EPOLLIN, [this](uint32_t) { move(); }));
        host_watch_ =
            TRY(relay_.loop_.watch(host_.get(), EPOLLIN | EPOLLOUT, [this](uint32_t) { on_host(); }));
        return {};
    }

private:
    void on_host() {
        if (connecting_) {
            int failure = 0;
            socklen_t size = sizeof failure;
            ::getsockopt(host_.get(), SOL_SOCKET, SO_ERROR, &failure, &size);
            if (failure != 0) return relay_.remove(this);
            connecting_ = false;
        }
        move();
    }
    void move() {
        bool whole =
            up_.read() && (connecting_ || up_.write()) && (connecting_ || down_.read()) && down_.write();
        if (!whole || (up_.closed && down_.closed)) return relay_.remove(this); // destroys us
        auto events = [](const Direction& in, const Direction& out) {
            return (in.wants_to_read() ? EPOLLIN : 0U) | (out.waiting() > 0 ? EPOLLOUT : 0U);
        };
        // A hang-up is told whether or not it is asked for: a side that has nothing to say and nothing to
        // hear leaves the loop until the other has moved.
        set(guest_watch_, guest_.get(), events(up_, down_));
        set(host_watch_, host_.get(), events(down_, up_) | (connecting_ ? EPOLLOUT : 0U));
    }
    void set(Watch& watch, int fd, uint32_t events) {
        if (events == 0) return watch.drop();
        if (watch && watch.set_events(events)) return;
        bool host = fd == host_.get();
        auto made = relay_.loop_.watch(fd, events, [this, host](uint32_t) { host ? on_host() : move(); });
        if (made) watch = *std::move(made);
    }

    StreamRelay& relay_;
    Fd guest_, host_;
    Direction up_, down_;
    bool connecting_ = true; // to the host
    Watch guest_watch_, host_watch_;
};

StreamRelay::StreamRelay(Loop& loop, Connect connect) : loop_(loop), connect_(std::move(connect)) {}
StreamRelay::~StreamRelay() = default;

Result<std::unique_ptr<StreamRelay>> StreamRelay::listen(Loop& loop, uint16_t port, Connect connect) {
    std::unique_ptr<StreamRelay> relay(new StreamRelay(loop, std::move(connect)));
    Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener) return errno_error("make a socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    socklen_t size = sizeof address;
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) < 0 ||
        ::listen(listener.get(), 16) < 0)
        return errno_error(cat("listen on 127.0.0.1 port ", port));
    if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) < 0)
        return errno_error("ask for the port");
    relay->port_ = ntohs(address.sin_port);
    relay->listener_ = std::move(listener);
    relay->watch_ =
        TRY(loop.watch(relay->listener_.get(), EPOLLIN, [self = relay.get()](uint32_t) { self->accept(); }));
    return relay;
}

void StreamRelay::accept() {
    if (connections_.size() == kMostRelayConnections) return;
    Fd guest(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!guest) return;
    auto host = connect_();
    if (!host) return; // the program sees its connection closed
    auto connection = std::make_unique<Connection>(*this, std::move(guest), *std::move(host));
    if (!connection->start()) return;
    connections_.push_back(std::move(connection));
    if (connections_.size() == kMostRelayConnections) (void)watch_.set_events(0);
}

void StreamRelay::remove(Connection* connection) {
    std::erase_if(connections_, [&](const auto& one) { return one.get() == connection; });
    (void)watch_.set_events(EPOLLIN);
}

} // namespace nullbox::agent_init
