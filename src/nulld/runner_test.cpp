// The supervisor's edge on real processes: this test makes itself the reaper of its descendants and runs
// small shell scripts as services. Sandboxes need root; without it there is nothing here to run.
#include "nulld/runner.h"

#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "nulld/reaper.h"

namespace nullbox::nulld {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Processes : public ::testing::Test {
protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root: services change their uid";
        if (sandbox::landlock_version() == 0) GTEST_SKIP() << "this kernel has no Landlock";
        ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        ::sigprocmask(SIG_SETMASK, nullptr, &old_mask_);
        loop_ = Loop::make().value();
        console_ = std::make_unique<Console>(*loop_, "/nowhere", [] {});
        log_ = std::make_unique<LogBook>(*console_, false);
    }
    void TearDown() override {
        if (runner_) {
            runner_->shut_down(Clock::now() + seconds(1));
            until([&] { return runner_->supervisor().all_down(); });
        }
        reaper_.reset();
        ::sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
        ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
        std::filesystem::remove_all("/run/nulld-test");
    }
    static manifest::ServiceConfig shell(std::string script) {
        manifest::ServiceConfig config;
        config.name = "nulld-test";
        config.exec = {"/bin/sh", "-c", std::move(script)};
        config.uid = config.gid = 4711;
        config.syscalls_unrestricted = true;
        config.read_paths = {"/"};
        config.execute_paths = {"/"};
        config.restart = manifest::RestartPolicy::Never;
        config.stop_timeout = milliseconds(300);
        return config;
    }
    void run(manifest::ServiceConfig config) {
        std::vector<manifest::ServiceConfig> services;
        services.push_back(std::move(config));
        runner_ = std::make_unique<Runner>(*loop_, *log_, std::move(services),
                                           Runner::Options{.cgroup_root = cgroup_root(), .changed = [] {}});
        reaper_ =
            Reaper::make(*loop_, {.ended = [&](pid_t pid, Exit exit) { return runner_->ended(pid, exit); },
                                  .all_reaped = [&] { runner_->pump(); },
                                  .signaled = [](int, pid_t) {}})
                .value();
        runner_->start_all();
    }
    // Real groups where the machine has them.
    static std::string cgroup_root() {
        std::string controllers = read_file("/sys/fs/cgroup/cgroup.subtree_control").value_or("");
        return controllers.contains("pids") && controllers.contains("memory") ? "/sys/fs/cgroup" : "";
    }
    bool until(const std::function<bool()>& condition, milliseconds most = seconds(5)) {
        auto end = Clock::now() + most;
        while (!condition() && Clock::now() < end) (void)loop_->run_once(milliseconds(20));
        return condition();
    }
    const ServiceState& state() { return runner_->supervisor().states()[0]; }
    std::vector<std::string> lines() {
        std::vector<std::string> out;
        for (auto each : log_->newest("nulld-test", 1000)) out.push_back(each.line->text);
        return out;
    }
    std::unique_ptr<Loop> loop_;
    std::unique_ptr<Console> console_;
    std::unique_ptr<LogBook> log_;
    std::unique_ptr<Runner> runner_;
    std::unique_ptr<Reaper> reaper_;
    sigset_t old_mask_{};
};

TEST_F(Processes, ReadyStatusOutputAndTheWholeSandbox) {
    run(shell(
        "echo STATUS=working >&$NULLBOX_NOTIFY_FD; echo READY >&$NULLBOX_NOTIFY_FD;"
        "id -u; id -G; umask; ls /proc/self/fd | wc -l; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status;"
        "ulimit -c; env | grep -v -E '^(PWD|_|SHLVL|OLDPWD)' ; touch /tmp/never 2>&1;"
        "trap 'echo bye; exit 0' TERM; echo >&2 loud; while :; do sleep 0.01; done"));
    ASSERT_TRUE(until([&] { return !lines().empty() && lines().back() == "loud"; }));
    EXPECT_EQ(state().actual, Actual::Up);
    EXPECT_EQ(runner_->status_text(0), "working");
    auto seen = lines();
    ASSERT_EQ(seen.size(), 10u);
    EXPECT_EQ(seen[0], "4711");
    EXPECT_EQ(seen[1], "4711");
    EXPECT_EQ(seen[2], "0077");
    EXPECT_EQ(seen[3], "5") << "0, 1, 2, the start-up descriptor, and ls's own";
    EXPECT_EQ(seen[4], "CapEff:\t0000000000000000");
    EXPECT_EQ(seen[5], "NoNewPrivs:\t1");
    EXPECT_EQ(seen[6], "0");
    EXPECT_EQ(seen[7], "NULLBOX_NOTIFY_FD=3");
    EXPECT_NE(seen[8].find("Permission denied"), std::string::npos) << seen[8];
    runner_->stop(0);
    ASSERT_TRUE(until([&] { return state().actual == Actual::Down; }));
    EXPECT_EQ(lines().back(), "bye");
    EXPECT_EQ(state().last_exit, "exited with status 0");
}

