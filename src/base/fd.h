// Fd owns one file descriptor: move-only, closed once. Everything here opens with CLOEXEC. A function takes
// Fd to own and int to borrow.
#pragma once

#include <sys/types.h>
#include <utility>

#include "base/error.h"

namespace nullbox {

class Fd {
public:
    Fd() = default;
    explicit Fd(int owned) : fd_(owned) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) reset(std::exchange(other.fd_, -1));
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(); }

    int get() const& { return fd_; }
    int release() { return std::exchange(fd_, -1); }
    explicit operator bool() const { return fd_ >= 0; }
    void reset(int owned = -1) noexcept;

    // A second descriptor of the same open file description, CLOEXEC.
    Result<Fd> duplicate() const;

private:
    int fd_ = -1;
};

struct Pipe {
    Fd read, write;
};
struct SocketPair {
    Fd first, second;
};

// flags: O_NONBLOCK or 0; CLOEXEC is always set.
Result<Pipe> make_pipe(int flags = 0);
// type: SOCK_STREAM or SOCK_SEQPACKET, with SOCK_NONBLOCK if wanted.
Result<SocketPair> make_socket_pair(int type);
Result<> set_nonblocking(int fd, bool on = true);

} // namespace nullbox
