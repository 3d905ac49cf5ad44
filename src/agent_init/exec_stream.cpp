#include "agent_init/exec_stream.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent_init/exec_copy.h"
#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {

using namespace std::chrono_literals;
using namespace guest_link;

constexpr size_t kOutputHigh = size_t{64} << 10;
constexpr auto kHangupGrace = 2s;
// After its end, what a command has printed is there; what it left running may hold its output open for ever.
constexpr auto kQuiet = 200ms;
constexpr uint32_t kCannotStart = 126, kNotFound = 127; // as shells have it

Result<> ExecStream::begin() {
    TRY(set_nonblocking(socket_.get()));
    socket_watch_ =
        TRY(server_.loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t events) { on_socket(events); }));
    return {};
}

// --- From the caller

void ExecStream::on_socket(uint32_t events) {
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !receive()) return hang_up();
    balance();
}

bool ExecStream::receive() {
    std::byte chunk[16384];
    ssize_t count = ::recv(socket_.get(), chunk, sizeof chunk, MSG_DONTWAIT);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    if (count == 0) return false;
    reader_.feed(std::span(chunk).first(static_cast<size_t>(count)));
    while (!over_) {
        auto frame = reader_.next();
        if (!frame) return false;
        if (!*frame) return true;
        handle(**frame);
    }
    return true;
}

void ExecStream::handle(const CallerFrame& frame) {
    if (const auto* request = std::get_if<ExecRequest>(&frame); request && !requested_)
        return start(*request);
    if (const auto* request = std::get_if<CopyRequest>(&frame); request && !requested_) return copy(*request);
    if (const auto* input = std::get_if<Input>(&frame)) return take_input(input->bytes);
    if (std::holds_alternative<InputEnd>(frame)) return end_input();
    if (const auto* signal = std::get_if<Signal>(&frame); signal && pid_ > 0) {
        if (signal->number > 0 && signal->number < 32) ::kill(-pid_, signal->number);
    } else if (const auto* size = std::get_if<Resize>(&frame); size && terminal_ && output_.fd) {
        winsize now{.ws_row = size->rows, .ws_col = size->columns, .ws_xpixel = 0, .ws_ypixel = 0};
        ::ioctl(output_.fd.get(), TIOCSWINSZ, &now); // the kernel tells the foreground group
    }
}

void ExecStream::take_input(std::string_view bytes) {
    if (input_bytes_.size() + bytes.size() > kInputWindow)
        return fail(kCannotStart, "more input than its window");
    input_bytes_ += bytes;
    write_input();
}

void ExecStream::end_input() {
    input_ended_ = true;
    write_input();
}

// Input that nobody reads any more is taken as well: the caller need not wait with it.
void ExecStream::write_input() {
    size_t taken = 0;
    while (input_ && taken < input_bytes_.size()) {
        ssize_t count = ::write(input_.get(), input_bytes_.data() + taken, input_bytes_.size() - taken);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) break;
        if (count < 0) {
            input_watch_.drop();
            input_.reset();
        } else {
            taken += static_cast<size_t>(count);
        }
    }
    if (!input_) taken = input_bytes_.size();
    input_bytes_.erase(0, taken);
    if (taken > 0) queue(InputTaken{.bytes = static_cast<uint32_t>(taken)});
    if (input_bytes_.empty()) {
        input_watch_.drop();
        if (!input_ended_ || !input_) return;
        // A terminal's input has no end of its own: the character that means it.
        if (terminal_) (void)!::write(input_.get(), "\x04", 1);
        input_.reset();
    } else if (!input_watch_) {
        auto watch = server_.loop_.watch(input_.get(), EPOLLOUT, [this](uint32_t) {
            write_input();
            balance();
        });
        if (watch) input_watch_ = *std::move(watch);
    }
}

// --- Starting

void ExecStream::start(const ExecRequest& request) {
    requested_ = true;
    number_ = request.number;
    if (too_many_)
        return fail(kCannotStart,
                    cat(kMaxExecAtOnce, " commands and copies run already, the most at a time"));
    auto started = start_command(request);
    if (!started)
        return fail(started.error().code == ENOENT ? kNotFound : kCannotStart, started.error().message);
    queue(Running{});
    if (!request.interactive) end_input();
}

