#include "egress/socket.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"

namespace nullbox::egress {

constexpr uint32_t kEnds = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
constexpr auto kPause = std::chrono::milliseconds(100); // where no connection can be accepted

// --- addresses

namespace {
struct SocketName {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};
} // namespace

static SocketName to_name(const Endpoint& endpoint) {
    SocketName name;
    if (endpoint.address.v6) {
        sockaddr_in6 v6{
            .sin6_family = AF_INET6, .sin6_port = htons(endpoint.port), .sin6_scope_id = endpoint.link};
        std::memcpy(&v6.sin6_addr, endpoint.address.bytes.data(), sizeof v6.sin6_addr);
        std::memcpy(&name.storage, &v6, name.size = sizeof v6);
    } else {
        sockaddr_in v4{.sin_family = AF_INET, .sin_port = htons(endpoint.port)};
        std::memcpy(&v4.sin_addr, endpoint.address.bytes.data(), sizeof v4.sin_addr);
        std::memcpy(&name.storage, &v4, name.size = sizeof v4);
    }
    return name;
}

static Endpoint from_name(const SocketName& name) {
    Endpoint endpoint;
    if (name.storage.ss_family == AF_INET6) {
        sockaddr_in6 v6;
        std::memcpy(&v6, &name.storage, sizeof v6);
        endpoint = {.address = {.v6 = true}, .port = ntohs(v6.sin6_port), .link = v6.sin6_scope_id};
        std::memcpy(endpoint.address.bytes.data(), &v6.sin6_addr, sizeof v6.sin6_addr);
    } else {
        sockaddr_in v4;
        std::memcpy(&v4, &name.storage, sizeof v4);
        endpoint.port = ntohs(v4.sin_port);
        std::memcpy(endpoint.address.bytes.data(), &v4.sin_addr, sizeof v4.sin_addr);
    }
    return endpoint;
}

Result<Endpoint> local_endpoint(int fd) {
    SocketName name;
    if (::getsockname(fd, name.get(), &name.size) < 0) return errno_error("ask where a connection goes");
    return from_name(name);
}

std::optional<Datagram> receive_datagram(int fd, std::span<std::byte> into) {
    SocketName name;
    auto count = ::recvfrom(fd, into.data(), into.size(), MSG_DONTWAIT, name.get(), &name.size);
    if (count < 0) return std::nullopt;
    return Datagram{from_name(name), into.first(static_cast<size_t>(count))};
}

void send_datagram(int fd, std::span<const std::byte> bytes, const Endpoint& to) {
    auto name = to_name(to);
    (void)::sendto(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL, name.get(), name.size);
}

static Result<Fd> open_socket(const Endpoint& peer, int type) {
    Fd fd(::socket(peer.address.v6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) return errno_error("open a socket");
    return fd;
}

// --- waits

// Shared with the waits and, while it runs, with the callback: whoever goes on may end all others.
struct Socket::State : std::enable_shared_from_this<State> {
    State(Loop& on, Fd owned) : loop(on), fd(std::move(owned)) {}
    // False: the kernel does not watch it.
    bool watch_for(bool to_write) {
        if (watch && !to_write) return true;
        if (to_write) events |= EPOLLOUT;
        // Asked anew, epoll tells of what has been so before.
        if (watch) return watch.set_events(events).has_value();
        auto watched = loop.watch(fd.get(), events, [this](uint32_t happened) { tell(happened); });
        if (!watched) return false;
        watch = *std::move(watched);
        return true;
    }
    void tell(uint32_t happened) {
        auto kept = shared_from_this();
        if (happened & kEnds) ended = true;
        if (happened & (EPOLLIN | kEnds)) {
            may_read = true;
            if (auto* wait = std::exchange(reading, nullptr)) wait->go_on();
        }
        if (happened & (EPOLLOUT | EPOLLHUP | EPOLLERR))
            if (auto* wait = std::exchange(writing, nullptr)) wait->go_on();
    }
    void cancel() {
        for (auto** wait : {&reading, &writing})
            if (*wait) {
                (*wait)->done_ = false;
                cancelled.push_back(std::exchange(*wait, nullptr));
            }
        if (!cancelled.empty()) later = loop.after({}, [this] { end_cancelled(); });
    }
    void end_cancelled() {
        auto kept = shared_from_this();
        while (!cancelled.empty()) {
            auto* wait = cancelled.back();
            cancelled.pop_back();
            wait->go_on();
        }
    }

    Loop& loop;
    Fd fd;
    uint32_t events = EPOLLET | EPOLLIN | EPOLLRDHUP;
    bool datagrams = false;
    bool may_read = false; // there was something, and receive() has not come to its end
    bool ended = false;    // the end will not be told of again
    unsigned in_a_row = 0; // reads without a wait
    Wait *reading = nullptr, *writing = nullptr;
    std::vector<Wait*> cancelled;
    Watch watch, later, others_first;
};

Socket::Wait::~Wait() {
    if (!by_) return;
    if (state_->reading == this) state_->reading = nullptr;
    if (state_->writing == this) state_->writing = nullptr;
    std::erase(state_->cancelled, this);
}

bool Socket::Wait::await_ready() {
    return state_ && state_->fd && !to_write_ && state_->may_read && ++state_->in_a_row <= kMostInARow;
}

bool Socket::Wait::await_suspend(std::coroutine_handle<> by) {
    if (!state_ || !state_->fd || !state_->watch_for(to_write_)) return done_ = false;
    auto*& place = to_write_ ? state_->writing : state_->reading;
    CHECK(!place);
    place = this;
    by_ = by;
    if (to_write_) return true;
    state_->in_a_row = 0;
    if (state_->may_read)
        state_->others_first = state_->loop.after({}, [state = state_.get()] { state->tell(EPOLLIN); });
    return true;
}

// --- the socket

Socket::Socket(Loop& loop, Fd fd) : loop_(&loop), state_(std::make_shared<State>(loop, std::move(fd))) {}

bool Socket::is_open() const { return state_ && state_->fd; }

int Socket::fd() const { return state_ ? state_->fd.get() : -1; }

Task<Result<>> Socket::connect(const Endpoint& to) {
    auto name = to_name(to);
    auto opened = open_socket(to, SOCK_STREAM);
    if (!opened) co_return opened.error();
    state_ = std::make_shared<State>(*loop_, *std::move(opened));
    auto state = state_; // the socket may go first
    int code = ::connect(state->fd.get(), name.get(), name.size) < 0 ? errno : 0;
    if (code == EINPROGRESS) {
        if (!co_await writable()) co_return errno_error(ECANCELED, "connect");
        socklen_t size = sizeof code;
        if (!state->ended)
            code = 0;
        else if (::getsockopt(state->fd.get(), SOL_SOCKET, SO_ERROR, &code, &size) < 0)
            code = errno;
    }
    if (code) co_return errno_error(code, "connect");
    co_return Result<>();
}

Result<Socket> Socket::datagram(Loop& loop, const Endpoint& peer) {
    auto name = to_name(peer);
    auto fd = TRY(open_socket(peer, SOCK_DGRAM));
    if (::connect(fd.get(), name.get(), name.size) < 0) return errno_error("connect");
    Socket socket(loop, std::move(fd));
    socket.state_->datagrams = true;
    return socket;
}

ssize_t Socket::receive(std::span<char> into) {
    ssize_t count = -1;
    do count = ::recv(fd(), into.data(), into.size(), 0);
    while (count < 0 && errno == EINTR);
    if (!state_) return count;
    if (count < 0 && errno == EAGAIN)
        state_->may_read = false;
    else if (!state_->datagrams && count < static_cast<ssize_t>(into.size()))
        state_->may_read = state_->ended; // less than there was room for is all that there was
    return count;
}

ssize_t Socket::send(std::string_view bytes) {
    ssize_t count = -1;
    do count = ::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    while (count < 0 && errno == EINTR);
    return count;
}

static ssize_t move(int from, int to, size_t most) {
    ssize_t count = -1;
    do count = ::splice(from, nullptr, to, nullptr, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    while (count < 0 && errno == EINTR);
    return count;
}

ssize_t Socket::receive_into(int pipe, size_t most) {
    auto count = move(fd(), pipe, most);
    if (state_ && count < 0 && errno == EAGAIN) state_->may_read = false;
    return count;
}

ssize_t Socket::send_from(int pipe, size_t count) { return move(pipe, fd(), count); }

Task<Result<>> Socket::receive_all(std::span<std::byte> into) {
    while (!into.empty()) {
        if (!co_await readable()) co_return errno_error(ECANCELED, "receive");
        auto count = receive({reinterpret_cast<char*>(into.data()), into.size()});
        if (count < 0 && errno == EAGAIN) continue;
        if (count <= 0) co_return errno_error(count < 0 ? errno : ECONNRESET, "receive");
        into = into.subspan(static_cast<size_t>(count));
    }
    co_return Result<>();
}

Task<Result<>> Socket::send_all(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        auto count = send({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        if (count < 0 && errno != EAGAIN) co_return errno_error("send");
        if (count > 0) bytes = bytes.subspan(static_cast<size_t>(count));
        if (count < 0 && !co_await writable()) co_return errno_error(ECANCELED, "send");
    }
    co_return Result<>();
}

void Socket::set_no_delay() {
    int on = 1;
    (void)::setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void Socket::end() { (void)::shutdown(fd(), SHUT_WR); }

void Socket::cancel() {
    if (state_) state_->cancel();
}

void Socket::close() {
    if (!is_open()) return;
    state_->watch.drop_closing();
    state_->fd.reset();
    state_->cancel();
}

void Socket::reset() {
    linger at_once{.l_onoff = 1, .l_linger = 0};
    (void)::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close();
}

// --- listeners

Result<std::unique_ptr<Listener>> Listener::start(Loop& loop, Fd fd, Accepted accepted) {
    std::unique_ptr<Listener> listener(new Listener(loop, std::move(fd), std::move(accepted)));
    listener->watch_ = TRY(
        loop.watch(listener->fd_.get(), EPOLLIN, [self = listener.get()](uint32_t) { self->accept_one(); }));
    return listener;
}

void Listener::accept_one() {
    SocketName name;
    Fd connection(::accept4(fd_.get(), name.get(), &name.size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (connection) {
        auto accepted = accepted_;
        return (*accepted)(std::move(connection), from_name(name));
    }
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    // No descriptors left, say: not a reason to spin.
    log_warning(errno_error("accept a connection").message);
    (void)watch_.set_events(0);
    pause_ = loop_.after(kPause, [this] { (void)watch_.set_events(EPOLLIN); });
}

} // namespace nullbox::egress
