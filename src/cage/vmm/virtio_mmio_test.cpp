#include "cage/vmm/virtio_mmio.h"

#include <gtest/gtest.h>

#include "cage/vmm/console.h"
#include "cage/vmm/rng.h"
#include "cage/vmm/test_driver.h"

namespace nullbox::cage {

struct VirtioMmioTest : testing::Test {
    TestMemory memory;
    struct alignas(4096) Page {
        std::array<std::byte, kRegisterPageBytes> bytes{};
    } page;
    int interrupts = 0, notifications = 0;
    std::string fault;
    VirtioMmio transport{std::make_unique<RngDevice>(),
                         memory.memory,
                         page.bytes,
                         {.raise_interrupt = [this] { ++interrupts; },
                          .notify = [this] { ++notifications; },
                          .fault = [this](std::string_view device,
                                          const char* what) { fault = std::string(device) + ": " + what; }}};

    void write(uint64_t offset, uint32_t value) {
        transport.write(offset, std::as_bytes(std::span(&value, 1)));
    }
    uint32_t read(uint64_t offset) const {
        uint32_t value = 0;
        std::memcpy(&value, page.bytes.data() + offset, sizeof value); // what the guest sees, without an exit
        return value;
    }
    void negotiate() {
        write(0x70, 1), write(0x70, 3);
        write(0x24, 1), write(0x20, 1);       // VERSION_1
        write(0x24, 0), write(0x20, 1 << 29); // EVENT_IDX
        write(0x70, 0xb);
    }
    void place_queue(uint64_t base, uint32_t size = 16) {
        write(0x30, 0), write(0x38, size);
        write(0x80, static_cast<uint32_t>(base)), write(0x84, static_cast<uint32_t>(base >> 32));
        write(0x90, static_cast<uint32_t>(base + 0x1000)), write(0x94, static_cast<uint32_t>(base >> 32));
        write(0xa0, static_cast<uint32_t>(base + 0x1800)), write(0xa4, static_cast<uint32_t>(base >> 32));
        write(0x44, 1);
    }
};

TEST_F(VirtioMmioTest, IntroducesItself) {
    EXPECT_EQ(read(0x00), 0x74726976u);
    EXPECT_EQ(read(0x04), 2u);
    EXPECT_EQ(read(0x08), 4u);
    EXPECT_EQ(read(0x34), kMostQueueSize);
    write(0x30, 1);
    EXPECT_EQ(read(0x34), 0u) << "there is no second queue";
    EXPECT_EQ(read(0x10), 1u << 29);
    write(0x14, 1);
    EXPECT_EQ(read(0x10), 1u);
    write(0x14, 2);
    EXPECT_EQ(read(0x10), 0u);
    EXPECT_EQ(read(0xb0), UINT32_MAX) << "no shared memory";
}

TEST_F(VirtioMmioTest, ServesARequestFromInitialisationToInterrupt) {
    negotiate();
    EXPECT_EQ(read(0x70), 0xbu);
    TestDriver driver(memory, transport.queues()[0], 0x2000);
    place_queue(0x2000);
    EXPECT_EQ(read(0x44), 1u);
    write(0x70, 0xf);
    EXPECT_EQ(read(0x60), 1u);
    driver.add({{0x8000, 32, true}});
    write(0x50, 0);
    EXPECT_EQ(notifications, 2) << "DRIVER_OK and the doorbell";
    transport.process();
    ASSERT_TRUE(driver.has_used());
    EXPECT_EQ(driver.take_used().written, 32u);
    EXPECT_NE(driver.get<uint64_t>(0x8000), 0u) << "one chance in 2^64";
    EXPECT_EQ(interrupts, 1);
    write(0x64, 1);
    EXPECT_EQ(read(0x60), 1u) << "so that it makes no difference where that write ends";
    transport.process();
    EXPECT_EQ(interrupts, 1);
    EXPECT_EQ(fault, "");
}

TEST_F(VirtioMmioTest, RefusesFeaturesThatWereNotOffered) {
    write(0x70, 1), write(0x70, 3);
    write(0x24, 1), write(0x20, 1);
    write(0x24, 0), write(0x20, 1 << 28); // indirect descriptors
    write(0x70, 0xb);
    EXPECT_EQ(read(0x70), 3u) << "FEATURES_OK stays off";
    write(0x70, 0xf);
    EXPECT_EQ(read(0x70), 3u) << "and without it there is no DRIVER_OK";
}

TEST_F(VirtioMmioTest, RefusesALegacyDriver) {
    write(0x70, 1), write(0x70, 3), write(0x70, 0xb);
    EXPECT_EQ(read(0x70), 3u);
}

TEST_F(VirtioMmioTest, FeaturesAreFixedOnceAgreed) {
    negotiate();
    write(0x24, 0), write(0x20, UINT32_MAX);
    EXPECT_EQ(transport.state().driver_features, kFeatureVersion1 | kFeatureEventIndex);
}

TEST_F(VirtioMmioTest, OnlyWholeAlignedRegistersAreWritten) {
    uint64_t value = 0x0303030303030303;
    auto bytes = std::as_bytes(std::span(&value, 1));
    for (size_t width : {1u, 2u, 8u}) transport.write(0x70, bytes.first(width));
    for (uint64_t offset : {0x71u, 0x72u, 0x73u}) transport.write(offset, bytes.first(4));
    transport.write(0x100, bytes.first(4));
    transport.write(0xffc, bytes.first(4));
    EXPECT_EQ(read(0x70), 0u);
    EXPECT_EQ(read(0x100), 0u);
}

TEST_F(VirtioMmioTest, ABadRingEndsTheDevice) {
    negotiate();
    place_queue(TestMemory::kBytes - 0x1000);
    EXPECT_EQ(fault, "rng: ring outside of memory");
    EXPECT_TRUE(read(0x70) & 64) << "DEVICE_NEEDS_RESET";
    EXPECT_EQ(interrupts, 1);
    write(0x70, 0xf);
    transport.process();
    EXPECT_EQ(interrupts, 1) << "nothing is served any more";
}

TEST_F(VirtioMmioTest, ABadQueueSizeEndsTheDevice) {
    negotiate();
    place_queue(0x2000, 0x10010); // 16 in its low half
    EXPECT_EQ(fault, "rng: wrong queue size");
}

TEST_F(VirtioMmioTest, ABadRequestEndsTheDevice) {
    negotiate();
    TestDriver driver(memory, transport.queues()[0], 0x2000);
    place_queue(0x2000);
    write(0x70, 0xf);
    driver.add({{TestMemory::kBytes, 32, true}});
    transport.process();
    EXPECT_EQ(fault, "rng: buffer outside of memory");
    EXPECT_TRUE(read(0x70) & 64);
}

TEST_F(VirtioMmioTest, AReadyQueueCannotBeMoved) {
    negotiate();
    place_queue(0x2000);
    write(0x80, 0x6000);
    EXPECT_EQ(transport.queues()[0].state().descriptors, 0x2000u);
    write(0x44, 0);
    EXPECT_EQ(read(0x44), 0u);
}

TEST_F(VirtioMmioTest, ResetForgetsEverythingAtOnce) {
    negotiate();
    TestDriver driver(memory, transport.queues()[0], 0x2000);
    place_queue(0x2000);
    write(0x70, 0xf);
    driver.add({{0x8000, 32, true}});
    write(0x70, 0); // before the device thread came to it
    EXPECT_EQ(read(0x70), 0u);
    EXPECT_EQ(read(0x60), 0u);
    transport.process();
    EXPECT_FALSE(driver.has_used()) << "the old driver's memory is no longer ours to touch";
    negotiate();
    place_queue(0x2000);
    EXPECT_EQ(read(0x70), 0xbu) << "and a new driver can begin";
}

TEST_F(VirtioMmioTest, AfterAFaultOnlyResetIsHeard) {
    negotiate();
    place_queue(TestMemory::kBytes);
    write(0x70, 0xf);
    EXPECT_EQ(read(0x70), 0xbu | 64);
    write(0x70, 0);
    EXPECT_EQ(read(0x70), 0u);
}

TEST_F(VirtioMmioTest, TheDeviceLearnsWhatWasNegotiatedOnceAfterEachReset) {
    struct Listener final : VirtioDevice {
        std::vector<std::string> heard;
        std::string_view name() const override { return "listener"; }
        uint32_t id() const override { return 1; }
        uint64_t features() const override { return 0x30; }
        size_t queue_count() const override { return 1; }
        bool process(std::span<Virtqueue>) override { return heard.emplace_back("process"), false; }
        void start(uint64_t features) override {
            heard.push_back("start " + std::to_string(features & 0xff));
        }
        void reset() override { heard.emplace_back("reset"); }
    };
    auto owned = std::make_unique<Listener>();
    auto& heard = owned->heard;
    VirtioMmio other(
        std::move(owned), memory.memory, page.bytes,
        {.raise_interrupt = [] {}, .notify = [] {}, .fault = [](std::string_view, const char*) {}});
    auto put = [&](uint64_t offset, uint32_t value) {
        other.write(offset, std::as_bytes(std::span(&value, 1)));
    };
    auto negotiate_some = [&](uint32_t features) {
        put(0x70, 1), put(0x70, 3), put(0x24, 1), put(0x20, 1), put(0x24, 0), put(0x20, features);
        put(0x70, 0xb), put(0x70, 0xf);
    };
    negotiate_some(0x10);
    other.process(), other.process();
    put(0x70, 0);
    negotiate_some(0x20);
    other.process();
    put(0x70, 0);
    other.process();
    EXPECT_EQ(heard, (std::vector<std::string>{"start 16", "process", "process", "reset", "start 32",
                                               "process", "reset"}));
}

} // namespace nullbox::cage
