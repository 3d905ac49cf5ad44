#include "agent_init/session.h"

#include <cerrno>
#include <csignal>
#include <ctime>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_init/health_probe.h"
#include "agent_init/stream_relay.h"
#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {

using namespace std::chrono_literals;
using guest_link::Stream;

// A line that stays unfinished this long is shown as it is: it is probably a prompt or a progress bar.
constexpr auto kPartialLineAfter = 100ms;
// Once everything is killed the pipes end at once, unless a process hangs in the kernel.
constexpr auto kDrainLimit = 2s;

uint64_t uptime_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t oom_kills() {
    auto text = read_file("/proc/vmstat").value_or("");
    for (auto line : split(text, '\n'))
        if (line.starts_with("oom_kill "))
            return static_cast<uint64_t>(parse_number(line.substr(9), 0, INT64_MAX).value_or(0));
    return 0;
}

namespace {

struct OutputPipe {
    Stream stream;
    Fd fd;
    Watch watch;
    Watch partial_timer;
    LineSplitter lines;
};

class Session {
public:
    Session(Loop& loop, Link& link, const SessionOptions& options)
        : loop_(loop), link_(link), options_(options) {}
    Result<> run(const guest_link::Start& start);

private:
    Result<> offer_exec(const guest_link::Start& start);
    Result<> fail_to_start(std::string_view why);
    Result<> watch_all();
    void read_output(OutputPipe& pipe);
    void show_partial_later(OutputPipe& pipe);
    void close_pipe(OutputPipe& pipe);
    void send(const guest_link::GuestFrame& frame);
    void on_link(uint32_t events);
    void balance();
    void on_stop(const guest_link::Stop& stop);
    void check_health(guest_link::CheckHealth check);
    void on_thrashing();
    void kill_all();
    void reap();
    void on_exit(int status);
    void limit_drain();
    void maybe_finish();
    void host_gone(Error error);
    LineSplitter::Emit emit_to(OutputPipe& pipe);

    Loop& loop_;
    Link& link_;
    const SessionOptions& options_;
    pid_t pid_ = -1;
    OutputPipe out_{.stream = Stream::Stdout}, err_{.stream = Stream::Stderr};
    Fd signals_;
    Watch link_watch_, signal_watch_, kill_timer_, drain_timer_;
    bool reading_ = true; // false while the host has not taken what we sent
    bool stopping_ = false;
    bool thrashed_ = false;
    ThrashWatch thrash_watch_;
    uint64_t oom_kills_before_ = 0;
    std::optional<guest_link::Exited> exited_;
    std::optional<Error> failed_;
    std::unique_ptr<StreamRelay> memory_;
    std::unique_ptr<HealthProbe> health_; // the last one
    std::unique_ptr<ExecServer> exec_;
    ExecPort exec_port_; // after the server that it hands streams to
};

LineSplitter::Emit Session::emit_to(OutputPipe& pipe) {
    return [this, &pipe](std::string text, bool partial) {
        // Not flushed here: the lines of one read go out in one write.
        auto queued = link_.queue(guest_link::Output{
            .stream = pipe.stream, .partial = partial, .uptime_ns = uptime_ns(), .text = std::move(text)});
        if (!queued) host_gone(std::move(queued.error()));
    };
}

void Session::host_gone(Error error) {
    if (!failed_) failed_ = std::move(error);
    loop_.stop();
}

void Session::send(const guest_link::GuestFrame& frame) {
    if (auto sent = link_.send(frame); !sent) host_gone(std::move(sent.error()));
}

void Session::read_output(OutputPipe& pipe) {
    char chunk[32768];
    ssize_t count = ::read(pipe.fd.get(), chunk, sizeof chunk);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        close_pipe(pipe);
        return maybe_finish();
    }
    pipe.lines.feed({chunk, static_cast<size_t>(count)}, emit_to(pipe));
    show_partial_later(pipe);
    balance();
}

void Session::show_partial_later(OutputPipe& pipe) {
    pipe.partial_timer.drop();
    if (!pipe.lines.unfinished()) return;
    pipe.partial_timer = loop_.after(kPartialLineAfter, [this, &pipe] {
        if (!reading_) return; // the rest of the line may be there, only not read yet
        pipe.lines.flush(emit_to(pipe));
        balance();
    });
}

void Session::close_pipe(OutputPipe& pipe) {
    if (!pipe.fd) return;
    pipe.partial_timer.drop();
    pipe.watch.drop();
    pipe.fd.reset();
    pipe.lines.finish(emit_to(pipe));
}

// Sends what is queued. Reads from the command while the host keeps up, and waits for the socket while it
// does not.
void Session::balance() {
    if (auto flushed = link_.flush(); !flushed) return host_gone(std::move(flushed.error()));
    if (auto set = link_watch_.set_events(link_.queued() > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN); !set)
        return host_gone(std::move(set.error()));
    bool read = link_.queued() < (reading_ ? kQueueHighBytes : kQueueHighBytes / 4);
    if (read == reading_) return;
    reading_ = read;
    for (auto* pipe : {&out_, &err_})
        if (pipe->watch)
            if (auto set = pipe->watch.set_events(read ? EPOLLIN : 0); !set)
                host_gone(std::move(set.error()));
}

