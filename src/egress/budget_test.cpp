// Budgets, from the side of an agent that wants more than its own.
#include "egress/budget.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::egress {
namespace {

using namespace std::chrono_literals;

class BudgetTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(make_directories(folder_)); }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    Budgets::Options options() {
        return {.path = folder_ + "/budgets",
                .now_ms = [this] { return wall_ms_; },
                .now = [this] { return now_; }};
    }
    void pass(std::chrono::seconds time) {
        now_ += time;
        wall_ms_ += std::chrono::milliseconds(time).count();
    }
    bool take(Ledger& ledger, Resource resource, uint64_t amount = 1) {
        return ledger.take(resource, amount, budget_, now_);
    }
    // How many single ones it still gives.
    unsigned drain(Ledger& ledger, Resource resource) {
        unsigned count = 0;
        while (count < 10'000 && take(ledger, resource)) count++;
        return count;
    }

    std::string folder_ = cat(testing::TempDir(), "egress_budget_", ::getpid());
    Budget budget_{.bytes = 1000, .connections = 10, .requests = 200};
    Clock::time_point now_{1000h + 30s};
    int64_t wall_ms_ = 1'800'000'000'000;
};

// Control: Ledger::take(). In any sixty minutes no more than the limit, however it is spread.
TEST_F(BudgetTest, NoHourHasMoreThanTheLimit) {
    Ledger ledger;
    std::vector<Clock::time_point> taken;
    for (int step = 0; step < 4 * 60 * 6; step++, pass(10s))
        if (take(ledger, Resource::Connections)) taken.push_back(now_);
    ASSERT_GE(taken.size(), 30u);
    for (size_t i = 10; i < taken.size(); i++) EXPECT_GE(taken[i] - taken[i - 10], 1h);
    EXPECT_LE(taken[10] - taken[0], 62min) << "and it comes back";
}

TEST_F(BudgetTest, EachResourceHasItsOwnAndNoLimitIsNone) {
    Ledger ledger;
    EXPECT_EQ(drain(ledger, Resource::Connections), 10u);
    EXPECT_EQ(drain(ledger, Resource::Requests), 200u);
    EXPECT_TRUE(take(ledger, Resource::Bytes, 1000));
    EXPECT_FALSE(take(ledger, Resource::Bytes, 1));
    budget_ = {};
    EXPECT_EQ(drain(ledger, Resource::Connections), 10'000u);
    EXPECT_TRUE(take(ledger, Resource::Bytes, UINT64_MAX));
    EXPECT_TRUE(take(ledger, Resource::Bytes, UINT64_MAX)) << "no overflow makes it small again";
    budget_ = {.bytes = UINT64_MAX};
    EXPECT_FALSE(take(ledger, Resource::Bytes, 1));
}

// What does not fit takes the rest with it: else a flow of small pieces goes on where a large one ended.
TEST_F(BudgetTest, WhatIsUsedUpIsUsedUp) {
    Ledger ledger;
    EXPECT_TRUE(take(ledger, Resource::Bytes, 900));
    EXPECT_FALSE(take(ledger, Resource::Bytes, 101));
    EXPECT_FALSE(take(ledger, Resource::Bytes, 1));
    EXPECT_EQ(ledger.used(Resource::Bytes, now_), 1000u);
}

TEST_F(BudgetTest, ItsEndIsToldOnceAnHour) {
    Ledger ledger;
    EXPECT_TRUE(ledger.tells(Resource::Bytes, now_));
    EXPECT_TRUE(ledger.tells(Resource::Requests, now_));
    pass(59min);
    EXPECT_FALSE(ledger.tells(Resource::Bytes, now_));
    pass(2min);
    EXPECT_TRUE(ledger.tells(Resource::Bytes, now_));
}

// Control: the map by name. An agent that stops and starts is the same one.
TEST_F(BudgetTest, AnAgentThatComesBackHasWhatItHadLeft) {
    Budgets budgets(options());
    EXPECT_EQ(drain(*budgets.of("one"), Resource::Connections), 10u);
    budgets.tick();
    EXPECT_EQ(drain(*budgets.of("one"), Resource::Connections), 0u);
    EXPECT_EQ(drain(*budgets.of("two"), Resource::Connections), 10u);
    pass(61min);
    budgets.tick();
    EXPECT_EQ(drain(*budgets.of("one"), Resource::Connections), 10u);
}

// Control: writing ahead. Nobody calls a destructor in a crash: the file is taken as it lies.
TEST_F(BudgetTest, ACrashGivesNothingBack) {
    for (uint64_t used : {1u, 3u, 4u, 199u, 200u}) {
        std::filesystem::remove(folder_ + "/budgets");
        auto before = std::make_unique<Budgets>(options());
        auto ledger = before->of("one");
        for (uint64_t i = 0; i < used; i++) ASSERT_TRUE(take(*ledger, Resource::Requests));
        ASSERT_TRUE(write_file_atomic(folder_ + "/crashed", *read_file(folder_ + "/budgets"), 0600));
        before.reset();
        std::filesystem::rename(folder_ + "/crashed", folder_ + "/budgets");
        Budgets after(options());
        auto left = drain(*after.of("one"), Resource::Requests);
        EXPECT_LE(left, 200 - used);
        EXPECT_GE(left + 2 * (200 / 64), 200 - used) << "nor does it cost much";
    }
}

TEST_F(BudgetTest, AnOrderlyEndIsExact) {
    {
        Budgets budgets(options());
        for (int i = 0; i < 37; i++) take(*budgets.of("one"), Resource::Requests);
    }
    pass(30min);
    Budgets budgets(options());
    EXPECT_EQ(budgets.of("one")->used(Resource::Requests, now_), 37u);
    pass(29min);
    EXPECT_EQ(budgets.of("one")->used(Resource::Requests, now_), 37u) << "as old as it is";
    pass(2min);
    EXPECT_EQ(budgets.of("one")->used(Resource::Requests, now_), 0u);
}

TEST_F(BudgetTest, AClockThatGoesBackForgetsNothing) {
    {
        take(*std::make_unique<Budgets>(options())->of("one"), Resource::Requests, 5);
    }
    wall_ms_ = 0;
    EXPECT_EQ(Budgets(options()).of("one")->used(Resource::Requests, now_), 5u);
}

TEST_F(BudgetTest, WhatIsUsedLaterIsWrittenLater) {
    Budgets budgets(options());
    auto ledger = budgets.of("one");
    take(*ledger, Resource::Requests);
    auto first = *read_file(folder_ + "/budgets");
    pass(2min);
    take(*ledger, Resource::Requests);
    EXPECT_EQ(*read_file(folder_ + "/budgets"), first) << "it is covered";
    budgets.tick();
    EXPECT_NE(*read_file(folder_ + "/budgets"), first);
}

TEST_F(BudgetTest, AFileThatIsWrongIsSaid) {
    for (auto text :
         {"", "x", "[]", "{}", R"({"time_ms":"x","agents":{}})", R"({"time_ms":1,"agents":[]})"}) {
        ASSERT_TRUE(write_file_atomic(folder_ + "/budgets", text, 0600));
        EXPECT_FALSE(Budgets(options()).problem().empty()) << text;
    }
    ASSERT_TRUE(write_file_atomic(
        folder_ + "/budgets",
        R"({"time_ms":1800000000000,"agents":{"a":1,"b":{"bytes":[1,[2],[3,4],[-1,-1],[99,5],[0,1e9]]}}})",
        0600));
    Budgets budgets(options());
    EXPECT_EQ(budgets.of("b")->used(Resource::Bytes, now_), 4u);
}

} // namespace
} // namespace nullbox::egress
