#include "nullctl/exec_session.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <optional>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "guest_link/exec_frames.h"
#include "nullctl/visible.h"

namespace nullbox::nullctl {

using namespace guest_link;

constexpr size_t kOutputHigh = size_t{64} << 10; // waiting for our output; beyond, nothing more is read
constexpr int kMostSignals = 3;                  // an agent may ignore them; the third ends us

WindowSize window_size(int terminal) {
    winsize size{};
    if (::ioctl(terminal, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0) return {};
    return {.rows = size.ws_row, .columns = size.ws_col};
}

namespace {

// Every key is the agent's while it lives; what the terminal was comes back however we leave.
class RawTerminal {
public:
    explicit RawTerminal(int fd) : fd_(fd) {
        if (::tcgetattr(fd, &before_) < 0) return;
        termios raw = before_;
        ::cfmakeraw(&raw);
        changed_ = ::tcsetattr(fd, TCSADRAIN, &raw) == 0;
    }
    ~RawTerminal() {
        if (changed_) ::tcsetattr(fd_, TCSADRAIN, &before_);
    }
    RawTerminal(const RawTerminal&) = delete;
    RawTerminal& operator=(const RawTerminal&) = delete;

private:
    int fd_;
    termios before_{};
    bool changed_ = false;
};

class Signals {
public:
    Signals() {
        sigset_t wanted;
        ::sigemptyset(&wanted);
        for (int signal : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGWINCH}) ::sigaddset(&wanted, signal);
        ::pthread_sigmask(SIG_BLOCK, &wanted, &before_);
        fd_ = Fd(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
    }
    ~Signals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;
    int fd() const { return fd_.get(); }
    int next() {
        signalfd_siginfo info{};
        return ::read(fd_.get(), &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
    }

private:
    sigset_t before_{};
    Fd fd_;
};

// One of our outputs, and what waits for it.
class Sink {
public:
    Sink(int fd, bool terminal_of_agent) : fd_(fd), shows_(::isatty(fd) == 1 && !terminal_of_agent) {
        struct stat info{};
        // A pipe that can take anything takes so much without making us wait.
        piece_ = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? size_t{64} << 10 : 4096;
    }
    int fd() const { return fd_; }
    size_t waiting() const { return bytes_.size() - done_; }
    void add(std::string_view bytes) {
        if (!shows_) {
            bytes_ += bytes;
            return;
        }
        // A character may be cut in two by where a piece ends.
        cut_ += bytes;
        size_t whole = cut_.size();
        for (size_t back = 1; back <= std::min<size_t>(3, cut_.size()); back++) {
            auto byte = static_cast<unsigned char>(cut_[cut_.size() - back]);
            if (byte < 0x80) break;
            if (byte < 0xc0) continue;
            if (back < (byte >= 0xf0 ? 4U : byte >= 0xe0 ? 3U : 2U)) whole = cut_.size() - back;
            break;
        }
        bytes_ += visible(std::string_view(cut_).substr(0, whole), Lines::Several);
        cut_.erase(0, whole);
    }
    void end() {
        if (!cut_.empty()) bytes_ += visible(std::exchange(cut_, {}), Lines::Several);
    }
    // False: nobody takes it any more.
    bool write_some() {
        ssize_t count = ::write(fd_, bytes_.data() + done_, std::min(waiting(), piece_));
        if (count < 0) return errno == EINTR || errno == EAGAIN;
        done_ += static_cast<size_t>(count);
        if (done_ == bytes_.size()) bytes_.clear(), done_ = 0;
        return true;
    }

private:
    int fd_;
    bool shows_;
    size_t piece_;
    std::string bytes_, cut_;
    size_t done_ = 0;
};

class Client {
public:
    explicit Client(const ExecSession& session)
        : session_(session), out_(session.out, session.terminal), err_(session.err, session.terminal),
          reading_input_(session.interactive) {}
    Result<int> run(Signals& signals);

private:
    Result<> turn(Signals& signals);
    void on_signal(int signal);
    void read_input();
    Result<> read_stream();
    Result<> send_queued();
    void queue(const CallerFrame& frame) {
        if (auto bytes = encode(frame)) queue_.insert(queue_.end(), bytes->begin(), bytes->end());
    }
    void hear(const ExecGuestFrame& frame);
    bool has_room() const { return out_.waiting() < kOutputHigh && err_.waiting() < kOutputHigh; }
    bool wants_input() const {
        return reading_input_ && !code_ && queue_.empty() && sent_ - taken_ < kInputWindow;
    }

    const ExecSession& session_;
    Sink out_, err_;
    ExecGuestFrameReader reader_;
    std::vector<std::byte> queue_;
    uint64_t sent_ = 0, taken_ = 0; // of our input
    bool reading_input_;
    int signals_ = 0;
    std::optional<int> code_; // how it ends
    bool leave_ = false;      // at once, whatever still waits
};

} // namespace

void Client::on_signal(int signal) {
    if (signal == SIGWINCH) {
        auto size = window_size(session_.out);
        if (session_.terminal) queue(Resize{.rows = size.rows, .columns = size.columns});
    } else if (signal == SIGHUP || session_.terminal || ++signals_ >= kMostSignals) {
        code_ = 128 + signal;
        leave_ = true;
    } else {
        queue(Signal{.number = static_cast<uint8_t>(signal)});
    }
}

void Client::read_input() {
    char bytes[kMaxPiece];
    auto room = std::min<uint64_t>(sizeof bytes, kInputWindow - (sent_ - taken_));
    ssize_t count = ::read(session_.in, bytes, room);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) { // a terminal that has gone says EIO
        reading_input_ = false;
        return queue(InputEnd{});
    }
    sent_ += static_cast<uint64_t>(count);
    queue(Input{.bytes = std::string(bytes, static_cast<size_t>(count))});
}

void Client::hear(const ExecGuestFrame& frame) {
    if (const auto* output = std::get_if<ExecOutput>(&frame))
        (output->stream == Stream::Stdout ? out_ : err_).add(output->bytes);
    else if (const auto* taken = std::get_if<InputTaken>(&frame))
        taken_ = std::min<uint64_t>(sent_, taken_ + taken->bytes); // what was never sent makes no room
    else if (const auto* ended = std::get_if<Ended>(&frame))
        code_ = static_cast<int>(ended->by_signal ? 128 + ended->value : ended->value);
    else if (const auto* failed = std::get_if<Failed>(&frame)) {
        code_ = static_cast<int>(failed->exit_code);
        auto crlf = session_.terminal ? "\r\n" : "\n";
        err_.add(cat("nullctl: ", visible(failed->message), crlf));
    }
}

Result<> Client::read_stream() {
    std::byte chunk[32768];
    ssize_t count = ::recv(session_.stream, chunk, sizeof chunk, MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return {};
    if (count <= 0) return error("the connection ended before the command did");
    reader_.feed(std::span(chunk).first(static_cast<size_t>(count)));
    while (!code_) {
        auto frame = reader_.next();
        if (!frame) return error(cat("nonsense from the agent's machine: ", frame.error().message));
        if (!*frame) break;
        hear(**frame);
    }
    return {};
}

Result<> Client::send_queued() {
    ssize_t count = ::send(session_.stream, queue_.data(), queue_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return {};
    if (count < 0) { // why shows in what it still says
        queue_.clear();
        reading_input_ = false;
        return {};
    }
    queue_.erase(queue_.begin(), queue_.begin() + count);
    return {};
}

Result<> Client::turn(Signals& signals) {
    enum { kStream, kSignals, kIn, kOut, kErr };
    pollfd polled[5] = {{.fd = session_.stream, .events = 0, .revents = 0},
                        {.fd = signals.fd(), .events = POLLIN, .revents = 0},
                        {.fd = wants_input() ? session_.in : -1, .events = POLLIN, .revents = 0},
                        {.fd = out_.waiting() > 0 ? out_.fd() : -1, .events = POLLOUT, .revents = 0},
                        {.fd = err_.waiting() > 0 ? err_.fd() : -1, .events = POLLOUT, .revents = 0}};
    bool read = has_room() && !code_;
    polled[kStream].events = static_cast<short>((read ? POLLIN : 0) | (queue_.empty() ? 0 : POLLOUT));
    // Its end is reported whether or not it is asked for.
    if (polled[kStream].events == 0 || code_) polled[kStream].fd = -1;
    if (::poll(polled, 5, -1) < 0) return errno == EINTR ? Result<>() : errno_error("wait");
    if (polled[kSignals].revents)
        while (int signal = signals.next()) on_signal(signal);
    for (auto [at, sink] : {std::pair(kOut, &out_), std::pair(kErr, &err_)})
        if (polled[at].revents && !sink->write_some()) {
            code_ = 128 + SIGPIPE; // as a command here would end
            leave_ = true;
        }
    if (polled[kStream].revents & POLLOUT) TRY(send_queued());
    if (polled[kIn].revents) read_input();
    if (read && (polled[kStream].revents & (POLLIN | POLLHUP | POLLERR))) return read_stream();
    return {};
}

Result<int> Client::run(Signals& signals) {
    on_signal(SIGWINCH); // it may be another size since the command was asked for
    while (!leave_ && !(code_ && out_.waiting() == 0 && err_.waiting() == 0)) {
        TRY(turn(signals));
        if (code_) out_.end(), err_.end();
    }
    return *code_;
}

Result<int> run_exec(const ExecSession& session) {
    Signals signals;
    std::optional<RawTerminal> raw;
    if (session.terminal && session.interactive && ::isatty(session.in) == 1) raw.emplace(session.in);
    return Client(session).run(signals);
}

} // namespace nullbox::nullctl