void Session::on_link(uint32_t events) {
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        auto open = link_.receive();
        if (!open) return host_gone(std::move(open.error()));
        for (;;) {
            auto frame = link_.next();
            if (!frame) return host_gone(std::move(frame.error()));
            if (!*frame) break;
            if (auto* stop = std::get_if<guest_link::Stop>(&**frame)) on_stop(*stop);
            if (auto* set = std::get_if<guest_link::SetClock>(&**frame); set && options_.set_clock)
                options_.set_clock(set->clock_ns);
            if (auto* check = std::get_if<guest_link::CheckHealth>(&**frame)) check_health(std::move(*check));
        }
        if (!*open) return host_gone(error("the host closed the link"));
    }
    balance();
}

void Session::on_stop(const guest_link::Stop& stop) {
    stopping_ = true;
    if (exited_) return;
    ::kill(-pid_, SIGTERM);
    kill_timer_ = loop_.after(std::chrono::milliseconds(stop.grace_ms), [this] { kill_all(); });
}

void Session::check_health(guest_link::CheckHealth check) {
    if (exited_) return;
    health_ = HealthProbe::begin(loop_, std::move(check), [this](guest_link::Health health) {
        if (exited_) return; // Exited is the last word
        send(health);
        balance();
    });
}

void Session::on_thrashing() {
    if (exited_) return;
    thrashed_ = true;
    kill_all();
}

// The command, and what left its process group.
void Session::kill_all() {
    ::kill(-pid_, SIGKILL);
    options_.kill_rest();
}

void Session::reap() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    }
    int status = 0;
    for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == pid_)
            on_exit(status);
        else if (exec_)
            exec_->reaped(pid, status);
}

void Session::on_exit(int status) {
    // A shell whose child was killed ends with 128 and the signal's number; runtimes do the same.
    constexpr uint32_t kChildKilled = 128 + SIGKILL;
    bool by_signal = WIFSIGNALED(status);
    auto value = static_cast<uint32_t>(by_signal ? WTERMSIG(status) : WEXITSTATUS(status));
    bool killed = value == (by_signal ? uint32_t{SIGKILL} : kChildKilled);
    exited_ = guest_link::Exited{.by_signal = by_signal,
                                 .value = value,
                                 .out_of_memory = killed && !stopping_ &&
                                                  (thrashed_ || options_.oom_kills() > oom_kills_before_)};
    kill_timer_.drop();
    if (exec_) exec_->close();
    options_.kill_rest();
    limit_drain();
    maybe_finish();
}

// The limit is for pipes that do not end, not for a host that takes its time.
void Session::limit_drain() {
    drain_timer_ = loop_.after(kDrainLimit, [this] {
        if (!reading_) return limit_drain();
        close_pipe(out_);
        close_pipe(err_);
        exec_port_ = {};
        exec_.reset();
        maybe_finish();
    });
}

void Session::maybe_finish() {
    if (!exited_ || out_.fd || err_.fd || (exec_ && !exec_->idle())) return;
    send(*exited_);
    loop_.stop();
}

Result<> Session::watch_all() {
    for (auto* pipe : {&out_, &err_})
        pipe->watch =
            TRY(loop_.watch(pipe->fd.get(), EPOLLIN, [this, pipe](uint32_t) { read_output(*pipe); }));
    link_watch_ = TRY(loop_.watch(link_.fd(), EPOLLIN, [this](uint32_t events) { on_link(events); }));
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    signals_ = Fd(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) return errno_error("make signalfd");
    signal_watch_ = TRY(loop_.watch(signals_.get(), EPOLLIN, [this](uint32_t) { reap(); }, 1));
    if (options_.watch_for_thrashing)
        thrash_watch_ = TRY(options_.watch_for_thrashing(loop_, [this] { on_thrashing(); }));
    return {};
}

Result<> Session::fail_to_start(std::string_view why) {
    auto message = cat("cannot start: ", why).substr(0, guest_link::kMaxMessageText);
    return link_.send(guest_link::Failure{.stage = "start", .message = message});
}

Result<> Session::offer_exec(const guest_link::Start& start) {
    if (!options_.listen_exec) return {};
    exec_ = std::make_unique<ExecServer>(loop_, start, [this](const guest_link::ExecEnded& ended) {
        send(guest_link::GuestFrame(ended));
        balance();
    });
    exec_->on_idle = [this] { maybe_finish(); };
    exec_port_ = TRY(options_.listen_exec(loop_, [this](Fd stream) { exec_->adopt(std::move(stream)); }));
    return {};
}

Result<> Session::run(const guest_link::Start& start) {
    oom_kills_before_ = options_.oom_kills();
    if (start.has_memory && options_.connect_memory) {
        auto relay = StreamRelay::listen(loop_, options_.memory_port, options_.connect_memory);
        if (!relay) return fail_to_start(relay.error().message);
        memory_ = *std::move(relay);
    }
    // Before the agent runs, which could take the port otherwise.
    if (auto offered = offer_exec(start); !offered) return fail_to_start(offered.error().message);
    auto command = start_command(start);
    if (!command) return fail_to_start(command.error().message);
    pid_ = command->pid;
    out_.fd = std::move(command->out);
    err_.fd = std::move(command->err);
    TRY(link_.send(guest_link::Started{.uptime_ns = uptime_ns()}));
    TRY(watch_all());
    balance();
    reap(); // it may have ended before the signalfd was there
    if (!failed_) TRY(loop_.run());
    if (failed_) {
        kill_all();
        return *failed_;
    }
    return {};
}

} // namespace

Result<> run_session(Link& link, const guest_link::Start& start, const SessionOptions& options) {
    auto loop = TRY(Loop::make());
    return Session(*loop, link, options).run(start);
}

} // namespace nullbox::agent_init
