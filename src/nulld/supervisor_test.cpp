// Every row of the state table, with a clock that only moves when told.
#include "nulld/supervisor.h"

#include <csignal>
#include <gtest/gtest.h>

#include "base/text.h"

namespace nullbox::nulld {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Table : public ::testing::Test {
protected:
    static manifest::ServiceConfig config(std::string name, std::vector<std::string> after = {}) {
        manifest::ServiceConfig out;
        out.name = std::move(name);
        out.exec = {"/system/bin/x"};
        out.after = std::move(after);
        return out;
    }
    void make(std::vector<manifest::ServiceConfig> services) {
        supervisor_.emplace(std::move(services));
        supervisor_->start_all();
    }
    // decide(), as "spawn a, kill b"; spawns succeed with pid 100 + id.
    std::string decide() {
        std::string out;
        for (auto action : supervisor_->decide(now_)) {
            const auto& name = supervisor_->config(action.service).name;
            out += cat(out.empty() ? "" : ", ", words[static_cast<size_t>(action.kind)], " ", name);
            if (action.kind == Action::Kind::Spawn)
                supervisor_->spawned(action.service, static_cast<pid_t>(100 + action.service));
        }
        return out;
    }
    ServiceId id(std::string_view name) { return supervisor_->find(name).value(); }
    const ServiceState& state(std::string_view name) { return supervisor_->states()[id(name)]; }
    void ready(std::string_view name) { supervisor_->ready(id(name), now_); }
    void exit(std::string_view name, Exit exit = {.by_signal = false, .value = 1}, std::string setup = "") {
        supervisor_->exited(id(name), exit, std::move(setup), now_);
    }
    void empty(std::string_view name) { supervisor_->group_empty(id(name)); }
    // Runs to its end: exit, kill, empty.
    void end(std::string_view name, Exit how = {.by_signal = false, .value = 1}) {
        exit(name, how);
        EXPECT_EQ(decide(), cat("kill ", name));
        empty(name);
        decide();
    }
    static constexpr const char* words[] = {"spawn", "term", "kill"};
    std::optional<Supervisor> supervisor_;
    TimePoint now_{seconds(1000)};
};

TEST_F(Table, StartsInOrderOfReadinessAndInParallel) {
    make({config("a"), config("b"), config("c", {"a", "b"})});
    EXPECT_EQ(decide(), "spawn a, spawn b");
    ready("a");
    EXPECT_EQ(decide(), "");
    EXPECT_EQ(supervisor_->describe(id("c"), now_), "waits for b");
    EXPECT_FALSE(supervisor_->settled(now_));
    ready("b");
    EXPECT_EQ(decide(), "spawn c");
    EXPECT_FALSE(supervisor_->settled(now_));
    ready("c");
    EXPECT_EQ(decide(), "");
    EXPECT_EQ(state("c").actual, Actual::Up);
    EXPECT_TRUE(supervisor_->settled(now_));
    EXPECT_FALSE(supervisor_->next_deadline().has_value());
}

TEST_F(Table, AFailedDependencyHoldsOnlyItsDependants) {
    make({config("a"), config("b", {"a"}), config("c")});
    EXPECT_EQ(decide(), "spawn a, spawn c");
    ready("c");
    end("a");
    EXPECT_EQ(state("b").actual, Actual::Waiting);
    EXPECT_EQ(supervisor_->describe(id("b"), now_), "waits for a");
    EXPECT_EQ(state("c").actual, Actual::Up);
    EXPECT_TRUE(supervisor_->settled(now_));
}

TEST_F(Table, ADependencyThatFailsLaterLeavesItsDependantsAlone) {
    make({config("a"), config("b", {"a"})});
    decide();
    ready("a");
    decide();
    ready("b");
    end("a");
    EXPECT_EQ(state("b").actual, Actual::Up);
}

TEST_F(Table, AFinishedDependencyIsSatisfied) {
    auto once = config("once");
    once.restart = manifest::RestartPolicy::Never;
    make({once, config("b", {"once"})});
    decide();
    ready("once");
    EXPECT_EQ(decide(), "spawn b");
    end("once", {});
    EXPECT_EQ(state("once").outcome, Outcome::Finished);
    EXPECT_EQ(supervisor_->describe(id("once"), now_), "finished");
}

TEST_F(Table, AMissingDependencyHoldsForEver) {
    make({config("b", {"gone"})});
    EXPECT_EQ(decide(), "");
    EXPECT_EQ(supervisor_->describe(0, now_), "waits for gone, which is not configured");
    EXPECT_TRUE(supervisor_->settled(now_));
}

TEST_F(Table, ACycleWaitsAndIsNoLoop) {
    make({config("a", {"b"}), config("b", {"a"})}); // the parser refuses it; nothing here may hang
    EXPECT_EQ(decide(), "");
    supervisor_->shut_down(now_ + seconds(1));
    decide();
    EXPECT_TRUE(supervisor_->all_down());
}

TEST_F(Table, ReadyTooLateIsAFailureAndKillsTheGroup) {
    make({config("a")});
    decide();
    EXPECT_EQ(*supervisor_->next_deadline(), now_ + seconds(10));
    now_ += milliseconds(9'999);
    EXPECT_EQ(decide(), "");
    now_ += milliseconds(1);
    EXPECT_EQ(decide(), "kill a");
    EXPECT_EQ(state("a").last_error, "not ready within 10 s");
    ready("a"); // a late word changes nothing
    EXPECT_EQ(state("a").actual, Actual::Clearing);
    exit("a", {.by_signal = true, .value = SIGKILL});
    EXPECT_EQ(state("a").last_error, "not ready within 10 s");
    empty("a");
    decide();
    EXPECT_EQ(state("a").actual, Actual::Delayed);
}

TEST_F(Table, AnEndedProcessTakesItsGroupAndNothingStartsBeforeItIsEmpty) {
    make({config("a")});
    decide();
    ready("a");
    exit("a");
    EXPECT_EQ(decide(), "kill a");
    now_ += seconds(60);
    EXPECT_EQ(decide(), "");
    EXPECT_TRUE(supervisor_->unkillable(0, now_));
    EXPECT_EQ(supervisor_->describe(0, now_), "cannot be killed");
    empty("a");
    decide();
    now_ += milliseconds(200);
    EXPECT_EQ(decide(), "spawn a");
}

TEST_F(Table, TheGroupMayBeEmptyBeforeTheProcessIsReaped) {
    make({config("a")});
    decide();
    supervisor_->stop(0);
    EXPECT_EQ(decide(), "term a");
    now_ += seconds(5);
    EXPECT_EQ(decide(), "kill a");
    empty("a");
    EXPECT_EQ(decide(), "");
    EXPECT_EQ(state("a").actual, Actual::Clearing);
    exit("a", {.by_signal = true, .value = SIGKILL});
    decide();
    EXPECT_EQ(state("a").actual, Actual::Down);
}

TEST_F(Table, DelaysGrowAndResetAfterAStableRun) {
    make({config("a")});
    decide();
    std::vector<int64_t> delays;
    for (int i = 0; i < 10; i++) {
        ready("a");
        end("a");
        auto due = *supervisor_->next_deadline();
        delays.push_back(std::chrono::duration_cast<milliseconds>(due - now_).count());
        now_ = due;
        EXPECT_EQ(decide(), "spawn a");
    }
    EXPECT_EQ(delays, (std::vector<int64_t>{200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000}));
    EXPECT_TRUE(supervisor_->crash_loop(0, now_));
    EXPECT_EQ(state("a").restarts, 10u);
    ready("a");
    now_ += seconds(10);
    EXPECT_FALSE(supervisor_->crash_loop(0, now_));
    end("a");
    EXPECT_EQ(state("a").failures, 1u);
    EXPECT_EQ(*supervisor_->next_deadline(), now_ + milliseconds(200));
}

TEST_F(Table, ACrashLoopSaysSo) {
    make({config("a")});
    decide();
    for (int i = 0; i < 5; i++) {
        end("a", {.by_signal = true, .value = SIGSEGV});
        if (i < 4) {
            now_ = *supervisor_->next_deadline();
            decide();
        }
    }
    EXPECT_EQ(supervisor_->describe(0, now_), "keeps failing, next try in 4 s");
    EXPECT_EQ(state("a").last_error, "killed by SIGSEGV (crashed)");
}

TEST_F(Table, PoliciesDecideWhatAnEndMeans) {
    using manifest::RestartPolicy;
    struct Row {
        RestartPolicy policy;
        int status;
        Actual actual;
        Outcome outcome;
    };
    for (auto row : {Row{RestartPolicy::Always, 0, Actual::Delayed, Outcome::None},
                     Row{RestartPolicy::Always, 1, Actual::Delayed, Outcome::None},
                     Row{RestartPolicy::OnFailure, 0, Actual::Down, Outcome::Finished},
                     Row{RestartPolicy::OnFailure, 1, Actual::Delayed, Outcome::None},
                     Row{RestartPolicy::Never, 0, Actual::Down, Outcome::Finished},
                     Row{RestartPolicy::Never, 1, Actual::Down, Outcome::Failed}}) {
        auto service = config("a");
        service.restart = row.policy;
        make({service});
        decide();
        ready("a");
        end("a", {.by_signal = false, .value = row.status});
        EXPECT_EQ(state("a").actual, row.actual) << static_cast<int>(row.policy) << row.status;
        EXPECT_EQ(state("a").outcome, row.outcome) << static_cast<int>(row.policy) << row.status;
    }
}

TEST_F(Table, EndingBeforeReadyIsAFailureEvenWithStatusZero) {
    make({config("a")});
    decide();
    end("a", {});
    EXPECT_EQ(state("a").last_error, "exited with status 0 before it was ready");
}

TEST_F(Table, TheSetupErrorIsWhatIsReported) {
    make({config("a")});
    decide();
    exit("a", {.by_signal = false, .value = 127}, "cannot execute /system/bin/x: No such file or directory");
    decide();
    EXPECT_EQ(state("a").last_error, "cannot execute /system/bin/x: No such file or directory");
}

TEST_F(Table, ASpawnThatFailsIsAFailureOfTheService) {
    supervisor_.emplace(std::vector{config("a")});
    supervisor_->start_all();
    ASSERT_EQ(supervisor_->decide(now_).size(), 1u);
    supervisor_->spawn_failed(0, "no process left", now_);
    EXPECT_EQ(decide(), "");
    EXPECT_EQ(state("a").actual, Actual::Delayed);
    EXPECT_EQ(state("a").last_error, "no process left");
}

TEST_F(Table, StopTerminatesThenKills) {
    make({config("a")});
    decide();
    ready("a");
    supervisor_->stop(0);
    EXPECT_EQ(decide(), "term a");
    EXPECT_EQ(*supervisor_->next_deadline(), now_ + seconds(5));
    now_ += seconds(5);
    EXPECT_EQ(decide(), "kill a");
    exit("a", {.by_signal = true, .value = SIGKILL});
    empty("a");
    decide();
    EXPECT_EQ(state("a").actual, Actual::Down);
    EXPECT_EQ(supervisor_->describe(0, now_), "stopped");
    EXPECT_EQ(state("a").failures, 0u);
}

TEST_F(Table, StopWhileWaitingStartingAndDelayed) {
    make({config("a"), config("b", {"a"})});
    decide();
    supervisor_->stop(id("b"));
    decide();
    EXPECT_EQ(state("b").actual, Actual::Down);
    supervisor_->stop(id("a"));
    EXPECT_EQ(decide(), "term a");
    end("a", {});
    EXPECT_EQ(state("a").actual, Actual::Down);
    ASSERT_TRUE(supervisor_->start(id("a")));
    EXPECT_EQ(decide(), "spawn a");
    end("a");
    EXPECT_EQ(state("a").actual, Actual::Delayed);
    supervisor_->stop(id("a"));
    EXPECT_EQ(decide(), "");
    EXPECT_EQ(state("a").actual, Actual::Down);
}

TEST_F(Table, AStartSkipsTheDelay) {
    make({config("a")});
    decide();
    end("a");
    EXPECT_EQ(state("a").actual, Actual::Delayed);
    ASSERT_TRUE(supervisor_->start(0));
    EXPECT_EQ(decide(), "spawn a");
    EXPECT_EQ(state("a").failures, 0u);
}

TEST_F(Table, RestartIsStopThenStartWithoutADelay) {
    make({config("a"), config("b", {"a"})});
    decide();
    ready("a");
    decide();
    ready("b");
    ASSERT_TRUE(supervisor_->restart(id("a")));
    EXPECT_EQ(decide(), "term a"); // b depends on it and stays
    exit("a", {.by_signal = true, .value = SIGTERM});
    EXPECT_EQ(decide(), "kill a");
    empty("a");
    EXPECT_EQ(decide(), "spawn a");
    EXPECT_EQ(state("a").restarts, 0u);
    EXPECT_EQ(state("a").failures, 0u);
    EXPECT_EQ(state("b").actual, Actual::Up);
}

TEST_F(Table, RestartOfAServiceThatIsDownStartsIt) {
    auto once = config("a");
    once.restart = manifest::RestartPolicy::Never;
    make({once});
    decide();
    end("a");
    EXPECT_EQ(state("a").outcome, Outcome::Failed);
    ASSERT_TRUE(supervisor_->restart(0));
    EXPECT_EQ(decide(), "spawn a");
    ready("a");
    EXPECT_EQ(decide(), "");
}

TEST_F(Table, ShutdownGoesInReverseOrder) {
    make({config("a"), config("b", {"a"}), config("c", {"b"})});
    for (const char* name : {"a", "b", "c"}) {
        decide();
        ready(name);
    }
    supervisor_->shut_down(now_ + seconds(30));
    EXPECT_EQ(decide(), "term c");
    EXPECT_EQ(supervisor_->start(0).error().message, "the machine is shutting down");
    exit("c", {});
    EXPECT_EQ(decide(), "kill c");
    empty("c");
    EXPECT_EQ(decide(), "term b");
    exit("b", {});
    EXPECT_EQ(decide(), "kill b");
    EXPECT_EQ(decide(), "") << "a waits until b's group is empty";
    empty("b");
    EXPECT_EQ(decide(), "term a");
    exit("a", {});
    EXPECT_EQ(decide(), "kill a");
    empty("a");
    EXPECT_EQ(decide(), "");
    EXPECT_TRUE(supervisor_->all_down());
}

TEST_F(Table, AStuckServiceDoesNotHoldShutdownOverItsLimit) {
    make({config("a"), config("b", {"a"})});
    decide();
    ready("a");
    decide();
    ready("b");
    supervisor_->shut_down(now_ + seconds(2));
    EXPECT_EQ(decide(), "term b");
    EXPECT_EQ(*supervisor_->next_deadline(), now_ + seconds(2));
    now_ += seconds(2);
    EXPECT_EQ(decide(), "kill a, kill b");
}

TEST_F(Table, ShutdownWhileARestartIsUnderWay) {
    make({config("a")});
    decide();
    ready("a");
    ASSERT_TRUE(supervisor_->restart(0));
    EXPECT_EQ(decide(), "term a");
    supervisor_->shut_down(now_ + seconds(2));
    exit("a", {});
    EXPECT_EQ(decide(), "kill a");
    empty("a");
    EXPECT_EQ(decide(), "");
    EXPECT_TRUE(supervisor_->all_down());
}

TEST_F(Table, AStartDuringStoppingStartsAgainAfterwards) {
    make({config("a")});
    decide();
    ready("a");
    supervisor_->stop(0);
    EXPECT_EQ(decide(), "term a");
    ASSERT_TRUE(supervisor_->start(0));
    exit("a", {});
    EXPECT_EQ(decide(), "kill a");
    empty("a");
    EXPECT_EQ(decide(), "spawn a");
}

} // namespace nullbox::nulld