TEST_F(Processes, AMissingProgramIsNamed) {
    auto config = shell("");
    config.exec = {"/system/bin/nothing"};
    run(std::move(config));
    ASSERT_TRUE(until([&] { return state().outcome == Outcome::Failed; }));
    EXPECT_EQ(state().last_error, "cannot execute /system/bin/nothing: No such file or directory");
}

TEST_F(Processes, AProgramThatIsNotExecutableIsNamed) {
    auto config = shell("");
    config.exec = {"/etc/passwd"};
    run(std::move(config));
    ASSERT_TRUE(until([&] { return state().outcome == Outcome::Failed; }));
    EXPECT_EQ(state().last_error, "cannot execute /etc/passwd: Permission denied");
}

TEST_F(Processes, AMissingWorkingDirectoryIsNamed) {
    auto config = shell("");
    config.working_directory = "/not/there";
    run(std::move(config));
    ASSERT_TRUE(until([&] { return state().outcome == Outcome::Failed; }));
    EXPECT_EQ(state().last_error, "cannot change to working directory /not/there: No such file or directory");
}

TEST_F(Processes, AForbiddenSystemCallSaysSo) {
    auto config = shell("");
    config.exec = {"/bin/true"}; // a dynamic program maps executable memory, which @basic refuses
    config.syscalls_unrestricted = false;
    config.syscalls = {"@basic"};
    run(std::move(config));
    ASSERT_TRUE(until([&] { return state().outcome == Outcome::Failed; }));
    EXPECT_NE(state().last_error.find("SIGSYS"), std::string::npos) << state().last_error;
}

TEST_F(Processes, ForkedChildrenGoWithTheService) {
    run(shell("echo READY >&3; (sleep 100 & sleep 100 &) ; echo forked; exit 3"));
    ASSERT_TRUE(until([&] { return state().outcome == Outcome::Failed; }));
    EXPECT_EQ(state().last_error, "exited with status 3");
    // Whatever it left was killed and comes to us as an orphan.
    EXPECT_TRUE(until([&] { return reaper_->counts().orphans >= 2; }));
}

TEST_F(Processes, AStuckServiceIsKilledAfterItsTime) {
    run(shell("trap '' TERM; echo READY >&3; while :; do sleep 0.05; done"));
    ASSERT_TRUE(until([&] { return state().actual == Actual::Up; }));
    auto began = Clock::now();
    runner_->stop(0);
    ASSERT_TRUE(until([&] { return state().actual == Actual::Down; }));
    EXPECT_GE(Clock::now() - began, milliseconds(300));
    EXPECT_LT(Clock::now() - began, seconds(2));
    EXPECT_NE(state().last_exit.find("SIGKILL"), std::string::npos);
}

TEST_F(Processes, AFloodOfOutputStallsNobody) {
    run(shell("echo READY >&3; yes floodfloodfloodfloodflood"));
    ASSERT_TRUE(until([&] { return state().actual == Actual::Up; }));
    int rounds = 0;
    auto timer_due = Clock::now();
    Clock::duration worst{};
    auto end = Clock::now() + milliseconds(600);
    Watch timer;
    std::function<void()> tick = [&] {
        worst = std::max(worst, Clock::now() - timer_due);
        rounds++;
        timer_due = Clock::now() + milliseconds(5);
        timer = loop_->at(timer_due, tick);
    };
    tick();
    while (Clock::now() < end) (void)loop_->run_once(milliseconds(20));
    timer.drop();
    EXPECT_GE(rounds, 20);
    EXPECT_LE(log_->newest("nulld-test", 5000).size(), LogRing::kMaxLines);
    EXPECT_LT(log_->last_number(), 100'000u) << "the service waits in its own write()";
}

TEST_F(Processes, CrashesLeaveNothingBehind) {
    auto config = shell("exit 1");
    config.restart = manifest::RestartPolicy::Always;
    config.restart_delay = config.restart_delay_max = milliseconds(1);
    run(std::move(config));
    auto fds = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); };
    ASSERT_TRUE(until([&] { return state().restarts >= 5; }));
    auto before = fds();
    ASSERT_TRUE(until([&] { return state().restarts >= 60; }, seconds(20)));
    EXPECT_LE(fds(), before + 6);
    EXPECT_EQ(runner_->supervisor().describe(0, Clock::now()).substr(0, 5) == "keeps" ||
                  state().actual != Actual::Delayed,
              true);
}

TEST_F(Processes, OrphansAreReaped) {
    run(shell("echo READY >&3; i=0; while [ $i -lt 50 ]; do (sh -c : &) ; i=$((i+1)); done; sleep 100"));
    ASSERT_TRUE(until([&] { return reaper_->counts().orphans >= 50; }));
    EXPECT_EQ(state().actual, Actual::Up);
}

} // namespace nullbox::nulld
