// The disks' rate limit on a clock of the test's own, alone and in front of a block device.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "base/file.h"
#include "cage/vmm/block.h"
#include "cage/vmm/test_driver.h"

namespace nullbox::cage {

using namespace std::chrono_literals;

struct FakeClock {
    Clock::time_point now = Clock::time_point(1000s);
    RateLimit::Now reader() {
        return [this] { return now; };
    }
};

TEST(RateLimit, WithoutRatesNothingWaits) {
    FakeClock clock;
    RateLimit limit({}, clock.reader());
    for (int i = 0; i < 1000; ++i) limit.take(UINT32_MAX);
    EXPECT_TRUE(limit.is_open());
}

TEST(RateLimit, ASecondsWorthAtOnceThenTheRate) {
    FakeClock clock;
    RateLimit limit({.operations_per_s = 10}, clock.reader());
    int passed = 0;
    auto pass = [&] {
        for (; limit.is_open(); ++passed) limit.take(0);
    };
    pass();
    EXPECT_EQ(passed, 11) << "ten, and the one into debt";
    clock.now = limit.next();
    pass();
    EXPECT_EQ(passed, 12);
    for (int tick = 0; tick < 10'000; ++tick) clock.now += 1ms, pass();
    EXPECT_NEAR(passed, 112, 1) << "ten seconds later";
    clock.now += 100s;
    pass();
    EXPECT_NEAR(passed, 123, 1) << "idle time is not saved up beyond the burst";
}

TEST(RateLimit, WhatIsLargerThanTheBucketIsLateNotStuck) {
    FakeClock clock;
    RateLimit limit({.bytes_per_s = 1 << 20}, clock.reader());
    limit.take(UINT32_MAX); // 4096 seconds' worth
    EXPECT_FALSE(limit.is_open());
    EXPECT_NEAR(static_cast<double>((limit.next() - clock.now) / 1s), 4095, 1);
    clock.now = limit.next();
    EXPECT_TRUE(limit.is_open());
}

TEST(RateLimit, TheStricterOfTheTwoCounts) {
    FakeClock clock;
    RateLimit limit({.bytes_per_s = 1000, .operations_per_s = 1'000'000}, clock.reader());
    limit.take(3000);
    EXPECT_EQ(limit.next() - clock.now, 2s);
}

struct LimitedDiskTest : testing::Test {
    FakeClock clock;
    RateLimit limit{{.bytes_per_s = 1 << 20, .operations_per_s = 4}, clock.reader()};
    TestMemory memory;
    std::vector<Virtqueue> queues;
    std::optional<TestDriver> driver;
    std::unique_ptr<BlockDevice> device;
    std::vector<Clock::time_point> calls_at;
    std::function<void()> call;
    int wakes = 0;

    LimitedDiskTest() {
        Fd file(::memfd_create("disk", MFD_CLOEXEC));
        EXPECT_TRUE(write_all(file.get(), std::string(4096, 'd')));
        auto made = BlockDevice::make(
            std::move(file),
            {.limit = &limit, .call_at = [this](Clock::time_point when, std::function<void()> due) {
                 calls_at.push_back(when);
                 call = std::move(due);
                 return Watch();
             }});
        device = *std::move(made);
        device->wake = [this] { ++wakes; };
        queues.emplace_back(memory.memory);
        driver.emplace(memory, queues[0], 0x1000);
        queues[0].start();
    }
    void add_read() {
        struct {
            uint32_t type = 0, reserved = 0;
            uint64_t sector = 0;
        } header;
        driver->put(0x8000, header);
        driver->add({{0x8000, 16}, {0x9000, 512, true}, {0xa000, 1, true}});
    }
};

TEST_F(LimitedDiskTest, RequestsWaitInTheRingWithoutSpinning) {
    for (int i = 0; i < 5; ++i) add_read();
    EXPECT_FALSE(device->process(queues)) << "it asks for no turn of its own";
    EXPECT_EQ(driver->used_index(), 5) << "four, and the one into debt";
    EXPECT_TRUE(calls_at.empty()) << "nothing waits";
    for (int i = 0; i < 3; ++i) add_read();
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(driver->used_index(), 5);
    ASSERT_EQ(calls_at.size(), 1u);
    EXPECT_EQ(calls_at[0] - clock.now, 250ms);
    call();
    EXPECT_EQ(wakes, 1);
    EXPECT_FALSE(device->process(queues)) << "too early: it waits on";
    EXPECT_EQ(driver->used_index(), 5);
    clock.now += 250ms;
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(driver->used_index(), 6);
    clock.now += 500ms;
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(driver->used_index(), 8);
    EXPECT_EQ(queues[0].fault(), nullptr);
}

} // namespace nullbox::cage
