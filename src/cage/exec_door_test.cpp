#include "cage/exec_door.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/text.h"

namespace nullbox::cage {
namespace {

using namespace guest_link;
using namespace std::chrono_literals;

class ExecDoorTest : public testing::Test {
protected:
    Result<ExecDoor::Opened> open(std::vector<std::string> command) {
        ExecOrder order{.operator_name = "alice", .what = ExecRequest{.command = std::move(command)}};
        return door_.open(std::move(order), [this](uint32_t port, Fd stream) -> Result<> {
            EXPECT_EQ(port, kExecPort);
            if (broken_) return error("the VM is gone");
            guest_ = std::move(stream);
            return {};
        });
    }
    void turn(int rounds = 5) {
        for (int i = 0; i < rounds; i++) EXPECT_TRUE(loop_->run_once(5ms));
    }

    std::unique_ptr<Loop> loop_ = *Loop::make();
    std::vector<std::string> log_;
    ExecDoor door_{*loop_, [this](std::string_view line) { log_.emplace_back(line); }, 60ms};
    Fd guest_;
    bool broken_ = false;
    using Log = std::vector<std::string>;
};

TEST_F(ExecDoorTest, TheGuestHearsTheRequestFirst) {
    auto opened = open({"echo", "it's", ""});
    ASSERT_TRUE(opened);
    std::byte bytes[512];
    ssize_t count = ::read(guest_.get(), bytes, sizeof bytes);
    ASSERT_GT(count, 0);
    CallerFrameReader reader;
    reader.feed(std::span(bytes).first(static_cast<size_t>(count)));
    auto frame = reader.next();
    ASSERT_TRUE(frame && *frame);
    EXPECT_EQ(**frame, CallerFrame(ExecRequest{.number = 1, .command = {"echo", "it's", ""}}));
    EXPECT_EQ(log_, Log{"exec 1 by alice: echo 'it'\\''s' ''"});
    // The stream is the caller's and nobody else's.
    ASSERT_EQ(::write(opened->stream.get(), "x", 1), 1);
    EXPECT_EQ(::read(guest_.get(), bytes, 1), 1);
    opened->stream.reset();
    EXPECT_EQ(::read(guest_.get(), bytes, 1), 0);
}

TEST_F(ExecDoorTest, ItsEndIsWrittenDownOnce) {
    auto opened = open({"true"});
    door_.ended({.number = 99, .value = 1}); // there is none
    door_.ended({.number = 1, .value = 7});
    door_.ended({.number = 1, .by_signal = true, .value = 9});
    EXPECT_EQ(log_, (Log{"exec 1 by alice: true", "exec 1 by alice: exited 7 after 0.0 s"}));
    opened->lease.reset();
    turn();
    door_.ended({.number = 1, .value = 7});
    EXPECT_EQ(log_.size(), 2U);
}

TEST_F(ExecDoorTest, ACallerThatLeavesIsSeen) {
    auto first = open({"a"}), second = open({"b"});
    first->lease.reset();
    second->lease.reset();
    turn();
    door_.ended({.number = 1, .by_signal = true, .value = 1});
    for (int i = 0; i < 40; i++) turn(1);
    EXPECT_EQ(log_, (Log{"exec 1 by alice: a", "exec 2 by alice: b",
                         "exec 1 by alice: ended by signal 1 after 0.0 s, its caller had left",
                         "exec 2 by alice: its caller is gone, and the guest has not told of its end"}));
}

TEST_F(ExecDoorTest, WhatTheGuestSaysMakesNoRoom) {
    std::vector<ExecDoor::Opened> held;
    for (size_t i = 0; i < kMaxExecAtOnce; i++) held.push_back(*open({"x"}));
    EXPECT_TRUE(door_.full());
    for (uint32_t i = 0; i < 20; i++) door_.ended({.number = i});
    EXPECT_TRUE(door_.full());
    auto refused = open({"x"});
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().message.contains("the most at a time")) << refused.error().message;
    held.pop_back();
    turn();
    EXPECT_TRUE(open({"x"}));
}

TEST_F(ExecDoorTest, TheEndOfTheAgentIsTheirs) {
    auto opened = open({"x"});
    door_.close_all();
    EXPECT_EQ(log_.back(), "exec 1 by alice: ended with the agent");
    opened->lease.reset(); // nobody listens any more
    turn();
    EXPECT_FALSE(door_.full());
}

TEST_F(ExecDoorTest, WhatCannotBeginLeavesNothing) {
    EXPECT_FALSE(open({std::string(kMaxExecRequest + 2000, 'x')}));
    broken_ = true;
    EXPECT_FALSE(open({"x"}));
    EXPECT_EQ(log_, Log{});
    EXPECT_TRUE(shown({std::string(5000, 'a'), "b"}).size() <= 1003U);
}

} // namespace
} // namespace nullbox::cage
