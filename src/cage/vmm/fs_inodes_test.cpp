// A guest's node numbers, and taking requests apart, with no folder.
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "cage/vmm/fs_inodes.h"
#include "cage/vmm/fuse_wire.h"

namespace nullbox::cage {

static uint64_t add(InodeTable& table, uint64_t parent, const std::string& name, uint64_t number,
                    bool folder = true) {
    return table.remember({.parent = parent, .name = name, .number = number, .folder = folder}).value_or(0);
}

TEST(InodeTable, OneNodeForOneFile) {
    InodeTable table(100, 1 << 20);
    uint64_t node = add(table, kRootNode, "a", 5, false);
    EXPECT_NE(node, kRootNode);
    EXPECT_EQ(add(table, kRootNode, "b", 5, false), node) << "a second name";
    EXPECT_EQ(table.find(node)->name, "b");
    EXPECT_EQ(table.find(node)->lookups, 2u);
    table.forget(node, 1);
    EXPECT_NE(table.find(node), nullptr);
    table.forget(node, 1);
    EXPECT_EQ(table.find(node), nullptr);
    EXPECT_NE(add(table, kRootNode, "b", 5, false), node) << "a node is never given out twice";
}

TEST(InodeTable, ForgettingMoreThanThereIsIsHarmless) {
    InodeTable table(100, 1 << 20);
    uint64_t node = add(table, kRootNode, "a", 5);
    table.forget(node, UINT64_MAX);
    EXPECT_EQ(table.find(node), nullptr);
    table.forget(node, 1);
    table.forget(77, 1);
    table.forget(0, UINT64_MAX);
    table.forget(kRootNode, UINT64_MAX);
    EXPECT_NE(table.find(kRootNode), nullptr) << "the root stays";
    EXPECT_EQ(table.bytes(), 0u);
}

TEST(InodeTable, IsBounded) {
    InodeTable table(1, 10'000);
    size_t given = 0;
    for (uint64_t number = 2; number < 1000; ++number)
        if (add(table, kRootNode, std::string(255, 'n'), number)) ++given;
    EXPECT_GT(given, 10u);
    EXPECT_LT(given, 60u);
    EXPECT_LE(table.bytes(), 10'000u);
    for (uint64_t node = 2; node < 1000; ++node) table.forget(node, 1);
    EXPECT_NE(add(table, kRootNode, "again", 5000), 0u);
}

TEST(InodeTable, ANumberThatBecameAnotherKindIsAnotherNode) {
    InodeTable table(1, 1 << 20);
    uint64_t folder = add(table, kRootNode, "x", 9, true);
    uint64_t file = add(table, kRootNode, "x", 9, false);
    EXPECT_NE(folder, file);
    table.forget(folder, 1);
    EXPECT_EQ(add(table, kRootNode, "x", 9, false), file)
        << "the old one's end does not take the new one along";
}

TEST(InodeTable, TheWayLeadsDownFromTheRoot) {
    InodeTable table(1, 1 << 20);
    uint64_t a = add(table, kRootNode, "a", 2), b = add(table, a, "b", 3), c = add(table, b, "c", 4);
    EXPECT_EQ(table.way(c).value(), (std::vector{a, b, c}));
    table.move({.parent = kRootNode, .name = "c2", .number = 4, .folder = true});
    EXPECT_EQ(table.way(c).value(), (std::vector{c}));
    EXPECT_TRUE(table.way(kRootNode).value().empty());
}

TEST(InodeTable, ACircleOrAMissingParentEnds) {
    InodeTable table(1, 1 << 20);
    uint64_t a = add(table, kRootNode, "a", 2), b = add(table, a, "b", 3);
    // Another VM has moved b to the root and a into b; the guest looks in the wrong order.
    EXPECT_EQ(add(table, b, "a", 2), a);
    EXPECT_EQ(table.way(a).error().code, ELOOP);
    table.forget(a, 9);
    EXPECT_EQ(table.way(b).error().code, ESTALE);
    EXPECT_EQ(table.way(12345).error().code, ESTALE);
}

TEST(InodeTable, DepthIsBounded) {
    InodeTable table(1, 1 << 20);
    uint64_t node = kRootNode;
    for (uint64_t i = 0; i < kMostDepth; ++i) node = add(table, node, "d", 2 + i);
    EXPECT_TRUE(table.way(node));
    node = add(table, node, "d", 5000);
    EXPECT_EQ(table.way(node).error().code, ELOOP);
}

// --- fuse_wire

static int name_error(std::string_view bytes) {
    FuseArguments arguments(std::as_bytes(std::span(bytes)));
    auto name = arguments.name();
    EXPECT_EQ(name.empty(), arguments.cut_short());
    return arguments.error();
}

TEST(FuseArguments, NamesAreOneComponent) {
    using namespace std::string_view_literals;
    EXPECT_EQ(name_error("file\0"sv), 0);
    EXPECT_EQ(name_error("...\0"sv), 0);
    EXPECT_EQ(name_error("a\\b\xff\0"sv), 0) << "bytes, not text";
    for (auto bad : {""sv, "\0"sv, "."sv, ".\0"sv, "..\0"sv, "/\0"sv, "a/b\0"sv, "../x\0"sv, "a/\0"sv,
                     "file"sv, "a\0b\0"sv, "a\0\0"sv})
        EXPECT_EQ(name_error(bad), EINVAL) << bad;
    EXPECT_EQ(name_error(std::string(255, 'x') + '\0'), 0);
    EXPECT_EQ(name_error(std::string(256, 'x') + '\0'), ENAMETOOLONG);
    EXPECT_EQ(name_error(std::string(8000, 'x') + '\0'), ENAMETOOLONG);
}

TEST(FuseArguments, CountsItsBytes) {
    std::array<std::byte, 17> bytes{};
    auto error_with = [&](size_t count) {
        FuseArguments arguments(std::span(bytes).first(count));
        arguments.fixed<fuse_getattr_in>();
        return arguments.error();
    };
    EXPECT_EQ(error_with(16), 0);
    EXPECT_EQ(error_with(15), EINVAL);
    EXPECT_EQ(error_with(17), EINVAL);
    EXPECT_EQ(error_with(0), EINVAL);
    FuseArguments two(std::as_bytes(std::span(std::string_view("a\0b", 3))));
    two.name(), two.name();
    EXPECT_EQ(two.error(), EINVAL) << "the second has no end";
}

TEST(FuseAttributes, ShowWhatThisVmMay) {
    struct stat status{};
    status.st_mode = S_IFREG | S_ISUID | 0750 | 05;
    status.st_uid = 1, status.st_rdev = 77;
    auto shown = attributes_of(status, {.uid = 1000, .gid = 1001, .writable = true});
    EXPECT_EQ(shown.mode, S_IFREG | 0555u);
    EXPECT_EQ(shown.uid, 1000u);
    EXPECT_EQ(shown.gid, 1001u);
    EXPECT_EQ(shown.rdev, 0u);
    status.st_mode = S_IFDIR | 0777;
    EXPECT_EQ(attributes_of(status, {.writable = true}).mode, S_IFDIR | 0777u);
    EXPECT_EQ(attributes_of(status, {.writable = false}).mode, S_IFDIR | 0555u);
    EXPECT_EQ(shared_file_mode(06100), 0777u);
    EXPECT_EQ(shared_file_mode(0600), 0666u);
}

} // namespace nullbox::cage
