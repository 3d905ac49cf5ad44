// The balloon with a fake driver and no guest; the memory is real, so what was given back is seen as gone.
#include <gtest/gtest.h>

#include "cage/vmm/balloon.h"
#include "cage/vmm/test_driver.h"
#include "cage/vmm/virtio_mmio.h"

namespace nullbox::cage {

using List = std::initializer_list<uint64_t>;

struct Balloon {
    static constexpr uint64_t kList = 0x9000, kData = 0x100000;
    TestMemory memory;
    BalloonDevice device{memory.memory};
    std::vector<Virtqueue> queues;
    std::vector<TestDriver> drivers;

    Balloon() {
        for (int i = 0; i < 3; ++i) queues.emplace_back(memory.memory);
        for (size_t i = 0; i < 3; ++i) {
            drivers.emplace_back(memory, queues[i], 0x1000 + i * 0x2000);
            queues[i].start();
        }
        std::memset(memory.buffer->bytes + kData, 'x', 0x10000);
    }
    bool is_kept(uint64_t page) const { return memory.memory.read<char>(kData + page * kPageBytes) == 'x'; }
    void inflate(const std::vector<uint32_t>& pages) {
        std::ranges::copy(std::as_bytes(std::span(pages)),
                          memory.memory.range(kList, pages.size() * 4)->begin());
        drivers[0].add({{kList, static_cast<uint32_t>(pages.size() * 4)}});
        EXPECT_FALSE(device.process(queues));
    }
    static uint32_t page(uint64_t number) { return static_cast<uint32_t>(kData / kPageBytes + number); }
};
struct BalloonTest : testing::Test, Balloon {};

TEST_F(BalloonTest, WhatIsReportedFreeIsGivenBack) {
    drivers[2].add({{kData + kPageBytes, 2 * kPageBytes, true}, {kData + 5 * kPageBytes, kPageBytes, true}});
    EXPECT_FALSE(device.process(queues));
    EXPECT_EQ(queues[2].fault(), nullptr);
    EXPECT_EQ(drivers[2].take_used().written, 0u);
    for (uint64_t number : List{0, 3, 4, 6}) EXPECT_TRUE(is_kept(number)) << number;
    for (uint64_t number : List{1, 2, 5}) EXPECT_FALSE(is_kept(number)) << number;
}

TEST_F(BalloonTest, APartOfAPageIsKept) {
    drivers[2].add({{kData + 100, 3 * kPageBytes - 200, true}, {kData + 8 * kPageBytes, 4095, true}});
    EXPECT_FALSE(device.process(queues));
    for (uint64_t number : List{0, 2, 8}) EXPECT_TRUE(is_kept(number)) << number;
    EXPECT_EQ(memory.memory.read<char>(kData + 3 * kPageBytes - 1), 'x');
    EXPECT_FALSE(is_kept(1));
}

TEST_F(BalloonTest, WhatTheGuestMayNotHaveWrittenIsNoReport) {
    drivers[2].add({{kData, kPageBytes}}); // a buffer for us to read
    EXPECT_FALSE(device.process(queues));
    EXPECT_TRUE(is_kept(0));
}

TEST_F(BalloonTest, InflatesByPageNumbersInAnyOrder) {
    inflate({page(7), page(3), page(2), page(2), page(9)});
    EXPECT_EQ(queues[0].fault(), nullptr);
    EXPECT_TRUE(drivers[0].has_used());
    for (uint64_t number : List{2, 3, 7, 9}) EXPECT_FALSE(is_kept(number)) << number;
    for (uint64_t number : List{1, 4, 6, 8, 10}) EXPECT_TRUE(is_kept(number)) << number;
}

TEST_F(BalloonTest, DeflatingAnswers) {
    drivers[1].add({{kList, 4}});
    EXPECT_FALSE(device.process(queues));
    EXPECT_TRUE(drivers[1].has_used());
    EXPECT_TRUE(is_kept(0));
}

TEST_F(BalloonTest, APageOutsideOfMemoryIsAFault) {
    for (uint32_t outside : {uint32_t{TestMemory::kBytes / kPageBytes}, UINT32_MAX}) {
        Balloon other;
        other.inflate({outside});
        EXPECT_NE(other.queues[0].fault(), nullptr) << outside;
    }
    // A run that begins inside and ends outside.
    inflate({TestMemory::kBytes / kPageBytes - 1, TestMemory::kBytes / kPageBytes});
    EXPECT_NE(queues[0].fault(), nullptr);
}

TEST_F(BalloonTest, AListThatIsNoneIsAFault) {
    drivers[0].add({{kList, 7}});
    EXPECT_FALSE(device.process(queues));
    EXPECT_NE(queues[0].fault(), nullptr);
    Balloon longer;
    longer.drivers[0].add({{kList, 4 * BalloonDevice::kMostPagesAtOnce + 4}});
    EXPECT_FALSE(longer.device.process(longer.queues));
    EXPECT_NE(longer.queues[0].fault(), nullptr);
}

struct BalloonConfigTest : testing::Test {
    TestMemory memory;
    struct alignas(4096) Page {
        std::array<std::byte, kRegisterPageBytes> bytes{};
    } page;
    int interrupts = 0;
    BalloonDevice* device = new BalloonDevice(memory.memory);
    VirtioMmio transport{std::unique_ptr<BalloonDevice>(device),
                         memory.memory,
                         page.bytes,
                         {.raise_interrupt = [this] { ++interrupts; },
                          .notify = [] {},
                          .fault = [](std::string_view, const char*) {}}};
    uint32_t read(uint64_t offset) const {
        uint32_t value = 0;
        std::memcpy(&value, page.bytes.data() + offset, sizeof value);
        return value;
    }
    void write(uint64_t offset, uint32_t value) {
        transport.write(offset, std::as_bytes(std::span(&value, 1)));
    }
};

TEST_F(BalloonConfigTest, TheDriverIsToldOfATargetAndSaysWhatItHas) {
    transport.change_config([&] { device->set_target(100); });
    EXPECT_EQ(interrupts, 0) << "there is no driver yet";
    EXPECT_EQ(read(0x100), 100u);
    write(0x70, 1), write(0x70, 3), write(0x24, 1), write(0x20, 1), write(0x70, 0xb), write(0x70, 0xf);
    uint32_t generation = read(0xfc);
    transport.change_config([&] { device->set_target(200); });
    EXPECT_EQ(interrupts, 1);
    EXPECT_NE(read(0xfc), generation);
    EXPECT_EQ(read(0x100), 200u);
    EXPECT_EQ(read(0x60), 3u);
    write(0x64, 3);
    EXPECT_EQ(read(0x60), 1u) << "told; the other bit stays";
    write(0x104, 77);
    EXPECT_EQ(device->actual(), 77u);
    EXPECT_EQ(read(0x104), 77u);
    write(0x100, 1), write(0x108, 1);
    EXPECT_EQ(read(0x100), 200u) << "the target is ours";
}

} // namespace nullbox::cage
