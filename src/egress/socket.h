// Connected sockets that coroutines wait for: edge-triggered (epoll(7)), so that a wait costs no system call.
// What was read to the end is not asked again before epoll has told of more. Internal; one thread.
#pragma once

#include <memory>
#include <span>

#include "egress/net/address.h"
#include "egress/task.h"

namespace nullbox::egress {

class Socket {
    struct State;

public:
    explicit Socket(Loop& loop) : loop_(&loop) {} // not open: for connect()
    Socket(Loop& loop, Fd fd);                    // nonblocking, connected
    Socket(Socket&&) noexcept = default;
    Socket& operator=(Socket&&) = delete;
    ~Socket() { close(); }
    Loop& loop() const { return *loop_; }
    bool is_open() const;
    int fd() const; // -1: not open

    // A new TCP connection. Ends with ECANCELED when the socket is closed meanwhile.
    Task<Result<>> connect(const Endpoint& to);
    // Only datagrams of this peer arrive.
    static Result<Socket> datagram(Loop& loop, const Endpoint& peer);

    class [[nodiscard]] Wait {
    public:
        Wait(const Wait&) = delete;
        ~Wait();
        bool await_ready();
        bool await_suspend(std::coroutine_handle<> by);
        bool await_resume() const { return done_; }

    private:
        friend Socket;
        Wait(std::shared_ptr<State> state, bool to_write) : state_(std::move(state)), to_write_(to_write) {}
        void go_on() { std::exchange(by_, {}).resume(); }
        std::shared_ptr<State> state_; // the socket may go first
        bool to_write_, done_ = true;
        std::coroutine_handle<> by_;
    };
    // Until receive() has something to give, which may be the end or an error; until send() takes more. Each
    // one at a time. False: it was closed or cancelled. Where there is always something, every kMostInARow-th
    // wait lets all others go on first: no peer keeps the loop for itself.
    static constexpr unsigned kMostInARow = 8;
    Wait readable() { return {state_, false}; }
    Wait writable() { return {state_, true}; }
    // As recv(2) and send(2); EINTR and SIGPIPE are dealt with. What receive() gives may be all that there
    // was: readable() knows.
    ssize_t receive(std::span<char> into);
    ssize_t send(std::string_view bytes);
    // The same from and to a pipe, without a copy: splice(2), where SIGPIPE must be ignored. What
    // receive_into() has no bytes for (the end, an error), receive() tells.
    ssize_t receive_into(int pipe, size_t most);
    ssize_t send_from(int pipe, size_t count);
    // Both in full. An end in the middle is ECONNRESET.
    Task<Result<>> receive_all(std::span<std::byte> into);
    Task<Result<>> send_all(std::span<const std::byte> bytes);

    void set_no_delay();
    void end(); // we send no more
    // Ends the waits, in the loop's next round.
    void cancel();
    void close(); // and cancel()
    void reset(); // close(), and the peer sees RST, not an orderly end

private:
    Loop* loop_;
    std::shared_ptr<State> state_;
};

// Where a connection that a listener has accepted goes.
Result<Endpoint> local_endpoint(int fd);

struct Datagram {
    Endpoint from;
    std::span<const std::byte> bytes;
};
// Nothing: there is none, or it is broken. Neither waits.
std::optional<Datagram> receive_datagram(int fd, std::span<std::byte> into);
void send_datagram(int fd, std::span<const std::byte> bytes, const Endpoint& to);

// A listener's connections, one by one, from its event loop.
class Listener {
public:
    using Accepted = std::function<void(Fd connection, const Endpoint& from)>;
    // fd: nonblocking, listening. accepted may end this.
    static Result<std::unique_ptr<Listener>> start(Loop& loop, Fd fd, Accepted accepted);

private:
    Listener(Loop& loop, Fd fd, Accepted accepted)
        : loop_(loop), fd_(std::move(fd)), accepted_(std::make_shared<Accepted>(std::move(accepted))) {}
    void accept_one();
    Loop& loop_;
    Fd fd_;
    std::shared_ptr<Accepted> accepted_; // shared: it may end this while it runs
    Watch watch_, pause_;
};

} // namespace nullbox::egress
