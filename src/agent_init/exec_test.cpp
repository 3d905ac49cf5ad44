// Commands beside the agent's: a real session, real shells, a socket pair where the VM has a vsock stream.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "agent_init/session.h"
#include "base/file.h"
#include "base/passing.h"
#include "base/text.h"
#include "guest_link/copy_tree.h"

namespace nullbox::agent_init {
namespace {

using namespace guest_link;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

struct Heard { // what a command said until its end
    std::string out, err;
    std::optional<Ended> ended;
    std::optional<Failed> failed;
    uint64_t taken = 0;
};

// nullctl's side of one stream.
class Caller {
public:
    explicit Caller(Fd socket) : socket_(std::move(socket)) {}
    void say(const CallerFrame& frame) { EXPECT_TRUE(write_all(socket_.get(), *encode(frame))); }
    std::optional<ExecGuestFrame> next(int patience_ms = 10'000) {
        for (;;) {
            auto frame = reader_.next();
            EXPECT_TRUE(frame) << frame.error().message;
            if (!frame || *frame) return frame ? *frame : std::nullopt;
            pollfd polled{.fd = socket_.get(), .events = POLLIN, .revents = 0};
            if (::poll(&polled, 1, patience_ms) <= 0) return std::nullopt;
            std::byte chunk[65536];
            ssize_t count = ::read(socket_.get(), chunk, sizeof chunk);
            if (count <= 0) return std::nullopt;
            reader_.feed(std::span(chunk).first(static_cast<size_t>(count)));
        }
    }
    void expect_running() {
        auto frame = next();
        if (frame && std::holds_alternative<Failed>(*frame))
            ADD_FAILURE() << std::get<Failed>(*frame).message;
        EXPECT_TRUE(frame && std::holds_alternative<Running>(*frame));
    }
    bool hear(Heard& heard, const ExecGuestFrame& frame) {
        if (const auto* output = std::get_if<ExecOutput>(&frame))
            (output->stream == Stream::Stdout ? heard.out : heard.err) += output->bytes;
        if (const auto* taken = std::get_if<InputTaken>(&frame)) heard.taken += taken->bytes;
        if (const auto* ended = std::get_if<Ended>(&frame)) heard.ended = *ended;
        if (const auto* failed = std::get_if<Failed>(&frame)) heard.failed = *failed;
        return !heard.ended && !heard.failed;
    }
    Heard to_end() {
        Heard heard;
        while (auto frame = next())
            if (!hear(heard, *frame)) break;
        EXPECT_TRUE(heard.ended || heard.failed) << "no end: " << heard.out << heard.err;
        return heard;
    }
    // Until what was printed contains the text.
    std::string until(std::string_view text) {
        Heard heard;
        while (!heard.out.contains(text)) {
            auto frame = next();
            if (!frame || !hear(heard, *frame)) {
                ADD_FAILURE() << "no \"" << text << "\" in " << heard.out;
                break;
            }
        }
        return heard.out;
    }
    // As long as the window has room; gives what has been heard meanwhile.
    Heard feed(std::string_view input) {
        Heard heard;
        uint64_t sent = 0;
        while (sent < input.size()) {
            auto room =
                std::min<uint64_t>({kInputWindow - (sent - heard.taken), kMaxPiece, input.size() - sent});
            if (room > 0) {
                pollfd polled{.fd = socket_.get(), .events = POLLIN | POLLOUT, .revents = 0};
                ::poll(&polled, 1, 10'000);
                if (!(polled.revents & POLLIN)) {
                    say(Input{.bytes = std::string(input.substr(sent, room))});
                    sent += room;
                    continue;
                }
            }
            auto frame = next();
            if (!frame || !hear(heard, *frame)) break;
        }
        EXPECT_EQ(sent, input.size());
        say(InputEnd{});
        while (auto frame = next())
            if (!hear(heard, *frame)) break;
        return heard;
    }
    int socket() const { return socket_.get(); }
    void hang_up() { socket_.reset(); }

private:
    Fd socket_;
    ExecGuestFrameReader reader_;
};

// A running agent, its link read in the background.
class ExecTest : public testing::Test {
protected:
    void SetUp() override {
        char made[] = "/tmp/nullbox-exec-XXXXXX";
        ASSERT_NE(::mkdtemp(made), nullptr);
        root_ = made;
        std::signal(SIGPIPE, SIG_IGN);
        begin("trap 'exit 0' TERM; while :; do sleep 0.05; done");
    }
    void begin(std::string script) {
        sigset_t child;
        ::sigemptyset(&child);
        ::sigaddset(&child, SIGCHLD);
        ::pthread_sigmask(SIG_BLOCK, &child, nullptr);
        auto link = *make_socket_pair(SOCK_STREAM);
        auto door = *make_socket_pair(SOCK_SEQPACKET);
        door_ = std::move(door.first);
        host_ = std::move(link.first);
        Start start{.command = {"sh", "-c", std::move(script)},
                    .environment = {"PATH=/usr/bin:/bin", "TOKEN=placeholder"},
                    .uid = ::getuid(),
                    .gid = ::getgid(),
                    .working_directory = root_,
                    .hostname = "t"};
        guest_ = std::thread([start, socket = std::move(link.second),
                              streams = std::move(door.second)]() mutable {
            Link guest_link(std::move(socket));
            auto done = run_session(
                guest_link, start,
                {.kill_rest = [] {},
                 .listen_exec = [&](Loop& loop, const std::function<void(Fd)>& adopt) -> Result<ExecPort> {
                     ExecPort port;
                     port.watch = TRY(loop.watch(streams.get(), EPOLLIN, [&streams, adopt](uint32_t) {
                         char byte = 0;
                         auto got = receive_with_fds(streams.get(), {&byte, 1});
                         if (got.fds.empty()) return;
                         adopt(std::move(got.fds[0]));
                     }));
                     return port;
                 }});
            guest_link.finish(5s);
        });
        ASSERT_TRUE(std::holds_alternative<Started>(*next_of_link()));
    }
    void TearDown() override {
        host_.reset();
        if (guest_.joinable()) guest_.join();
        fs::remove_all(root_);
    }
    std::optional<GuestFrame> next_of_link() {
        for (;;) {
            auto frame = link_.next();
            if (!frame || *frame) return frame ? *frame : std::nullopt;
            std::byte chunk[65536];
            ssize_t count = ::read(host_.get(), chunk, sizeof chunk);
            if (count <= 0) return std::nullopt;
            link_.feed(std::span(chunk).first(static_cast<size_t>(count)));
        }
    }
    Caller connect(const CallerFrame& request) {
        auto pair = *make_socket_pair(SOCK_STREAM);
        std::vector<Fd> fds;
        fds.push_back(std::move(pair.second));
        EXPECT_EQ(send_with_fds(door_.get(), std::span("x", 1), fds), 1);
        Caller caller(std::move(pair.first));
        caller.say(request);
        return caller;
    }
    Caller shell(std::string script, ExecRequest request = {}) {
        request.command = {"sh", "-c", std::move(script)};
        return connect(request);
    }
    // The agent's shell may say "Terminated" of its sleep, before or after the commands' ends.
    std::optional<GuestFrame> next_but_output() {
        auto frame = next_of_link();
        while (frame && std::holds_alternative<Output>(*frame)) frame = next_of_link();
        return frame;
    }
    ExecEnded end_on_link() {
        auto frame = next_but_output();
        if (frame && std::holds_alternative<ExecEnded>(*frame)) return std::get<ExecEnded>(*frame);
        ADD_FAILURE() << "no ExecEnded on the link";
        return {};
    }

