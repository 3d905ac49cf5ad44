// The pure checks before a start: an image's superblock, the machine's memory.
#include <cstring>
#include <gtest/gtest.h>
#include <vector>

#include "cage/host_facts.h"
#include "cage/image_check.h"

namespace nullbox::cage {
namespace {

template <typename T>
void put(std::vector<std::byte>& out, size_t offset, T value) {
    std::memcpy(out.data() + offset, &value, sizeof value);
}

std::vector<std::byte> squashfs(uint64_t bytes_used) {
    std::vector<std::byte> head(kImageHeadBytes);
    put(head, 0, uint32_t{0x73717368});
    put(head, 20, uint16_t{6}); // zstd
    put(head, 28, uint16_t{4});
    put(head, 40, bytes_used);
    return head;
}

std::vector<std::byte> erofs(uint32_t blocks) {
    std::vector<std::byte> head(kImageHeadBytes);
    put(head, 1024, uint32_t{0xe0f5e1e2});
    put(head, 1024 + 12, uint8_t{12});
    put(head, 1024 + 36, blocks);
    return head;
}

std::string complaint(std::span<const std::byte> head, uint64_t bytes) {
    auto checked = check_image(head, bytes);
    return checked ? "ok " + std::string(*checked) : checked.error().message;
}

TEST(ImageCheck, BothFormatsAndTheirLengths) {
    EXPECT_EQ(complaint(squashfs(5000), 8192), "ok squashfs");
    EXPECT_EQ(complaint(squashfs(8193), 8192),
              "truncated: it says that it has 8193 bytes, the file has 8192: copy it again");
    EXPECT_EQ(complaint(erofs(2), 8192), "ok erofs");
    EXPECT_EQ(complaint(erofs(0xffffffff), 8192),
              "truncated: it says that it has 17592186040320 bytes, the file has 8192: copy it again");
}

TEST(ImageCheck, NonsenseAndShortFiles) {
    EXPECT_EQ(complaint({}, 0), "the file is empty");
    std::vector<std::byte> head(kImageHeadBytes);
    EXPECT_TRUE(complaint(head, 8192).starts_with("neither SquashFS nor EROFS"));
    auto cut = squashfs(5000);
    EXPECT_EQ(complaint(std::span(cut).first(10), 10), "SquashFS version 0, must be 4");
    auto packed = squashfs(5000);
    put(packed, 20, uint16_t{1});
    EXPECT_EQ(
        complaint(packed, 8192),
        "SquashFS compressed with gzip, the guest's kernel reads zstd: make it with mksquashfs -comp zstd");
    auto odd = erofs(2);
    put(odd, 1024 + 12, uint8_t{77});
    EXPECT_EQ(complaint(odd, 8192), "EROFS with blocks of 2^77 bytes");
}

TEST(HostFacts, AvailableMemory) {
    EXPECT_EQ(*available_memory("MemTotal:  9 kB\nMemAvailable:   2048 kB\nX: 1\n"), uint64_t{2} << 20);
    EXPECT_FALSE(available_memory("MemTotal: 9 kB\n"));
    EXPECT_FALSE(available_memory("MemAvailable: lots kB\n"));
}

TEST(HostFacts, PromisedMemoryCounts) {
    constexpr uint64_t kMb = 1 << 20;
    EXPECT_TRUE(check_memory(128 * kMb, 200 * kMb, 0));
    auto refused = check_memory(128 * kMb, 200 * kMb, 100 * kMb);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().message.starts_with("needs 152 MB, 68 MB available"))
        << refused.error().message;
    EXPECT_FALSE(check_memory(128 * kMb, 10 * kMb, 100 * kMb));
}

TEST(HostFacts, AMissingKvmComesWithTheRemedy) {
    auto missing = open_kvm("/no/such/kvm");
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().message.find("nested virtualisation"), std::string::npos);
    EXPECT_FALSE(open_kvm("/dev/null"));
}

} // namespace
} // namespace nullbox::cage
