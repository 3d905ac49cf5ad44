// The session against a real shell, with a socket pair where the VM has a vsock stream.
#include "agent_init/session.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "agent_init/stream_relay.h"
#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {
namespace {

using namespace guest_link;
using namespace std::chrono_literals;

Start shell(std::string script) {
    return {.command = {"sh", "-c", std::move(script)},
            .environment = {"PATH=/usr/bin:/bin", "WHO=world"},
            .uid = ::getuid(),
            .gid = ::getgid(),
            .hostname = "t"};
}

// The host's side of one session, which runs in a thread of its own as it would in a guest.
class HostSide {
public:
    explicit HostSide(const Start& start, SessionOptions options = {}) {
        options.kill_rest = [] {};
        sigset_t child;
        ::sigemptyset(&child);
        ::sigaddset(&child, SIGCHLD);
        ::pthread_sigmask(SIG_BLOCK, &child, nullptr);
        auto pair = *make_socket_pair(SOCK_STREAM);
        host_ = std::move(pair.first);
        guest_ =
            std::thread([start, options = std::move(options), socket = std::move(pair.second)]() mutable {
                Link link(std::move(socket));
                auto done = run_session(link, start, options);
                link.finish(5s);
            });
    }
    ~HostSide() {
        host_.reset();
        guest_.join();
    }
    std::optional<GuestFrame> next() {
        for (;;) {
            auto frame = reader_.next();
            EXPECT_TRUE(frame) << frame.error().message;
            if (!frame || *frame) return frame ? *frame : std::nullopt;
            std::byte chunk[65536];
            ssize_t count = ::read(host_.get(), chunk, sizeof chunk);
            if (count <= 0) return std::nullopt;
            reader_.feed(std::span(chunk).first(static_cast<size_t>(count)));
        }
    }
    template <typename T>
    T expect() {
        auto frame = next();
        if (!frame || !std::holds_alternative<T>(*frame)) {
            ADD_FAILURE() << "another frame than expected, index " << (frame ? frame->index() : 99);
            return {};
        }
        return std::get<T>(*frame);
    }
    // Every line until Exited.
    std::pair<std::vector<std::string>, Exited> to_end() {
        std::vector<std::string> lines;
        while (auto frame = next()) {
            if (auto* output = std::get_if<Output>(&*frame))
                lines.push_back(cat(output->stream == Stream::Stdout ? "out " : "err ", output->text));
            else
                return {lines, std::get<Exited>(*frame)};
        }
        ADD_FAILURE() << "the link closed before Exited";
        return {};
    }
    void say(const HostFrame& frame) { EXPECT_TRUE(write_all(host_.get(), *encode(frame))); }
    void stop(uint32_t grace_ms) { say(Stop{.grace_ms = grace_ms}); }

private:
    Fd host_;
    std::thread guest_;
    GuestFrameReader reader_;
};

TEST(Session, OutputAndExitCode) {
    HostSide run(shell("echo hello $WHO; echo problem >&2; printf unfinished; exit 7"));
    EXPECT_GT(run.expect<Started>().uptime_ns, 0U);
    auto [lines, exited] = run.to_end();
    std::ranges::sort(lines);
    EXPECT_EQ(lines, (std::vector<std::string>{"err problem", "out hello world", "out unfinished"}));
    EXPECT_EQ(exited, (Exited{.by_signal = false, .value = 7}));
}

TEST(Session, ASignalIsReportedAsOne) {
    HostSide run(shell("kill -SEGV $$"));
    run.expect<Started>();
    EXPECT_EQ(run.to_end().second, (Exited{.by_signal = true, .value = SIGSEGV}));
}

TEST(Session, AnUnfinishedLineIsShownWhileTheCommandWaits) {
    HostSide run(shell("printf 'Continue? '; sleep 1; echo yes"));
    run.expect<Started>();
    auto prompt = run.expect<Output>();
    EXPECT_EQ(prompt.text, "Continue? ");
    EXPECT_TRUE(prompt.partial);
    EXPECT_EQ(run.expect<Output>().text, "yes");
}

TEST(Session, StopSendsTermAndThenKill) {
    HostSide polite(shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"));
    polite.expect<Started>();
    EXPECT_EQ(polite.expect<Output>().text, "up");
    polite.stop(5000);
    auto [lines, exited] = polite.to_end();
    EXPECT_TRUE(std::ranges::contains(lines, "out bye")); // the shell may also speak of its sleep's end
    EXPECT_EQ(exited.value, 3U);

    HostSide stubborn(shell("trap '' TERM; echo up; while :; do sleep 0.05; done"));
    stubborn.expect<Started>();
    stubborn.expect<Output>();
    stubborn.stop(200);
    EXPECT_EQ(stubborn.to_end().second, (Exited{.by_signal = true, .value = SIGKILL}));
}

TEST(Session, HealthIsLookedAtWhenTheHostAsks) {
    auto loop = *Loop::make();
    auto listener = *StreamRelay::listen(*loop, 0, [] { return Result<Fd>(error("unused")); });
    HostSide run(shell("sleep 60"));
    run.expect<Started>();
    run.say(CheckHealth{.number = 3, .port = listener->port(), .timeout_ms = 5000});
    EXPECT_EQ(run.expect<Health>(), (Health{.number = 3, .good = true, .says = "accepts connections"}));
    auto port = listener->port();
    listener.reset();
    run.say(CheckHealth{.number = 4, .http = true, .port = port, .path = "/", .timeout_ms = 5000});
    EXPECT_EQ(run.expect<Health>(), (Health{.number = 4, .good = false, .says = "connection refused"}));
    run.stop(0);
    run.to_end();
}

// Every look at the counter finds one more process killed.
static uint64_t more_each_time() {
    static std::atomic<uint64_t> kills = 0;
    return ++kills;
}

TEST(Session, DeathForWantOfMemoryIsToldFromOthers) {
    auto end_of = [](const char* script, uint64_t (*kills)()) {
        HostSide run(shell(script), {.kill_rest = {}, .oom_kills = kills});
        run.expect<Started>();
        return run.to_end().second;
    };
    EXPECT_TRUE(end_of("kill -KILL $$", more_each_time).out_of_memory);
    EXPECT_TRUE(end_of("exit 137", more_each_time).out_of_memory) << "a shell whose child was killed";
    EXPECT_FALSE(end_of("exit 1", more_each_time).out_of_memory) << "it lived on, and ended by itself";
    EXPECT_FALSE(end_of("kill -TERM $$", more_each_time).out_of_memory);
    EXPECT_FALSE(end_of("kill -KILL $$", [] { return uint64_t{5}; }).out_of_memory);
}

TEST(Session, ACommandWithFarTooLittleMemoryIsEndedAsIfTheKernelHad) {
    auto soon = [](Loop& loop, std::function<void()> thrashing) -> Result<ThrashWatch> {
        return ThrashWatch{.trigger = {}, .watch = loop.after(10ms, std::move(thrashing))};
    };
    HostSide run(shell("sleep 60 & wait"), {.kill_rest = {}, .watch_for_thrashing = soon});
    run.expect<Started>();
    auto end = run.to_end().second;
    EXPECT_TRUE(end.by_signal && end.value == SIGKILL) << end.value;
    EXPECT_TRUE(end.out_of_memory);
}

TEST(Session, ASlowHostLosesNoLine) {
    constexpr int kLines = 60'000; // 1.5 MB of frames, several times what queue and socket hold
    HostSide run(shell(cat("seq ", kLines)));
    run.expect<Started>();
    std::this_thread::sleep_for(500ms); // the queue fills and the command blocks
    auto [lines, exited] = run.to_end();
    ASSERT_EQ(lines.size(), size_t{kLines});
    EXPECT_EQ(lines.back(), cat("out ", kLines));
    EXPECT_EQ(exited.value, 0U);
}

TEST(Session, WhatCannotStartSaysWhy) {
    auto message = [](Start start) {
        HostSide run(start);
        auto failure = run.expect<Failure>();
        EXPECT_EQ(failure.stage, "start");
        return failure.message;
    };
    Start start = shell("");
    start.command = {"no-such-program"};
    EXPECT_EQ(message(start), "cannot start: command not found: no-such-program (PATH /usr/bin:/bin)");
    start.command = {"/etc/passwd"};
    EXPECT_EQ(message(start),
              "cannot start: command /etc/passwd is not executable: chmod +x it in the image");
    start.command = {"/no/such"};
    EXPECT_EQ(message(start), "cannot start: command not found: /no/such is not in the image");
    start = shell("true");
    start.working_directory = "/no/such/folder";
    EXPECT_EQ(message(start),
              "cannot start: enter working directory /no/such/folder: No such file or directory");
    auto script = cat(::testing::TempDir(), "no_interpreter_", ::getpid());
    ASSERT_TRUE(write_file_atomic(script, "#!/no/such/interpreter\n", 0755));
    start = shell("");
    start.command = {script};
    EXPECT_EQ(message(start), cat("cannot start: execute ", script,
                                  ": its interpreter (#! line) or its dynamic loader is not in the image"));
    ::unlink(script.c_str());
}

TEST(Session, MemoryIsOfferedWhereStartSaysSo) {
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    ::pthread_sigmask(SIG_BLOCK, &child, nullptr);
    auto run = [](bool has_memory) {
        auto pair = *make_socket_pair(SOCK_STREAM);
        Link link(std::move(pair.second));
        Start start = shell("true");
        start.has_memory = has_memory;
        EXPECT_TRUE(write_all(pair.first.get(), *encode(HostFrame(Stop{}))));
        // A port that this process holds already: who listens fails, who does not, does not.
        auto loop = *Loop::make();
        auto holder = *StreamRelay::listen(*loop, 0, [] { return Result<Fd>(error("unused")); });
        EXPECT_TRUE(run_session(link, start,
                                {.kill_rest = [] {},
                                 .connect_memory = [] { return Result<Fd>(error("unused")); },
                                 .memory_port = holder->port()}));
        std::byte bytes[4096];
        GuestFrameReader reader;
        ssize_t count = ::recv(pair.first.get(), bytes, sizeof bytes, MSG_DONTWAIT);
        reader.feed(std::span(bytes).first(static_cast<size_t>(std::max<ssize_t>(count, 0))));
        auto frame = reader.next();
        EXPECT_TRUE(frame && *frame);
        return (*frame)->index() == GuestFrame(Failure{}).index() ? std::get<Failure>(**frame).message
                                                                  : std::string("started");
    };
    EXPECT_EQ(run(false), "started");
    EXPECT_TRUE(run(true).starts_with("cannot start: listen on 127.0.0.1 port ")) << run(true);
}

TEST(Command, EnvironmentDefaultsGiveWayToTheManifest) {
    constexpr std::string_view kPasswd =
        "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\n";
    auto environment = full_environment({"PATH=/app", "PATHOLOGY=1"}, 1000, kPasswd);
    EXPECT_EQ(environment, (std::vector<std::string>{"PATH=/app", "PATHOLOGY=1", "HOME=/home/agent",
                                                     "USER=agent", "TERM=dumb", "LANG=C.UTF-8"}));
    EXPECT_EQ(full_environment({"PATH="}, 7, "broken line").at(1), "HOME=/");
}

} // namespace
} // namespace nullbox::agent_init
