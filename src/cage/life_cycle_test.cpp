#include "cage/life_cycle.h"

#include <gtest/gtest.h>

namespace nullbox::cage {
namespace {

using namespace std::chrono_literals;
using manifest::RestartPolicy;

// A life cycle with a clock that the test moves, and what it asked for last.
struct Machine {
    explicit Machine(RestartPolicy restart = RestartPolicy::Never) : life(restart) {}
    LifeCycle life;
    LifeCycle::Time now{};
    std::vector<Action> actions;

    Machine& on(const Event& event) {
        actions = life.handle(event, now);
        return *this;
    }
    Machine& start() { return on(event::StartRequested{}).on(event::Prepared{}); }
    Machine& run() { return start().on(event::CommandStarted{}); }
    Machine& end(uint32_t code) {
        return on(event::CommandEnded{{.by_signal = false, .value = code, .reason = ""}})
            .on(event::VmGone{"ended"});
    }
    template <typename T>
    const T* asked() const {
        for (const auto& one : actions)
            if (auto* found = std::get_if<T>(&one)) return found;
        return nullptr;
    }
    std::chrono::milliseconds restart_delay() const {
        auto* restart = asked<action::RestartAfter>();
        return restart ? restart->delay : -1ms;
    }
};

TEST(LifeCycle, StartRunExit) {
    Machine m;
    EXPECT_EQ(m.life.state(), State::Stopped);
    m.on(event::StartRequested{});
    EXPECT_EQ(m.life.state(), State::Waiting);
    EXPECT_TRUE(m.asked<action::Prepare>());
    EXPECT_FALSE(m.asked<action::Launch>()) << "not before what it needs is there";
    m.on(event::Prepared{});
    EXPECT_EQ(m.life.state(), State::Starting);
    EXPECT_TRUE(m.asked<action::Launch>());
    EXPECT_EQ(m.asked<action::ArmTimer>()->after, 60s);
    m.on(event::CommandStarted{});
    EXPECT_EQ(m.life.state(), State::Running);
    EXPECT_TRUE(m.asked<action::CancelTimer>());
    m.on(event::CommandEnded{{.by_signal = true, .value = 9, .reason = "out of memory"}});
    EXPECT_EQ(m.life.state(), State::Running) << "the VM is still there";
    EXPECT_EQ(m.asked<action::ArmTimer>()->after, 5s);
    m.on(event::VmGone{"powered off"});
    EXPECT_EQ(m.life.describe(), "exited by signal 9 (out of memory)");
    EXPECT_EQ(m.restart_delay(), -1ms);
}

TEST(LifeCycle, NeverTwice) {
    Machine m;
    m.run().on(event::StartRequested{});
    EXPECT_TRUE(m.actions.empty());
    m.on(event::StopRequested{}).on(event::StartRequested{});
    EXPECT_TRUE(m.actions.empty()) << "the old VM process may still be there";
}

TEST(LifeCycle, StopAsksFirstAndKillsThen) {
    Machine m;
    m.run().on(event::StopRequested{});
    EXPECT_EQ(m.life.state(), State::Stopping);
    EXPECT_TRUE(m.asked<action::AskGuestToStop>());
    EXPECT_FALSE(m.asked<action::KillVm>());
    EXPECT_EQ(m.asked<action::ArmTimer>()->after, 10s) << "the guest's own grace comes first";
    m.on(event::TimedOut{});
    EXPECT_TRUE(m.asked<action::KillVm>());
    m.on(event::VmGone{"killed"});
    EXPECT_EQ(m.life.state(), State::Stopped);
}

TEST(LifeCycle, StopWhileStartingKillsAtOnce) {
    Machine m;
    m.start().on(event::StopRequested{});
    EXPECT_TRUE(m.asked<action::KillVm>());
    m.on(event::CommandStarted{});
    EXPECT_EQ(m.life.state(), State::Stopping) << "a late report does not bring it back";
    m.on(event::VmGone{"killed"});
    EXPECT_EQ(m.life.state(), State::Stopped);
}

TEST(LifeCycle, ALaunchThatFailsSaysWhy) {
    Machine m;
    m.start().on(event::LaunchFailed{"no image"});
    EXPECT_EQ(m.life.describe(), "failed: no image");
    EXPECT_FALSE(m.life.alive());
}

TEST(LifeCycle, AStartThatHangsIsKilled) {
    Machine m;
    m.start().on(event::TimedOut{});
    EXPECT_TRUE(m.asked<action::KillVm>());
    m.on(event::VmGone{"killed"});
    EXPECT_TRUE(m.life.describe().starts_with("failed: did not start within 60 s")) << m.life.describe();
}

TEST(LifeCycle, TheFirstCauseCounts) {
    Machine m;
    m.run().on(event::GuestFailed{"nonsense"});
    EXPECT_TRUE(m.asked<action::KillVm>());
    m.on(event::GuestFailed{"more nonsense"}).on(event::VmGone{"killed"});
    EXPECT_EQ(m.life.describe(), "failed: nonsense");
    Machine n;
    n.run().on(event::LinkClosed{}).on(event::VmGone{"kernel panic"});
    EXPECT_EQ(n.life.describe(), "failed: kernel panic");
}

TEST(LifeCycle, LateWordsOfADeadVmChangeNothing) {
    Machine m;
    m.run().end(0);
    m.on(event::CommandStarted{}).on(event::GuestFailed{"x"}).on(event::VmGone{"x"}).on(event::TimedOut{});
    EXPECT_EQ(m.life.describe(), "exited 0");
    EXPECT_TRUE(m.actions.empty());
}

TEST(LifeCycle, RestartPolicies) {
    Machine never(RestartPolicy::Never), on_failure(RestartPolicy::OnFailure), always(RestartPolicy::Always);
    EXPECT_EQ(never.run().end(1).restart_delay(), -1ms);
    EXPECT_EQ(on_failure.run().end(0).restart_delay(), -1ms);
    EXPECT_EQ(on_failure.run().end(1).restart_delay(), 1s);
    EXPECT_EQ(on_failure.life.describe(), "exited 1, restarts in 1 s");
    EXPECT_EQ(always.run().end(0).restart_delay(), 1s);
    always.on(event::RestartDue{});
    EXPECT_TRUE(always.asked<action::Prepare>());
    EXPECT_EQ(always.life.restarts(), 1U);
}

TEST(LifeCycle, TheDelayGrowsToItsLimitAndResetsAfterAStableRun) {
    Machine m(RestartPolicy::Always);
    m.start();
    std::vector<int64_t> seconds;
    for (int i = 0; i < 8; i++) {
        m.on(event::LaunchFailed{"x"});
        seconds.push_back(m.restart_delay() / 1s);
        m.on(event::RestartDue{}).on(event::Prepared{});
    }
    EXPECT_EQ(seconds, (std::vector<int64_t>{1, 2, 4, 8, 16, 32, 60, 60}));
    m.on(event::CommandStarted{});
    m.now += 30s;
    EXPECT_EQ(m.end(1).restart_delay(), 1s);
}

TEST(LifeCycle, AStopCancelsAPendingRestart) {
    Machine m(RestartPolicy::Always);
    m.run().end(1).on(event::StopRequested{});
    EXPECT_TRUE(m.asked<action::CancelRestart>());
    EXPECT_FALSE(m.life.restart_pending());
    m.on(event::RestartDue{}); // a timer that had already fired
    EXPECT_FALSE(m.asked<action::Prepare>());
}

TEST(LifeCycle, WaitsForWhatIsNotThereAndSaysSo) {
    Machine m;
    m.on(event::StartRequested{});
    EXPECT_EQ(m.life.describe(), "waiting");
    m.on(event::WaitsFor{"the vault: nullctl vault unlock"});
    EXPECT_EQ(m.life.describe(), "waits for the vault: nullctl vault unlock");
    EXPECT_FALSE(m.life.alive());
    EXPECT_TRUE(m.on(event::StartRequested{}).actions.empty()) << "it is already asked for";
    m.on(event::WaitsFor{"the network: no rules"});
    EXPECT_EQ(m.life.describe(), "waits for the network: no rules");
    m.on(event::Prepared{});
    EXPECT_EQ(m.life.describe(), "starting");
    EXPECT_TRUE(m.on(event::WaitsFor{"x"}).on(event::Prepared{}).actions.empty()) << "late words";
    EXPECT_EQ(m.life.describe(), "starting");
}

TEST(LifeCycle, AStopWhileWaitingIsOneAtOnce) {
    Machine m(RestartPolicy::Always);
    m.on(event::StartRequested{}).on(event::WaitsFor{"x"}).on(event::StopRequested{});
    EXPECT_TRUE(m.asked<action::CancelPrepare>());
    EXPECT_EQ(m.life.state(), State::Stopped);
    EXPECT_TRUE(m.on(event::Prepared{}).actions.empty());
}

TEST(LifeCycle, WhatLosesANeedStartsAnewWithTheReason) {
    Machine m; // whatever the restart policy: it was not the agent that ended
    m.run().on(event::NeedLost{"egress ended"});
    EXPECT_EQ(m.life.describe(), "stopping to start anew: egress ended");
    EXPECT_TRUE(m.asked<action::AskGuestToStop>());
    m.on(event::CommandEnded{{.by_signal = true, .value = 15}}).on(event::VmGone{"ended"});
    EXPECT_EQ(m.life.state(), State::Waiting);
    EXPECT_TRUE(m.asked<action::Prepare>());
    EXPECT_EQ(m.life.restarts(), 1U);
    EXPECT_EQ(m.life.lost(), "egress ended");
    m.on(event::Prepared{}).on(event::CommandStarted{});
    EXPECT_EQ(m.life.describe(), "running");
    m.end(0);
    EXPECT_EQ(m.life.describe(), "exited 0");
}

TEST(LifeCycle, AStopDuringAnewStartIsAStop) {
    Machine m;
    m.run().on(event::NeedLost{"egress ended"}).on(event::StopRequested{}).on(event::VmGone{"ended"});
    EXPECT_EQ(m.life.state(), State::Stopped);
}

TEST(LifeCycle, AnAgentThatEndsAnywayDoesNotStartAnew) {
    Machine ended, failed, starting;
    ended.run().on(event::CommandEnded{{.value = 0}}).on(event::NeedLost{"x"}).on(event::VmGone{"ended"});
    EXPECT_EQ(ended.life.describe(), "exited 0");
    failed.run().on(event::GuestFailed{"nonsense"}).on(event::NeedLost{"x"}).on(event::VmGone{"killed"});
    EXPECT_EQ(failed.life.describe(), "failed: nonsense");
    starting.start().on(event::NeedLost{"x"});
    EXPECT_TRUE(starting.asked<action::KillVm>());
    starting.on(event::VmGone{"killed"});
    EXPECT_EQ(starting.life.state(), State::Waiting);
}

TEST(LifeCycle, PausesAndGoesOn) {
    Machine m;
    m.run().on(event::PauseRequested{});
    EXPECT_EQ(m.life.state(), State::Paused);
    EXPECT_TRUE(m.asked<action::PauseVm>());
    EXPECT_EQ(m.asked<action::ArmTimer>()->after, 10s);
    EXPECT_FALSE(m.life.vm_paused());
    m.on(event::VmPaused{});
    EXPECT_TRUE(m.life.vm_paused());
    EXPECT_TRUE(m.asked<action::CancelTimer>()) << "nothing is waited for while it stands still";
    EXPECT_EQ(m.life.describe(), "paused");
    EXPECT_TRUE(m.on(event::PauseRequested{}).actions.empty());
    EXPECT_TRUE(m.on(event::StartRequested{}).actions.empty()) << "its VM is there";
    m.on(event::ResumeRequested{});
    EXPECT_EQ(m.life.state(), State::Running);
    EXPECT_TRUE(m.asked<action::ResumeVm>());
    EXPECT_TRUE(m.on(event::ResumeRequested{}).actions.empty());
    m.on(event::PauseRequested{}).on(event::ResumeRequested{}).on(event::VmPaused{});
    EXPECT_EQ(m.life.state(), State::Running) << "an answer that comes too late";
}

TEST(LifeCycle, OnlyWhatRunsCanBePaused) {
    Machine stopped, starting, ended;
    EXPECT_TRUE(stopped.on(event::PauseRequested{}).actions.empty());
    EXPECT_TRUE(starting.start().on(event::PauseRequested{}).actions.empty());
    ended.run().on(event::CommandEnded{});
    EXPECT_TRUE(ended.on(event::PauseRequested{}).actions.empty()) << "it is about to be gone";
    EXPECT_TRUE(ended.on(event::ResumeRequested{}).actions.empty());
}

TEST(LifeCycle, StopAndKillWorkWhilePaused) {
    Machine m(RestartPolicy::Always);
    m.run().on(event::PauseRequested{}).on(event::VmPaused{}).on(event::StopRequested{});
    EXPECT_TRUE(m.asked<action::ResumeVm>()) << "to end in order it must run";
    EXPECT_TRUE(m.asked<action::AskGuestToStop>());
    EXPECT_EQ(m.asked<action::ArmTimer>()->after, 10s);
    EXPECT_TRUE(m.on(event::TimedOut{}).asked<action::KillVm>());
    m.on(event::VmGone{"killed"});
    EXPECT_EQ(m.life.state(), State::Stopped);
}

TEST(LifeCycle, AVmThatDoesNotPauseIsEnded) {
    Machine m;
    m.run().on(event::PauseRequested{}).on(event::TimedOut{});
    EXPECT_TRUE(m.asked<action::KillVm>());
    m.on(event::VmGone{"killed"});
    EXPECT_EQ(m.life.describe(), "failed: its VM did not pause within 10 s");
    EXPECT_EQ(m.life.last_end()->reason, EndReason::VmFault);
}

TEST(LifeCycle, AVmThatEndsWhilePausedIsSeen) {
    Machine m(RestartPolicy::Always);
    m.run().on(event::PauseRequested{}).on(event::VmPaused{}).on(event::VmGone{"its VM process was killed"});
    EXPECT_EQ(m.life.describe(), "failed: its VM process was killed, restarts in 1 s");
}

TEST(LifeCycle, WhatIsLostInAPauseCountsAfterIt) {
    Machine m;
    m.run().on(event::PauseRequested{}).on(event::VmPaused{}).on(event::NeedLost{"egress ended"});
    EXPECT_TRUE(m.actions.empty());
    EXPECT_EQ(m.life.describe(), "paused") << "nobody asked it to run";
    m.on(event::ResumeRequested{});
    EXPECT_TRUE(m.asked<action::ResumeVm>());
    EXPECT_TRUE(m.asked<action::AskGuestToStop>());
    EXPECT_EQ(m.life.describe(), "stopping to start anew: egress ended");
    m.on(event::VmGone{"ended"});
    EXPECT_EQ(m.life.state(), State::Waiting);
    EXPECT_EQ(m.life.last_end()->reason, EndReason::NeedLost);
}

TEST(LifeCycle, APauseIsNoStableRun) {
    Machine m(RestartPolicy::Always);
    m.run().end(1).on(event::RestartDue{});
    m.on(event::Prepared{}).on(event::CommandStarted{}).on(event::PauseRequested{}).on(event::VmPaused{});
    m.now += 1h;
    m.on(event::ResumeRequested{});
    m.now += 29s;
    EXPECT_EQ(m.end(1).restart_delay(), 2s);
}

TEST(LifeCycle, WhoIsUnhealthyIsStoppedAndStartsByItsPolicy) {
    Machine m(RestartPolicy::OnFailure), never;
    m.run().on(event::Unhealthy{"health: x"});
    EXPECT_TRUE(m.asked<action::AskGuestToStop>());
    EXPECT_FALSE(m.asked<action::KillVm>()) << "it may end in order";
    EXPECT_EQ(m.life.describe(), "stopping: health: x");
    EXPECT_TRUE(m.on(event::Unhealthy{"health: y"}).actions.empty());
    m.on(event::CommandEnded{{.value = 0}}).on(event::VmGone{"ended"});
    EXPECT_EQ(m.life.describe(), "failed: health: x, restarts in 1 s") << "whatever code it ends with";
    EXPECT_EQ(m.life.last_end()->reason, EndReason::Health);
    m.on(event::RestartDue{}).on(event::Prepared{}).on(event::CommandStarted{});
    EXPECT_EQ(m.life.last_end()->text, "health: x") << "why it was started again";
    never.run().on(event::Unhealthy{"health: x"}).on(event::VmGone{"ended"});
    EXPECT_EQ(never.life.describe(), "failed: health: x");
    Machine deaf;
    EXPECT_TRUE(deaf.run().on(event::Unhealthy{"x"}).on(event::TimedOut{}).asked<action::KillVm>());
}

TEST(LifeCycle, EveryEndHasItsWord) {
    auto word = [](auto play) {
        Machine m;
        play(m);
        return m.life.last_end() ? end_reason_name(m.life.last_end()->reason) : "none";
    };
    auto ends = [](CommandEnd end) {
        return [end](Machine& m) { m.run().on(event::CommandEnded{end}).on(event::VmGone{"ended"}); };
    };
    EXPECT_EQ(word([](Machine& m) { m.run(); }), "none");
    EXPECT_EQ(word(ends({.value = 3})), "exited");
    EXPECT_EQ(word(ends({.by_signal = true, .value = 9})), "signal");
    EXPECT_EQ(word(ends({.by_signal = true, .value = 9, .out_of_memory = true})), "guest_out_of_memory");
    EXPECT_EQ(word([](Machine& m) { m.run().on(event::VmGone{"x", EndReason::HostOutOfMemory}); }),
              "host_out_of_memory");
    EXPECT_EQ(word([](Machine& m) { m.run().on(event::VmGone{"x", EndReason::GuestPanic}); }), "guest_panic");
    EXPECT_EQ(word([](Machine& m) { m.start().on(event::TimedOut{}).on(event::VmGone{"x"}); }),
              "start_timeout");
    EXPECT_EQ(word([](Machine& m) { m.start().on(event::LaunchFailed{"no image"}); }), "cannot_start");
    EXPECT_EQ(word([](Machine& m) {
                  m.start().on(event::GuestFailed{"x", EndReason::CannotStart}).on(event::VmGone{"x"});
              }),
              "cannot_start");
    EXPECT_EQ(word([](Machine& m) { m.run().on(event::GuestFailed{"x"}).on(event::VmGone{"x"}); }),
              "guest_failed");
    EXPECT_EQ(word([](Machine& m) { m.run().on(event::StopRequested{}).on(event::VmGone{"x"}); }), "stopped");
}

TEST(LifeCycle, WhatIsWantedIsWhatNobodyStopped) {
    Machine m(RestartPolicy::OnFailure);
    EXPECT_FALSE(m.life.wanted());
    EXPECT_TRUE(m.on(event::StartRequested{}).life.wanted()) << "it waits";
    EXPECT_TRUE(m.on(event::Prepared{}).on(event::CommandStarted{}).life.wanted());
    EXPECT_TRUE(m.end(1).life.wanted()) << "it is started again";
    m.on(event::RestartDue{}).on(event::Prepared{}).on(event::CommandStarted{});
    EXPECT_FALSE(m.on(event::StopRequested{}).life.wanted()) << "it is on its way out";
    EXPECT_FALSE(m.on(event::VmGone{"ended"}).life.wanted());
    EXPECT_FALSE(m.run().end(0).life.wanted());
}

TEST(LifeCycle, AStartThatNobodyAskedForSaysWhy) {
    Machine m;
    m.on(event::StartRequested{"cage crashed"});
    EXPECT_EQ(m.life.lost(), "cage crashed");
    EXPECT_EQ(m.life.last_end()->text, "cage crashed");
    EXPECT_EQ(m.life.restarts(), 1U);
    m.on(event::Prepared{}).on(event::CommandStarted{}).end(0);
    m.on(event::StartRequested{});
    EXPECT_EQ(m.life.lost(), "");
    EXPECT_EQ(m.life.restarts(), 1U);
}

TEST(LifeCycle, AnInvalidAgentNeverStarts) {
    auto life = LifeCycle::invalid("x.toml:1: no name");
    EXPECT_TRUE(life.handle(event::StartRequested{}, {}).empty());
    EXPECT_EQ(life.describe(), "invalid: x.toml:1: no name");
}

} // namespace
} // namespace nullbox::cage