    std::string root_;
    Fd host_, door_;
    GuestFrameReader link_;
    std::thread guest_;
};

TEST_F(ExecTest, OutputApartAndTheExitCode) {
    auto caller = shell("echo out; echo err >&2; pwd; echo $TOKEN $MORE $HOME; cat; exit 7",
                        {.number = 41, .environment = {"MORE=1"}});
    caller.expect_running();
    auto heard = caller.to_end();
    EXPECT_EQ(heard.out,
              cat("out\n", root_, "\nplaceholder 1 ", home_of(::getuid(), *read_file("/etc/passwd")), "\n"));
    EXPECT_EQ(heard.err, "err\n");
    EXPECT_EQ(heard.ended, (Ended{.by_signal = false, .value = 7}));
    EXPECT_EQ(end_on_link(), (ExecEnded{.number = 41, .by_signal = false, .value = 7}));
}

TEST_F(ExecTest, SignalsThatWeIgnoreAreNotIgnoredByTheCommand) {
    for (int number : {SIGPIPE, SIGHUP}) {
        auto before = ::signal(number, SIG_IGN);
        auto heard = shell(cat("kill -", number, " $$; echo still there")).to_end();
        ::signal(number, before);
        EXPECT_EQ(heard.out, "");
        EXPECT_EQ(heard.ended, (Ended{.by_signal = true, .value = static_cast<uint8_t>(number)}));
    }
}

TEST_F(ExecTest, WhatIsAskedForReplacesTheAgents) {
    auto caller = shell("echo $TOKEN; pwd", {.environment = {"TOKEN=mine"}, .working_directory = "/"});
    EXPECT_EQ(caller.to_end().out, "mine\n/\n");
    caller = shell("kill -SEGV $$");
    EXPECT_EQ(caller.to_end().ended, (Ended{.by_signal = true, .value = SIGSEGV}));
    ASSERT_TRUE(write_file_atomic(root_ + "/script", "#!/bin/sh\necho here\n", 0755));
    caller = connect(ExecRequest{.command = {"./script"}});
    EXPECT_EQ(caller.to_end().out, "here\n");
}

TEST_F(ExecTest, WhatCannotStartSaysWhy) {
    auto refusal = [&](const ExecRequest& request) {
        auto heard = connect(request).to_end();
        return heard.failed ? cat(heard.failed->exit_code, " ", heard.failed->message) : "started";
    };
    EXPECT_EQ(refusal({.command = {"no-such"}}), "127 command not found: no-such (PATH /usr/bin:/bin)");
    EXPECT_EQ(refusal({.command = {"/etc/passwd"}}),
              "126 command /etc/passwd is not executable: chmod +x it in the image");
    EXPECT_EQ(refusal({.command = {"true"}, .working_directory = "/no"}),
              "126 enter working directory /no: No such file or directory");
    EXPECT_EQ(refusal({.command = {"true"}, .user = "nobody-here"}),
              "126 no user \"nobody-here\" in the image's /etc/passwd: say its number");
    EXPECT_EQ(refusal({.command = {"true"}, .user = "1:2:3"}),
              "126 user \"1:2:3\": use NAME, UID or UID:GID");
}

TEST_F(ExecTest, AnotherUser) {
    if (::getuid() != 0) GTEST_SKIP() << "needs root";
    ::chmod(root_.c_str(), 0755);
    EXPECT_EQ(shell("id -u; id -g; echo $HOME", {.user = "1234"}).to_end().out, "1234\n1234\n/\n");
    EXPECT_EQ(shell("id -u; id -g", {.user = "1234:77"}).to_end().out, "1234\n77\n");
    EXPECT_EQ(shell("id -un", {.user = "nobody"}).to_end().out, "nobody\n");
}

TEST_F(ExecTest, MegabytesThroughAndBack) {
    std::string sent(3 << 20, '\0');
    for (size_t i = 0; i < sent.size(); i++) sent[i] = static_cast<char>(i * 31 + i / 257);
    auto caller = shell("cat", {.interactive = true});
    caller.expect_running();
    auto heard = caller.feed(sent);
    EXPECT_TRUE(heard.out == sent) << heard.out.size();
    EXPECT_EQ(heard.ended, Ended{});
}

TEST_F(ExecTest, AReaderWhoWaitsHoldsUpItsOwnCommandOnly) {
    auto flood = shell("yes 0123456789 | head -c 4000000");
    flood.expect_running();
    std::this_thread::sleep_for(300ms); // the stream fills and the command blocks
    EXPECT_EQ(shell("echo quick").to_end().out, "quick\n");
    auto heard = flood.to_end(); // and nothing of it is lost
    EXPECT_EQ(heard.out.size(), 4'000'000U);
    EXPECT_EQ(heard.ended, Ended{});
}

TEST_F(ExecTest, SignalsPassACommandThatDoesNotRead) {
    auto caller =
        shell("trap 'echo got it; exit 5' INT; echo up; while :; do sleep 0.05; done", {.interactive = true});
    caller.until("up");
    for (size_t sent = 0; sent < kInputWindow; sent += kMaxPiece)
        caller.say(Input{.bytes = std::string(kMaxPiece, 'x')});
    caller.say(Signal{.number = SIGINT});
    auto heard = caller.to_end();
    EXPECT_TRUE(heard.out.contains("got it")) << heard.out;
    EXPECT_EQ(heard.ended, (Ended{.by_signal = false, .value = 5}));
}

TEST_F(ExecTest, InputBeyondTheWindowEndsIt) {
    auto caller = shell("sleep 30", {.interactive = true});
    caller.expect_running();
    auto piece = *encode(CallerFrame(Input{.bytes = std::string(kMaxPiece, 'x')}));
    for (size_t sent = 0; sent <= kInputWindow + (size_t{128} << 10);
         sent += kMaxPiece) // a pipe takes 64 KiB
        if (!write_all(caller.socket(), piece)) break;
    auto heard = caller.to_end();
    ASSERT_TRUE(heard.failed);
    EXPECT_EQ(heard.failed->message, "more input than its window");
}

TEST_F(ExecTest, ATerminalWithItsSize) {
    auto caller =
        shell("tty; stty size; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done",
              {.terminal = true, .interactive = true, .rows = 31, .columns = 117});
    auto shown = caller.until("ready");
    EXPECT_TRUE(shown.contains("/dev/pts/")) << shown;
    EXPECT_TRUE(shown.contains("31 117\r\n")) << shown;
    caller.say(Resize{.rows = 40, .columns = 90});
    auto heard = caller.to_end();
    EXPECT_TRUE(heard.out.contains("40 90\r\n")) << heard.out;
    EXPECT_EQ(heard.ended, (Ended{.by_signal = false, .value = 3}));
    EXPECT_EQ(heard.err, "");

    // Ctrl-C is the terminal's business; so is the end of input.
    caller =
        shell("echo ready; exec sleep 30", {.terminal = true, .interactive = true, .rows = 1, .columns = 1});
    caller.until("ready");
    caller.say(Input{.bytes = "\x03"});
    EXPECT_EQ(caller.to_end().ended, (Ended{.by_signal = true, .value = SIGINT}));
    caller = shell("stty -echo; cat; echo over", {.terminal = true, .interactive = true});
    caller.expect_running();
    caller.say(Input{.bytes = "line\n"});
    caller.until("line");
    caller.say(InputEnd{});
    EXPECT_TRUE(caller.to_end().out.contains("over"));
}

TEST_F(ExecTest, ACallerThatLeavesIsHungUpOn) {
    for (bool terminal : {false, true}) {
        auto mark = cat(root_, "/hup-", terminal);
        // A shell says "Hangup" of its child, and ends by PIPE if nobody hears it.
        auto caller = shell(cat("exec 2>/dev/null; trap 'echo hup > ", mark,
                                "; exit 0' HUP; echo up; while :; do sleep 0.05; done"),
                            {.number = 5, .terminal = terminal});
        caller.until("up");
        caller.hang_up();
        EXPECT_EQ(end_on_link().number, 5U);
        EXPECT_EQ(read_file(mark).value_or("nothing"), "hup\n");
    }
    auto stubborn = shell("trap '' HUP; echo up; while :; do sleep 0.05; done", {.number = 6});
    stubborn.until("up");
    stubborn.hang_up();
    EXPECT_EQ(end_on_link(), (ExecEnded{.number = 6, .by_signal = true, .value = SIGKILL}));
}

TEST_F(ExecTest, WhatIsLeftRunningHoldsNobodyUp) {
    auto caller = shell("sleep 20 & echo started");
    auto before = Clock::now();
    EXPECT_EQ(caller.to_end().out, "started\n");
    EXPECT_LT(Clock::now() - before, 5s);
}

TEST_F(ExecTest, TooManyAreRefused) {
    std::vector<Caller> callers;
    for (size_t i = 0; i < kMaxExecAtOnce; i++) {
        callers.push_back(shell("read x", {.interactive = true}));
        callers.back().expect_running();
    }
    auto heard = shell("true").to_end();
    ASSERT_TRUE(heard.failed);
    EXPECT_EQ(heard.failed->message, "8 commands and copies run already, the most at a time");
    callers.pop_back();
    (void)end_on_link();
    for (int i = 0; i < 100; i++) {
        auto again = shell("true").to_end();
        if (again.ended) return;
        std::this_thread::sleep_for(20ms);
    }
    ADD_FAILURE() << "there is no room again";
}

TEST_F(ExecTest, NonsenseEndsTheStream) {
    auto caller = shell("sleep 30", {.number = 9});
    caller.expect_running();
    ASSERT_TRUE(write_all(caller.socket(), std::string(100, 'A')));
    EXPECT_FALSE(caller.next());
    EXPECT_EQ(end_on_link(), (ExecEnded{.number = 9, .by_signal = true, .value = SIGHUP}));
}

TEST_F(ExecTest, TheAgentsEndIsTheirs) {
    auto caller = shell("echo up; sleep 30", {.number = 3});
    caller.until("up");
    ASSERT_TRUE(write_all(host_.get(), *encode(HostFrame(Stop{.grace_ms = 5000}))));
    EXPECT_EQ(caller.to_end().ended, (Ended{.by_signal = true, .value = SIGKILL}));
    EXPECT_EQ(end_on_link().number, 3U);
    auto last = next_but_output();
    EXPECT_TRUE(last && std::holds_alternative<Exited>(*last));
}

TEST_F(ExecTest, CopiesOutAndIn) {
    fs::create_directories(root_ + "/from/a");
    ASSERT_TRUE(write_file_atomic(root_ + "/from/a/file", "content", 0640));
    fs::create_symlink("a/file", root_ + "/from/link");
    auto out = connect(CopyRequest{.number = 1, .path = "from"});
    CopyStream stream(out.socket());
    CopyReport report;
    auto copied = receive_tree(stream, {.path = root_ + "/copy", .name = "from"}, {}, report, {});
    ASSERT_TRUE(copied) << copied.error().message;
    EXPECT_EQ(*read_file(root_ + "/copy/link"), "content");
    EXPECT_EQ(end_on_link(), (ExecEnded{.number = 1}));

    auto in =
        connect(CopyRequest{.number = 2, .direction = Direction::IntoGuest, .path = "back", .name = "x"});
    in.expect_running();
    CopyStream up(in.socket());
    ASSERT_TRUE(send_tree(up, root_ + "/copy", report, {}));
    auto done = up.receive();
    ASSERT_TRUE(done && *done && std::holds_alternative<Done>(**done));
    EXPECT_EQ(*read_file(root_ + "/back/a/file"), "content");

    auto missing = connect(CopyRequest{.number = 3, .path = "/not/there"});
    CopyStream none(missing.socket());
    auto why = receive_tree(none, {.path = root_ + "/y", .name = "y"}, {}, report, {});
    ASSERT_FALSE(why);
    EXPECT_EQ(why.error().message, "/not/there: No such file or directory");
}

} // namespace
} // namespace nullbox::agent_init
