#include "base/loop.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/file.h"

namespace nullbox {

using std::chrono::milliseconds;

TEST(Loop, AWatchDroppedInTheSameRoundIsNotCalled) {
    auto loop = Loop::make().value();
    auto one = make_pipe().value(), two = make_pipe().value();
    ASSERT_TRUE(write_all(one.write.get(), "x"));
    ASSERT_TRUE(write_all(two.write.get(), "x"));
    Watch first, second;
    int calls = 0;
    first = loop->watch(one.read.get(), EPOLLIN,
                        [&](uint32_t) {
                            calls++;
                            second.drop();
                            first.drop();
                        })
                .value();
    second = loop->watch(two.read.get(), EPOLLIN,
                         [&](uint32_t) {
                             calls++;
                             first.drop();
                             second.drop();
                         })
                 .value();
    ASSERT_TRUE(loop->run_once(milliseconds(100)));
    EXPECT_EQ(calls, 1);
}

TEST(Loop, AReusedSlotDoesNotSeeTheOldEvent) {
    auto loop = Loop::make().value();
    auto one = make_pipe().value(), two = make_pipe().value(), three = make_pipe().value();
    ASSERT_TRUE(write_all(one.write.get(), "x"));
    ASSERT_TRUE(write_all(two.write.get(), "x"));
    Watch first, second, third;
    bool stale = false;
    first = loop->watch(
                    one.read.get(), EPOLLIN,
                    [&](uint32_t) {
                        second.drop();
                        third =
                            loop->watch(three.read.get(), EPOLLIN, [&](uint32_t) { stale = true; }).value();
                    },
                    1)
                .value();
    second = loop->watch(two.read.get(), EPOLLIN, [&](uint32_t) {}).value();
    ASSERT_TRUE(loop->run_once(milliseconds(100)));
    EXPECT_FALSE(stale);
}

TEST(Loop, HigherPriorityGoesFirst) {
    auto loop = Loop::make().value();
    auto one = make_pipe().value(), two = make_pipe().value();
    ASSERT_TRUE(write_all(one.write.get(), "x"));
    ASSERT_TRUE(write_all(two.write.get(), "x"));
    std::string order;
    auto low = loop->watch(one.read.get(), EPOLLIN, [&](uint32_t) { order += 'l'; }).value();
    auto high = loop->watch(two.read.get(), EPOLLIN, [&](uint32_t) { order += 'h'; }, 5).value();
    ASSERT_TRUE(loop->run_once(milliseconds(100)));
    EXPECT_EQ(order, "hl");
}

TEST(Loop, TimersFireInOrderOnceAndCanBeDropped) {
    auto loop = Loop::make().value();
    std::string order;
    auto now = Clock::now();
    auto late = loop->at(now + milliseconds(2), [&] {
        order += 'b';
        loop->stop();
    });
    auto early = loop->at(now + milliseconds(1), [&] { order += 'a'; });
    auto gone = loop->at(now, [&] { order += 'x'; });
    gone.drop();
    ASSERT_TRUE(loop->run());
    EXPECT_EQ(order, "ab");
}

TEST(Loop, ATimerThatSetsItselfAgainDoesNotStarveDescriptors) {
    auto loop = Loop::make().value();
    auto ends = make_pipe().value();
    ASSERT_TRUE(write_all(ends.write.get(), "x"));
    Watch timer;
    std::function<void()> again = [&] { timer = loop->after(milliseconds(0), again); };
    again();
    bool seen = false;
    auto watch = loop->watch(ends.read.get(), EPOLLIN, [&](uint32_t) { seen = true; }).value();
    for (int i = 0; i < 3; i++) ASSERT_TRUE(loop->run_once(milliseconds(10)));
    EXPECT_TRUE(seen);
    timer.drop();
}

TEST(Loop, ItsDescriptorIsReadableExactlyWhenThereIsWork) {
    auto loop = Loop::make().value();
    int fd = loop->fd().value();
    auto readable_within = [&](int most_ms) {
        pollfd polled{.fd = fd, .events = POLLIN};
        return ::poll(&polled, 1, most_ms) == 1;
    };
    EXPECT_FALSE(readable_within(0));
    int fired = 0;
    Watch late = loop->after(milliseconds(100'000), [] {});
    Watch soon = loop->after(milliseconds(20), [&] { fired++; });
    EXPECT_TRUE(readable_within(5000));
    for (int i = 0; i < 3 && fired == 0; i++) ASSERT_TRUE(loop->run_once(milliseconds(0)));
    EXPECT_EQ(fired, 1);
    EXPECT_FALSE(readable_within(0));
}

} // namespace nullbox
