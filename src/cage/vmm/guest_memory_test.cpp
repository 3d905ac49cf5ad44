#include "cage/vmm/guest_memory.h"

#include <gtest/gtest.h>

namespace nullbox::cage {

TEST(GuestMemory, ViewsEndWhereMemoryEnds) {
    alignas(4096) static std::byte bytes[8192];
    auto memory = GuestMemory::over(bytes);
    EXPECT_TRUE(memory.range(0, 8192));
    EXPECT_TRUE(memory.range(8191, 1));
    EXPECT_FALSE(memory.range(8191, 2));
    EXPECT_FALSE(memory.range(8192, 0));
    EXPECT_FALSE(memory.range(0, 8193));
    EXPECT_FALSE(memory.range(UINT64_MAX, 2)) << "address + length wraps";
    EXPECT_FALSE(memory.range(1, UINT64_MAX));
    EXPECT_FALSE(memory.read<uint64_t>(8185));
    EXPECT_FALSE(memory.write<uint64_t>(8185, 1));
    EXPECT_TRUE(memory.write<uint64_t>(8184, 0x1122334455667788));
    EXPECT_EQ(memory.read<uint32_t>(8188), 0x11223344u);
}

TEST(GuestMemory, NothingCrossesTheDeviceHole) {
    // Reserved, not touched: costs no memory.
    auto memory = GuestMemory::make(uint64_t{4} << 30);
    ASSERT_TRUE(memory) << memory.error().message;
    EXPECT_TRUE(memory->range(kLowMemoryEnd - 16, 16));
    EXPECT_FALSE(memory->range(kLowMemoryEnd - 16, 17));
    EXPECT_FALSE(memory->range(kLowMemoryEnd, 1));
    EXPECT_FALSE(memory->range(kHighMemoryStart - 1, 1));
    EXPECT_TRUE(memory->range(kHighMemoryStart, uint64_t{1} << 30));
    EXPECT_FALSE(memory->range(kHighMemoryStart, (uint64_t{1} << 30) + 1));
    auto host = reinterpret_cast<uintptr_t>(memory->regions()[0].host.data());
    EXPECT_EQ(host % kHugePageBytes, 0u) << "huge pages need the alignment";
}

TEST(GuestMemory, RefusesSizesThatCannotBe) {
    EXPECT_FALSE(GuestMemory::make(0));
    EXPECT_FALSE(GuestMemory::make((128 << 20) + 4096));
    EXPECT_FALSE(GuestMemory::make(kMostMemoryBytes * 2));
}

} // namespace nullbox::cage
