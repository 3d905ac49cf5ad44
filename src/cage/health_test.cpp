// The count on a clock that the test moves; the watch against a guest that is the test.
#include <gtest/gtest.h>

#include "base/text.h"
#include "cage/health_watch.h"

namespace nullbox::cage {
namespace {

using namespace std::chrono_literals;
using Check = manifest::AgentManifest::HealthCheck;

const Check kHttp{.kind = "http", .port = 8080, .path = "/health", .failures = 3, .grace = 30s};

TEST(HealthCount, SoManyInARowAreEnough) {
    HealthCount count(kHttp, {});
    EXPECT_EQ(count.describe(), "unknown");
    count.good();
    EXPECT_EQ(count.describe(), "healthy");
    EXPECT_FALSE(count.bad("answered 503", {}));
    EXPECT_FALSE(count.bad("connection refused", {}));
    EXPECT_EQ(count.describe(), "failing (2 of 3): connection refused");
    count.good();
    EXPECT_EQ(count.describe(), "healthy") << "in a row";
    EXPECT_FALSE(count.bad("answered 503", {}));
    EXPECT_FALSE(count.bad("answered 503", {}));
    EXPECT_EQ(count.bad("answered 503", {}),
              "health: GET http://127.0.0.1:8080/health answered 503, 3 times in a row");
}

TEST(HealthCount, TheGraceEndsWithItsTimeOrTheFirstGoodOne) {
    HealthCount slow(kHttp, {}), quick(kHttp, {});
    for (int i = 0; i < 10; i++) EXPECT_FALSE(slow.bad("connection refused", HealthCount::Time(29s)));
    EXPECT_EQ(slow.describe(), "unknown: connection refused");
    EXPECT_FALSE(slow.bad("connection refused", HealthCount::Time(30s)));
    EXPECT_EQ(slow.describe(), "failing (1 of 3): connection refused");
    quick.good();
    EXPECT_FALSE(quick.bad("x", HealthCount::Time(1s)));
    EXPECT_EQ(quick.describe(), "failing (1 of 3): x") << "it had come up";
}

TEST(HealthCount, APauseIsNoPartOfTheGrace) {
    HealthCount count(kHttp, {});
    count.paused_for(1h);
    EXPECT_FALSE(count.bad("x", HealthCount::Time(1h)));
    EXPECT_EQ(count.describe(), "unknown: x");
}

TEST(HealthCount, ItSaysWhatWasTried) {
    Check tcp{.kind = "tcp", .port = 5432, .failures = 1, .grace = 0s};
    EXPECT_EQ(HealthCount(tcp, {}).bad("connection refused", HealthCount::Time(1s)),
              "health: connection to 127.0.0.1:5432: connection refused");
    Check http = kHttp;
    http.failures = 1;
    http.grace = 0s;
    EXPECT_EQ(HealthCount(http, {}).bad("no answer within 5 s", HealthCount::Time(1s)),
              "health: GET http://127.0.0.1:8080/health: no answer within 5 s");
}

struct Watched {
    std::unique_ptr<Loop> loop = *Loop::make();
    Check check{.kind = "http", .port = 80, .path = "/x", .interval = 10ms, .failures = 2, .grace = 0ms};
    std::vector<guest_link::CheckHealth> asked;
    std::vector<std::string> said;
    std::string why;
    std::unique_ptr<HealthWatch> watch;

    void begin(HealthWatch::Limits limits = {}) {
        watch = std::make_unique<HealthWatch>(
            *loop, check,
            HealthWatch::Hooks{.ask =
                                   [this](const guest_link::CheckHealth& question) {
                                       asked.push_back(question);
                                       return Result<>();
                                   },
                               .changed = [this] { said.push_back(watch->describe()); },
                               .failing =
                                   [this](std::string text) {
                                       why = std::move(text);
                                       watch.reset();
                                   }},
            limits);
    }
    bool until(const std::function<bool()>& done, std::chrono::milliseconds limit = 5s) {
        for (auto end = Clock::now() + limit; Clock::now() < end && !done();)
            EXPECT_TRUE(loop->run_once(5ms));
        return done();
    }
    bool asks(size_t times) {
        return until([&] { return asked.size() >= times; });
    }
    void answer(bool good, std::string says) {
        watch->on_answer({.number = asked.back().number, .good = good, .says = std::move(says)});
    }
};

TEST(HealthWatch, AsksAndCounts) {
    Watched guest;
    guest.begin();
    ASSERT_TRUE(guest.asks(1));
    EXPECT_EQ(guest.asked[0], (guest_link::CheckHealth{
                                  .number = 1, .http = true, .port = 80, .path = "/x", .timeout_ms = 5000}));
    guest.answer(true, "answered 200");
    ASSERT_TRUE(guest.asks(2));
    guest.answer(false, "answered\x1b[2J 500");
    ASSERT_TRUE(guest.asks(3));
    guest.answer(false, "answered 500");
    EXPECT_EQ(guest.said, (std::vector<std::string>{"healthy", "failing (1 of 2): answered?[2J 500",
                                                    "failing (2 of 2): answered 500"}));
    EXPECT_EQ(guest.why, "health: GET http://127.0.0.1:80/x answered 500, 2 times in a row");
}

TEST(HealthWatch, AGuestThatNeverAnswersFails) {
    Watched guest;
    guest.begin({.answer = 10ms, .way = 10ms});
    EXPECT_TRUE(guest.until([&] { return !guest.why.empty(); }));
    EXPECT_EQ(guest.why, "health: GET http://127.0.0.1:80/x: the guest does not answer, 2 times in a row");
    EXPECT_EQ(guest.asked.size(), 2U);
}

TEST(HealthWatch, AnswersToNothingCountForNothing) {
    Watched guest;
    guest.begin({.answer = 200ms, .way = 200ms});
    guest.watch->on_answer({.number = 0, .good = true, .says = "x"}); // before the first question
    guest.watch->on_answer({.number = 1, .good = true, .says = "x"});
    ASSERT_TRUE(guest.asks(1));
    for (uint32_t i = 0; i < 1000; i++) guest.watch->on_answer({.number = i + 2, .good = true, .says = "x"});
    EXPECT_EQ(guest.watch->describe(), "unknown");
    guest.answer(true, "");
    guest.answer(false, "x"); // the second answer to one question
    EXPECT_EQ(guest.watch->describe(), "healthy");
}

TEST(HealthWatch, APauseStopsIt) {
    Watched guest;
    guest.begin({.answer = 20ms, .way = 20ms});
    ASSERT_TRUE(guest.asks(1));
    guest.watch->pause();
    guest.answer(false, "x");
    EXPECT_FALSE(guest.until([&] { return guest.asked.size() > 1 || !guest.said.empty(); }, 200ms))
        << "no question, and no time-out of the one that was asked";
    guest.watch->resume();
    EXPECT_TRUE(guest.asks(2));
    guest.answer(true, "");
    EXPECT_EQ(guest.watch->describe(), "healthy");
}

} // namespace
} // namespace nullbox::cage
