// Block, console and rng with a fake driver and no guest.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "cage/vmm/block.h"
#include "cage/vmm/console.h"
#include "cage/vmm/rng.h"
#include "cage/vmm/test_driver.h"

namespace nullbox::cage {

static Fd file_of(std::string_view content) {
    Fd file(::memfd_create("disk", MFD_CLOEXEC));
    EXPECT_TRUE(write_all(file.get(), content));
    return file;
}

struct BlockTest : testing::Test {
    static constexpr uint64_t kHeader = 0x8000, kData = 0x9000, kStatus = 0xa000;
    TestMemory memory;
    std::vector<Virtqueue> queues;
    std::optional<TestDriver> driver;
    std::unique_ptr<BlockDevice> device;
    int disk = -1; // borrowed

    void open(bool writable) {
        std::string content;
        for (char sector : {'a', 'b', 'c', 'd'}) content += std::string(512, sector);
        Fd file = file_of(content + "half a sector");
        disk = file.get();
        auto made =
            BlockDevice::make(std::move(file), {.writable = writable, .serial = {'d', 'i', 's', 'k'}});
        ASSERT_TRUE(made);
        device = *std::move(made);
        queues.emplace_back(memory.memory);
        driver.emplace(memory, queues[0], 0x1000);
        queues[0].start();
    }
    struct Answer {
        uint8_t status;
        uint32_t written;
    };
    Answer ask(uint32_t type, uint64_t sector, uint32_t length, bool device_writes) {
        struct {
            uint32_t type, reserved;
            uint64_t sector;
        } header{type, 0, sector};
        driver->put(kHeader, header);
        driver->put<uint8_t>(kStatus, 0xee);
        driver->add({{kHeader, 16}, {kData, length, device_writes}, {kStatus, 1, true}});
        EXPECT_FALSE(device->process(queues));
        EXPECT_EQ(queues[0].fault(), nullptr);
        return {driver->get<uint8_t>(kStatus), driver->take_used().written};
    }
};

TEST_F(BlockTest, ReadsSectors) {
    open(false);
    auto answer = ask(0, 1, 1024, true);
    EXPECT_EQ(answer.status, 0);
    EXPECT_EQ(answer.written, 1025u);
    EXPECT_EQ(as_text(*memory.memory.range(kData, 1024)), std::string(512, 'b') + std::string(512, 'c'));
}

TEST_F(BlockTest, CapacityIsWholeSectors) {
    open(false);
    uint64_t capacity = 0;
    std::memcpy(&capacity, device->config().data(), sizeof capacity);
    EXPECT_EQ(capacity, 4u);
}

TEST_F(BlockTest, RefusesWhatLiesBeyondTheEnd) {
    open(false);
    EXPECT_EQ(ask(0, 3, 512, true).status, 0);
    EXPECT_EQ(ask(0, 3, 1024, true).status, 1);
    EXPECT_EQ(ask(0, 4, 512, true).status, 1);
    EXPECT_EQ(ask(0, UINT64_MAX, 512, true).status, 1);
    EXPECT_EQ(ask(0, UINT64_MAX / 512 + 1, 512, true).status, 1) << "sector * 512 wraps to 0";
    EXPECT_EQ(ask(0, 0, 100, true).status, 1) << "part of a sector";
}

TEST_F(BlockTest, AReadOnlyDiskIsNotWritten) {
    open(false);
    EXPECT_TRUE(device->features() & 1 << 5);
    EXPECT_EQ(ask(1, 0, 512, false).status, 1);
    char byte = 0;
    EXPECT_EQ(::pread(disk, &byte, 1, 0), 1);
    EXPECT_EQ(byte, 'a');
}

TEST_F(BlockTest, AWritableDiskIs) {
    open(true);
    driver->put<uint8_t>(kData, 'X');
    EXPECT_EQ(ask(1, 2, 512, false).status, 0);
    char byte = 0;
    EXPECT_EQ(::pread(disk, &byte, 1, 1024), 1);
    EXPECT_EQ(byte, 'X');
    EXPECT_EQ(ask(1, 4, 512, false).status, 1) << "and does not grow";
    EXPECT_EQ(ask(4, 0, 0, false).status, 0) << "flush";
}

TEST_F(BlockTest, TellsItsNameAndRefusesTheRest) {
    open(false);
    auto answer = ask(8, 0, 20, true);
    EXPECT_EQ(answer.status, 0);
    EXPECT_EQ(answer.written, 21u);
    EXPECT_EQ(as_text(*memory.memory.range(kData, 5)), std::string_view("disk\0", 5));
    EXPECT_EQ(ask(8, 0, 19, true).status, 1);
    for (uint32_t type : {11u, 13u, 0x7fffu}) EXPECT_EQ(ask(type, 0, 512, true).status, 2) << type;
}

TEST_F(BlockTest, ARequestWithoutHeaderOrStatusIsAFault) {
    for (auto buffers :
         {std::vector<TestBuffer>{{kHeader, 15}, {kStatus, 1, true}}, std::vector<TestBuffer>{{kHeader, 16}},
          std::vector<TestBuffer>{{kStatus, 1, true}}}) {
        queues.clear();
        open(false);
        driver->add(buffers);
        device->process(queues);
        EXPECT_NE(queues[0].fault(), nullptr);
    }
}

TEST_F(BlockTest, OffersOnlyWhatItHas) {
    constexpr uint64_t kReadOnly = 1 << 5, kFlush = 1 << 9, kSegmentsMost = 1 << 2;
    open(false);
    EXPECT_EQ(device->features(), kSegmentsMost | kReadOnly);
    uint32_t segments = 0;
    std::memcpy(&segments, device->config().data() + 12, sizeof segments);
    EXPECT_EQ(segments, kMostQueueSize - 2u) << "with header and status they fill a ring";
    queues.clear();
    open(true);
    EXPECT_EQ(device->features(), kSegmentsMost | kFlush);
    auto scratch = BlockDevice::make(file_of(std::string(512, 's')), {.writable = true, .scratch = true});
    ASSERT_TRUE(scratch);
    EXPECT_EQ((*scratch)->features(), kSegmentsMost) << "nothing to make last";
}

TEST_F(BlockTest, ARequestMayHaveAsManySegmentsAsItSays) {
    open(true);
    queues.clear();
    queues.emplace_back(memory.memory);
    TestDriver wide(memory, queues[0], 0x1000, kMostQueueSize);
    queues[0].start();
    struct {
        uint32_t type = 0, reserved = 0;
        uint64_t sector = 0;
    } header;
    wide.put(kHeader, header);
    std::vector<TestBuffer> buffers{{kHeader, 16}};
    for (uint64_t i = 0; i < kMostQueueSize - 2; ++i) buffers.push_back({kData + i * 16, 16, true});
    buffers.back().length = uint32_t{2048} - (kMostQueueSize - 3) * uint32_t{16};
    buffers.push_back({kStatus, 1, true});
    wide.add(buffers);
    EXPECT_FALSE(device->process(queues));
    EXPECT_EQ(queues[0].fault(), nullptr);
    EXPECT_EQ(wide.get<uint8_t>(kStatus), 0);
    EXPECT_EQ(wide.take_used().written, 2049u);
}

TEST_F(BlockTest, TakesTurns) {
    open(false);
    struct {
        uint32_t type = 4, reserved = 0;
        uint64_t sector = 0;
    } header;
    driver->put(kHeader, header);
    for (int i = 0; i < 8; ++i) driver->add({{kHeader, 16}, {kStatus, 1, true}});
    EXPECT_FALSE(device->process(queues)) << "8 are no more than a turn";
    EXPECT_EQ(driver->used_index(), 8);
}

TEST(Block, AnEmptyImageIsAnError) {
    EXPECT_FALSE(BlockDevice::make(file_of("short"), {}));
    auto pipe = make_pipe();
    ASSERT_TRUE(pipe);
    EXPECT_FALSE(BlockDevice::make(std::move(pipe->read), {}));
}

TEST(Console, CutsLinesAndKeepsNothingElse) {
    std::vector<std::string> lines;
    ConsoleDevice console([&](std::string_view line) { lines.emplace_back(line); });
    TestMemory memory;
    std::vector<Virtqueue> queues;
    queues.emplace_back(memory.memory), queues.emplace_back(memory.memory);
    TestDriver driver(memory, queues[1], 0x1000);
    queues[1].start();
    std::string text = "one\r\ntwo\n\n" + std::string(700, 'x') + "\nrest";
    std::ranges::copy(std::as_bytes(std::span(text)), memory.memory.range(0x8000, text.size())->begin());
    driver.add({{0x8000, static_cast<uint32_t>(text.size())}});
    driver.add({{0x8000, 0x10000}}); // more than a driver sends: cut, not looped over
    EXPECT_FALSE(console.process(queues));
    EXPECT_EQ(driver.used_index(), 2);
    ASSERT_GE(lines.size(), 4u);
    EXPECT_EQ(lines[0], "one");
    EXPECT_EQ(lines[1], "two");
    EXPECT_EQ(lines[2].size(), ConsoleDevice::kMostLineBytes);
    EXPECT_EQ(lines[3].size(), 700 - ConsoleDevice::kMostLineBytes);
}

TEST(Rng, FillsABoundedPart) {
    RngDevice rng;
    TestMemory memory;
    std::vector<Virtqueue> queues;
    queues.emplace_back(memory.memory);
    TestDriver driver(memory, queues[0], 0x1000);
    queues[0].start();
    driver.add({{0x8000, 0x10000, true}});
    driver.add({{0x8000, 16}}); // nothing to write into
    EXPECT_FALSE(rng.process(queues));
    EXPECT_EQ(driver.take_used().written, 256u);
    EXPECT_EQ(driver.take_used().written, 0u);
    EXPECT_EQ(driver.get<uint64_t>(0x8000 + 256), 0u);
}

} // namespace nullbox::cage
