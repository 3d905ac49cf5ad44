#include "cage/start_turns.h"

#include <gtest/gtest.h>

namespace nullbox::cage {
namespace {

class StartTurnsTest : public testing::Test {
protected:
    void enter(int who) {
        turns_.enter(&whose_[who], [this, who] { went_.push_back(who); });
    }
    void leave(int who) {
        turns_.leave(&whose_[who]);
        EXPECT_TRUE(loop_->run_once(std::chrono::milliseconds(20)));
    }
    std::unique_ptr<Loop> loop_ = *Loop::make();
    StartTurns turns_{*loop_, {.few = 2}};
    char whose_[9] = {};
    std::vector<int> went_;
};

TEST_F(StartTurnsTest, AFewAtATimeInTheirOrder) {
    for (int who = 0; who < 5; who++) enter(who);
    EXPECT_EQ(went_, (std::vector{0, 1}));
    leave(1);
    EXPECT_EQ(went_, (std::vector{0, 1, 2}));
    enter(5); // behind those that wait
    leave(0);
    leave(2);
    EXPECT_EQ(went_, (std::vector{0, 1, 2, 3, 4}));
    leave(3);
    leave(3);
    EXPECT_EQ(went_, (std::vector{0, 1, 2, 3, 4, 5})) << "one turn is left once";
}

TEST_F(StartTurnsTest, WhoDoesNotWantToAnyMoreIsPassedOver) {
    for (int who = 0; who < 4; who++) enter(who);
    leave(2);
    EXPECT_EQ(went_, (std::vector{0, 1}));
    leave(0);
    EXPECT_EQ(went_, (std::vector{0, 1, 3}));
    leave(1);
    leave(3);
    enter(2);
    EXPECT_EQ(went_, (std::vector{0, 1, 3, 2})) << "at once, nobody is there";
}

TEST_F(StartTurnsTest, OneMoreAtATimeWhileCoresAreIdle) {
    std::chrono::microseconds used{};
    auto begin = Clock::now();
    bool busy = true;
    StartTurns turns(*loop_, {.few = 2, .most = 4}, [&] {
        if (busy) used = std::chrono::duration_cast<std::chrono::microseconds>((Clock::now() - begin) * 2);
        return used;
    });
    auto turn_for = [&](std::chrono::milliseconds time) {
        for (auto end = Clock::now() + time; Clock::now() < end;)
            EXPECT_TRUE(loop_->run_once(std::chrono::milliseconds(5)));
    };
    for (int who = 0; who < 9; who++) turns.enter(&whose_[who], [this, who] { went_.push_back(who); });
    turn_for(std::chrono::milliseconds(150));
    EXPECT_EQ(went_, (std::vector{0, 1})) << "both cores are busy";
    busy = false;
    turn_for(std::chrono::milliseconds(300));
    EXPECT_EQ(went_, (std::vector{0, 1, 2, 3})) << "no more than the most";
    turns.leave(&whose_[0]);
    turn_for(std::chrono::milliseconds(100));
    EXPECT_EQ(went_.size(), 5u);
    busy = true;
    turns.leave(&whose_[1]);
    turns.leave(&whose_[2]);
    turn_for(std::chrono::milliseconds(100));
    EXPECT_EQ(went_.size(), 5u) << "two are still starting";
    turns.leave(&whose_[3]);
    turn_for(std::chrono::milliseconds(100));
    EXPECT_EQ(went_.size(), 6u);
}

TEST_F(StartTurnsTest, TheLastOnesStartTogether) {
    StartTurns turns(*loop_, {.few = 2, .most = 4});
    for (int who = 0; who < 5; who++) turns.enter(&whose_[who], [this, who] { went_.push_back(who); });
    turns.leave(&whose_[0]);
    EXPECT_TRUE(loop_->run_once(std::chrono::milliseconds(20)));
    EXPECT_EQ(went_, (std::vector{0, 1, 2})) << "three waited";
    turns.leave(&whose_[1]);
    EXPECT_TRUE(loop_->run_once(std::chrono::milliseconds(20)));
    EXPECT_EQ(went_, (std::vector{0, 1, 2, 3, 4})) << "two waited";
}

} // namespace
} // namespace nullbox::cage
