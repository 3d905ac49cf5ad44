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
    StartTurns turns_{*loop_, 2};
    char whose_[8] = {};
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

} // namespace
} // namespace nullbox::cage
