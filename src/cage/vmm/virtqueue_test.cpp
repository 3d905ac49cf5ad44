#include "cage/vmm/virtqueue.h"

#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <string_view>

#include "base/bytes.h"
#include "cage/vmm/test_driver.h"

namespace nullbox::cage {

struct VirtqueueTest : testing::Test {
    TestMemory memory;
    Virtqueue queue{memory.memory};
    TestDriver driver{memory, queue, 0x1000};
    void SetUp() override { queue.start(); }
    void expect_fault(std::string_view part) {
        auto chain = queue.pop();
        EXPECT_FALSE(chain);
        if (chain) queue.put_back(*std::move(chain));
        ASSERT_NE(queue.fault(), nullptr);
        EXPECT_TRUE(std::string_view(queue.fault()).contains(part)) << queue.fault();
        EXPECT_FALSE(queue.pop()) << "a faulty queue stays faulty";
    }
};

TEST_F(VirtqueueTest, CarriesARequestThereAndBack) {
    driver.put<uint32_t>(0x4000, 0x64636261);
    uint16_t head = driver.add({{0x4000, 2}, {0x4002, 2}, {0x5000, 3, true}, {0x6000, 5, true}});
    auto chain = queue.pop();
    ASSERT_TRUE(chain);
    EXPECT_EQ(chain->readable_bytes(), 4u);
    EXPECT_EQ(chain->writable_bytes(), 8u);
    std::array<std::byte, 4> text;
    std::array<std::byte, 5> too_many;
    EXPECT_FALSE(chain->read(too_many));
    ASSERT_TRUE(chain->read(text)) << "over two buffers";
    EXPECT_EQ(as_text(text), "abcd");
    EXPECT_FALSE(chain->write(std::array<std::byte, 9>{}));
    ASSERT_TRUE(chain->write(std::as_bytes(std::span("12345678", 8))));
    queue.complete(*std::move(chain), 8);
    EXPECT_EQ(as_text(*memory.memory.range(0x5000, 3)), "123");
    EXPECT_EQ(as_text(*memory.memory.range(0x6000, 5)), "45678");
    ASSERT_EQ(driver.used_index(), 1);
    auto used = driver.take_used();
    EXPECT_EQ(used.head, head);
    EXPECT_EQ(used.written, 8u);
    EXPECT_FALSE(queue.pop());
    EXPECT_EQ(queue.fault(), nullptr);
}

TEST_F(VirtqueueTest, PutBackIsAsIfNeverTaken) {
    uint16_t head = driver.add({{0x4000, 8, true}});
    auto chain = queue.pop();
    ASSERT_TRUE(chain);
    chain->skip_writable(5);
    queue.put_back(*std::move(chain));
    auto again = queue.pop();
    ASSERT_TRUE(again);
    EXPECT_EQ(again->writable_bytes(), 8u);
    queue.complete(*std::move(again), 0);
    EXPECT_EQ(driver.take_used().head, head);
}

TEST_F(VirtqueueTest, TakesTheLastWritableByte) {
    driver.add({{0x4000, 4, true}, {0x5000, 1, true}});
    auto chain = queue.pop();
    ASSERT_TRUE(chain);
    *chain->take_last_writable() = std::byte{7};
    EXPECT_EQ(driver.get<uint8_t>(0x5000), 7);
    EXPECT_EQ(chain->writable_bytes(), 4u);
    for (int i = 0; i < 4; ++i) EXPECT_NE(chain->take_last_writable(), nullptr);
    EXPECT_EQ(chain->take_last_writable(), nullptr);
    queue.complete(*std::move(chain), 0);
}

TEST_F(VirtqueueTest, RefusesALoop) {
    driver.put_descriptor(0, 0x4000, 4, TestDriver::kNext, 1);
    driver.put_descriptor(1, 0x4000, 4, TestDriver::kNext, 0);
    driver.offer(0);
    expect_fault("without end");
}
TEST_F(VirtqueueTest, RefusesAHeadBeyondTheQueue) {
    driver.offer(16);
    expect_fault("beyond the queue");
}
TEST_F(VirtqueueTest, RefusesANextBeyondTheQueue) {
    driver.put_descriptor(0, 0x4000, 4, TestDriver::kNext, 999);
    driver.offer(0);
    expect_fault("beyond the queue");
}
TEST_F(VirtqueueTest, RefusesABufferOutsideOfMemory) {
    driver.add({{TestMemory::kBytes - 4, 5}});
    expect_fault("outside of memory");
}
TEST_F(VirtqueueTest, RefusesABufferThatWraps) {
    driver.add({{UINT64_MAX - 3, 8}});
    expect_fault("outside of memory");
}
TEST_F(VirtqueueTest, RefusesAnEmptyBufferOutsideOfMemory) {
    driver.add({{TestMemory::kBytes * 2, 0}});
    expect_fault("outside of memory");
}
TEST_F(VirtqueueTest, RefusesReadableAfterWritable) {
    driver.add({{0x4000, 4, true}, {0x5000, 4}});
    expect_fault("after a writable");
}
TEST_F(VirtqueueTest, RefusesIndirect) {
    driver.add({{0x4000, 32, false, TestDriver::kIndirect}});
    expect_fault("indirect");
}
TEST_F(VirtqueueTest, RefusesAnIndexJump) {
    driver.set_available_index(17);
    expect_fault("jumped");
}
TEST_F(VirtqueueTest, RefusesAnIndexThatGoesBack) {
    driver.set_available_index(0xffff);
    expect_fault("jumped");
}

TEST_F(VirtqueueTest, AFullChainOfTheQueueIsFine) {
    std::vector<TestBuffer> buffers(16, {0x4000, 1});
    driver.add(buffers);
    auto chain = queue.pop();
    ASSERT_TRUE(chain);
    EXPECT_EQ(chain->readable_bytes(), 16u);
    queue.complete(*std::move(chain), 0);
}

TEST_F(VirtqueueTest, OverlappingBuffersAreTheGuestsOwnAffair) {
    driver.put<uint32_t>(0x4000, 0x01020304);
    driver.add({{0x4000, 4}, {0x4000, 4, true}, {0x4002, 4, true}});
    auto chain = queue.pop();
    ASSERT_TRUE(chain);
    EXPECT_TRUE(chain->write(std::array<std::byte, 8>{}));
    queue.complete(*std::move(chain), 8);
}

TEST(VirtqueueStart, RefusesRingsThatDoNotFit) {
    TestMemory memory;
    struct Case {
        const char* what;
        std::function<void(QueueState&)> change;
    };
    const Case cases[] = {
        {"size 0", [](QueueState& state) { state.size = 0; }},
        {"size not a power of two", [](QueueState& state) { state.size = 12; }},
        {"size above the most", [](QueueState& state) { state.size = 256; }},
        {"descriptors misaligned", [](QueueState& state) { state.descriptors += 8; }},
        {"available misaligned", [](QueueState& state) { state.available += 1; }},
        {"used misaligned", [](QueueState& state) { state.used += 2; }},
        // The base lies in memory, the end does not.
        {"descriptors' end",
         [](QueueState& state) { state.descriptors = TestMemory::kBytes - 16 * 16 + 16; }},
        {"available's end", [](QueueState& state) { state.available = TestMemory::kBytes - (4 + 32); }},
        {"used's end", [](QueueState& state) { state.used = TestMemory::kBytes - (4 + 128); }},
        {"descriptors wrap", [](QueueState& state) { state.descriptors = UINT64_MAX - 15; }},
    };
    for (const Case& each : cases) {
        Virtqueue queue(memory.memory);
        TestDriver driver(memory, queue, 0x1000);
        each.change(queue.state());
        queue.start();
        EXPECT_NE(queue.fault(), nullptr) << each.what;
        EXPECT_FALSE(queue.state().ready) << each.what;
        EXPECT_FALSE(queue.pop()) << each.what;
    }
}

TEST_F(VirtqueueTest, InterruptsUnlessTheDriverSaysNo) {
    EXPECT_FALSE(queue.take_interrupt()) << "nothing done";
    driver.add({{0x4000, 1}});
    queue.complete(*queue.pop(), 0);
    EXPECT_TRUE(queue.take_interrupt());
    EXPECT_FALSE(queue.take_interrupt()) << "once";
    driver.set_available_flags(1);
    driver.add({{0x4000, 1}});
    queue.complete(*queue.pop(), 0);
    EXPECT_FALSE(queue.take_interrupt());
}

TEST_F(VirtqueueTest, EventIndexSaysWhenToInterruptAndNotify) {
    queue.state().event_index = true;
    driver.set_used_event(1); // after the second
    driver.add({{0x4000, 1}});
    queue.complete(*queue.pop(), 0);
    EXPECT_FALSE(queue.take_interrupt());
    driver.add({{0x4000, 1}});
    queue.complete(*queue.pop(), 0);
    EXPECT_TRUE(queue.take_interrupt());
    EXPECT_FALSE(queue.enable_notifications());
    EXPECT_EQ(driver.used_event_of_device(), 2);
    driver.add({{0x4000, 1}});
    EXPECT_TRUE(queue.enable_notifications()) << "one came in between";
}

// Whatever bytes the rings hold: no crash, no endless loop, and what is handed out lies in memory.
TEST(VirtqueueProperty, RandomRingsNeverEscapeMemory) {
    std::mt19937 random(1);
    TestMemory memory;
    const std::byte* start = memory.buffer->bytes;
    for (int round = 0; round < 3000; ++round) {
        Virtqueue queue(memory.memory);
        TestDriver driver(memory, queue, 0x1000, static_cast<uint16_t>(1u << random() % 8));
        queue.start();
        ASSERT_EQ(queue.fault(), nullptr);
        for (uint16_t i = 0; i < queue.state().size; ++i) {
            auto address = random() % 4 == 0 ? random() : random() % TestMemory::kBytes;
            driver.put_descriptor(i, address,
                                  static_cast<uint32_t>(random() % 4 == 0 ? random() : random() % 4096),
                                  static_cast<uint16_t>(random() % 4),
                                  static_cast<uint16_t>(random() % (queue.state().size + 1)));
            driver.offer(static_cast<uint16_t>(random() % queue.state().size));
        }
        for (int popped = 0; popped < 200; ++popped) {
            auto chain = queue.pop();
            if (!chain) break;
            for (auto pieces : {chain->readable(), chain->writable()})
                for (const iovec& piece : pieces) {
                    auto* at = static_cast<const std::byte*>(piece.iov_base);
                    EXPECT_TRUE(at >= start && at + piece.iov_len <= start + TestMemory::kBytes);
                }
            queue.complete(*std::move(chain), 0);
        }
    }
}

TEST_F(VirtqueueTest, HeldRequestsShowAllAtOnceOrNotAtAll) {
    for (uint64_t i = 0; i < 3; ++i) driver.add({{0x4000 + i * 0x1000, 100, true}});
    auto hold_two = [&] {
        for (uint32_t i = 0; i < 2; ++i) {
            auto chain = queue.pop();
            ASSERT_TRUE(chain);
            queue.hold(*std::move(chain), 10 + i);
        }
    };
    hold_two();
    EXPECT_EQ(driver.used_index(), 0);
    EXPECT_FALSE(queue.take_interrupt());
    queue.put_back_held();
    hold_two();
    queue.publish_held();
    EXPECT_EQ(driver.used_index(), 2);
    EXPECT_TRUE(queue.take_interrupt());
    EXPECT_EQ(driver.take_used().head, 0u);
    auto second = driver.take_used();
    EXPECT_EQ(second.head, 1u);
    EXPECT_EQ(second.written, 11u);
    auto third = queue.pop();
    ASSERT_TRUE(third);
    queue.complete(*std::move(third), 1);
    EXPECT_EQ(driver.used_index(), 3);
}

TEST_F(VirtqueueTest, NoMoreIsHeldThanTheRingHas) {
    for (int i = 0; i < 16; ++i) driver.add({{0x4000, 1, true}});
    for (int i = 0; i < 16; ++i) {
        auto chain = queue.pop();
        ASSERT_TRUE(chain);
        queue.hold(*std::move(chain), 1);
    }
    driver.set_available_index(17);
    expect_fault("jumped");
    queue.put_back_held();
}

TEST_F(VirtqueueTest, ReservedRoomIsFilledLater) {
    driver.add({{0x4000, 3, true}, {0x5000, 2, true}, {0x6000, 10, true}});
    auto chain = queue.pop();
    ASSERT_TRUE(chain);
    ReservedRoom room;
    EXPECT_FALSE(chain->reserve(room, 16));
    ASSERT_TRUE(chain->reserve(room, 6));
    EXPECT_EQ(chain->writable_bytes(), 9u);
    ASSERT_TRUE(chain->write(std::as_bytes(std::span("after", 5))));
    room.fill(std::as_bytes(std::span("header", 6)));
    queue.complete(*std::move(chain), 11);
    EXPECT_EQ(as_text(*memory.memory.range(0x4000, 3)), "hea");
    EXPECT_EQ(as_text(*memory.memory.range(0x5000, 2)), "de");
    EXPECT_EQ(as_text(*memory.memory.range(0x6000, 6)), "rafter");
}

} // namespace nullbox::cage