// The agent's, with what the request puts in their place.
static std::vector<std::string> environment_for(const ExecRequest& request, const Start& agent, uint32_t uid,
                                                std::string_view passwd) {
    auto all = request.environment;
    for (const auto& entry : agent.environment) {
        auto name = std::string_view(entry).substr(0, entry.find('=') + 1);
        if (std::ranges::none_of(request.environment, [&](const auto& own) { return own.starts_with(name); }))
            all.push_back(entry);
    }
    return full_environment(std::move(all), uid, passwd);
}

Result<> ExecStream::start_command(const ExecRequest& request) {
    auto passwd = read_file("/etc/passwd").value_or("");
    Program program{.command = request.command, .user = TRY(find_user(request.user, server_.start_, passwd))};
    program.environment = environment_for(request, server_.start_, program.user.uid, passwd);
    program.folder =
        request.working_directory.empty() ? server_.start_.working_directory : request.working_directory;
    std::vector<Fd> inner;
    terminal_ = request.terminal;
    if (request.terminal)
        TRY(open_terminal(request, program, inner.emplace_back()));
    else
        TRY(open_pipes(request, program, inner));
    pid_ = TRY(start_program(program));
    return {};
}

Result<> ExecStream::open_terminal(const ExecRequest& request, Program& program, Fd& inner) {
    Fd outer(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    if (!outer) return errno_error("make a terminal: open /dev/ptmx");
    int locked = 0;
    if (::ioctl(outer.get(), TIOCSPTLCK, &locked) < 0) return errno_error("make a terminal");
    inner = Fd(::ioctl(outer.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!inner) return errno_error("make a terminal");
    winsize size{.ws_row = request.rows, .ws_col = request.columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ::ioctl(outer.get(), TIOCSWINSZ, &size);
    // The command's user opens it by name too (/dev/stderr, /dev/pts/0).
    if (::getuid() == 0 && ::fchown(inner.get(), program.user.uid, static_cast<gid_t>(-1)) < 0)
        return errno_error("give the terminal to the command's user");
    program.in = program.out = program.err = inner.get();
    program.terminal = true;
    input_ = TRY(outer.duplicate());
    output_.fd = std::move(outer);
    return {};
}

Result<> ExecStream::open_pipes(const ExecRequest& request, Program& program, std::vector<Fd>& inner) {
    if (request.interactive) {
        auto in = TRY(make_pipe());
        TRY(set_nonblocking(in.write.get()));
        input_ = std::move(in.write);
        inner.push_back(std::move(in.read));
    } else {
        inner.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        if (!inner.back()) return errno_error("open /dev/null");
    }
    program.in = inner.back().get();
    for (auto [source, target] : {std::pair(&output_, &program.out), std::pair(&error_, &program.err)}) {
        auto pipe = TRY(make_pipe());
        TRY(set_nonblocking(pipe.read.get()));
        source->fd = std::move(pipe.read);
        *target = pipe.write.get();
        inner.push_back(std::move(pipe.write));
    }
    return {};
}

// The stream becomes the copying process's.
void ExecStream::copy(const CopyRequest& request) {
    requested_ = true;
    number_ = request.number;
    if (too_many_)
        return fail(kCannotStart,
                    cat(kMaxExecAtOnce, " commands and copies run already, the most at a time"));
    auto user = find_user(request.user, server_.start_, read_file("/etc/passwd").value_or(""));
    if (!user) return fail(kCannotStart, user.error().message);
    auto pid = start_copy(socket_.get(), request, *user, server_.start_.working_directory);
    if (!pid) return fail(kCannotStart, pid.error().message);
    pid_ = *pid;
    socket_watch_.drop();
    socket_.reset();
}

// --- To the caller

void ExecStream::queue(const ExecGuestFrame& frame) {
    if (auto bytes = encode(frame)) out_.insert(out_.end(), bytes->begin(), bytes->end());
}

void ExecStream::fail(uint32_t exit_code, std::string_view why) {
    queue(Failed{.exit_code = exit_code, .message = std::string(why.substr(0, kMaxMessageText))});
    output_.watch.drop(), error_.watch.drop(), input_watch_.drop();
    output_.fd.reset(), error_.fd.reset(), input_.reset();
    over_ = true;
    if (pid_ > 0) ::kill(-pid_, SIGKILL);
}

void ExecStream::read_output(Source& source) {
    char chunk[kMaxPiece];
    ssize_t count = ::read(source.fd.get(), chunk, sizeof chunk);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) { // a terminal that nobody has open any more says EIO
        source.watch.drop();
        source.fd.reset();
    } else {
        queue(ExecOutput{.stream = source.stream, .bytes = std::string(chunk, static_cast<size_t>(count))});
    }
    if (ended_) finish_when_quiet();
    balance();
}

// An end of it is reported whether or not it is asked for: while nothing is read, it is not watched at all.
void ExecStream::watch_output(Source& source) {
    if (!source.fd || !reading_) return source.watch.drop();
    if (source.watch) return;
    auto watch =
        server_.loop_.watch(source.fd.get(), EPOLLIN, [this, &source](uint32_t) { read_output(source); });
    if (watch)
        source.watch = *std::move(watch);
    else
        source.fd.reset();
}

void ExecStream::balance() {
    if (!socket_) return;
    while (written_ < out_.size()) {
        ssize_t count = ::send(socket_.get(), out_.data() + written_, out_.size() - written_,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) break;
        if (count < 0) return hang_up();
        written_ += static_cast<size_t>(count);
    }
    if (written_ == out_.size() || written_ > kOutputHigh) {
        out_.erase(out_.begin(), out_.begin() + static_cast<ptrdiff_t>(written_));
        written_ = 0;
    }
    reading_ = out_.size() - written_ < kOutputHigh;
    watch_output(output_);
    watch_output(error_);
    (void)socket_watch_.set_events(out_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
    maybe_finish();
}

// --- Its end

void ExecStream::reaped(int status) {
    pid_ = -1;
    kill_timer_.drop();
    bool by_signal = WIFSIGNALED(status);
    ended_ = Ended{.by_signal = by_signal,
                   .value = static_cast<uint32_t>(by_signal ? WTERMSIG(status) : WEXITSTATUS(status))};
    server_.ended_({.number = number_, .by_signal = by_signal, .value = ended_->value});
    input_watch_.drop();
    input_.reset();
    if (!socket_) return gone();
    write_input(); // what is left of it is nobody's
    finish_when_quiet();
    balance();
}

// Not while the host has us wait: then there may be more to read.
void ExecStream::finish_when_quiet() {
    quiet_timer_ = server_.loop_.after(kQuiet, [this] {
        if (!reading_) return finish_when_quiet();
        close_output();
        balance();
    });
}

void ExecStream::close_output() {
    for (auto* source : {&output_, &error_}) {
        source->watch.drop();
        source->fd.reset();
    }
}

void ExecStream::maybe_finish() {
    if (!over_ && ended_ && !output_.fd && !error_.fd) {
        queue(*ended_);
        over_ = true;
        quiet_timer_.drop();
        return balance();
    }
    if (over_ && out_.empty()) {
        if (pid_ < 0) return gone();
        socket_watch_.drop();
        socket_.reset(); // until it is reaped
    }
}

// The caller is gone, or says what we do not understand.
void ExecStream::hang_up() {
    if (std::exchange(hung_up_, true)) return;
    over_ = true;
    socket_watch_.drop(), input_watch_.drop(), quiet_timer_.drop();
    close_output();
    input_.reset();
    socket_.reset();
    if (pid_ < 0) return gone();
    ::kill(-pid_, SIGHUP);
    kill_timer_ = server_.loop_.after(kHangupGrace, [this] { ::kill(-pid_, SIGKILL); });
}

void ExecStream::gone() { server_.remove(this); }

} // namespace nullbox::agent_init
