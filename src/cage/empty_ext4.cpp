#include "cage/empty_ext4.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstring>
#include <span>
#include <string_view>

#include "base/check.h"

namespace nullbox::cage {

namespace {
constexpr uint32_t kBlockBytes = 4096, kBlocksPerGroup = 8 * kBlockBytes;
constexpr uint32_t kInodeBytes = 256, kDescriptorBytes = 32;
constexpr uint32_t kBytesPerInode = 16384;               // mke2fs's own ratio
constexpr uint32_t kRootInode = 2, kLostFoundInode = 11; // lost+found is the last of the first
constexpr std::array<uint8_t, 16> kUuid{'n', 'u', 'l', 'l', 'b', 'o', 'x', ' ',
                                        's', 'c', 'r', 'a', 't', 'c', 'h', 0};
// Indexed folders; a superblock in the groups named in s_backup_bgs, which are none.
constexpr uint32_t kCompatible = 0x8 /* xattrs */ | 0x20 /* dir_index */ | 0x200 /* sparse_super2 */;
constexpr uint32_t kIncompatible = 0x2 /* filetype */ | 0x40 /* extents */;
constexpr uint32_t kReadOnlyCompatible = 0x2 /* large_file */ | 0x8 /* huge_file */ | 0x10 /* uninit_bg */ |
                                         0x20 /* dir_nlink */ | 0x40 /* isize */;
enum GroupFlag : uint16_t { kInodesUnset = 1, kBlocksUnset = 2, kInodesZeroed = 4 };

// Where things are. A group's own blocks: two bitmaps, the inodes; before them, in the first group, the
// superblock and the descriptors.
struct Layout {
    uint64_t blocks;
    uint32_t groups, inodes_per_group;

    explicit Layout(uint64_t bytes) : blocks(bytes / kBlockBytes) {
        uint32_t in_first = static_cast<uint32_t>(std::min<uint64_t>(blocks, kBlocksPerGroup));
        inodes_per_group = in_first / (kBytesPerInode / kBlockBytes);
        inodes_per_group &= ~15U; // whole blocks of them, whole bytes of their bitmap
        // A last group with less room than its own blocks take, and some, is left out.
        if (blocks > kBlocksPerGroup && blocks % kBlocksPerGroup < 2 * own_blocks())
            blocks -= blocks % kBlocksPerGroup;
        groups = static_cast<uint32_t>((blocks + kBlocksPerGroup - 1) / kBlocksPerGroup);
    }
    uint32_t inode_blocks() const { return inodes_per_group * kInodeBytes / kBlockBytes; }
    uint32_t own_blocks() const { return 2 + inode_blocks(); }
    uint32_t descriptor_blocks() const { return (groups * kDescriptorBytes + kBlockBytes - 1) / kBlockBytes; }
    uint64_t start(uint32_t group) const { // of its own blocks
        return uint64_t{group} * kBlocksPerGroup + (group == 0 ? 1 + descriptor_blocks() : 0);
    }
    uint32_t blocks_in(uint32_t group) const {
        return static_cast<uint32_t>(
            std::min<uint64_t>(kBlocksPerGroup, blocks - uint64_t{group} * kBlocksPerGroup));
    }
    // In the first group, the two folders' blocks come behind its inodes.
    uint64_t root_folder() const { return start(0) + own_blocks(); }
    uint32_t used_in_first() const { return static_cast<uint32_t>(root_folder()) + 2; }
    uint32_t free_blocks(uint32_t group) const {
        return blocks_in(group) - (group == 0 ? used_in_first() : own_blocks());
    }
    uint32_t free_inodes(uint32_t group) const {
        return inodes_per_group - (group == 0 ? kLostFoundInode : 0);
    }
};

class Area {
public:
    explicit Area(uint64_t blocks) : bytes_(blocks * kBlockBytes) {}
    template <std::unsigned_integral T>
    void put(uint64_t at, T value) {
        CHECK(at + sizeof value <= bytes_.size());
        std::memcpy(bytes_.data() + at, &value, sizeof value);
    }
    void put_bytes(uint64_t at, std::span<const std::byte> value) {
        CHECK(at + value.size() <= bytes_.size());
        std::ranges::copy(value, bytes_.begin() + static_cast<ptrdiff_t>(at));
    }
    // Bits [first, end) of a bitmap that begins at a byte.
    void set_bits(uint64_t bitmap, uint32_t first, uint32_t end) {
        for (uint32_t bit = first; bit < end; ++bit) bytes_[bitmap + bit / 8] |= std::byte{1} << (bit % 8);
    }
    std::span<const std::byte> part(uint64_t at, size_t count) const {
        return std::span(bytes_).subspan(at, count);
    }
    std::vector<std::byte> take() && { return std::move(bytes_); }

private:
    std::vector<std::byte> bytes_;
};

uint16_t crc16(uint16_t crc, std::span<const std::byte> bytes) {
    for (std::byte byte : bytes) {
        crc ^= static_cast<uint16_t>(byte);
        for (int bit = 0; bit < 8; ++bit) crc = static_cast<uint16_t>(crc & 1 ? crc >> 1 ^ 0xa001 : crc >> 1);
    }
    return crc;
}

void put_superblock(Area& area, const Layout& layout) {
    constexpr uint64_t kStart = 1024;
    uint64_t free_blocks = 0, free_inodes = 0;
    for (uint32_t group = 0; group < layout.groups; ++group) {
        free_blocks += layout.free_blocks(group);
        free_inodes += layout.free_inodes(group);
    }
    auto put32 = [&](uint64_t at, uint64_t value) { area.put(kStart + at, static_cast<uint32_t>(value)); };
    auto put16 = [&](uint64_t at, uint32_t value) { area.put(kStart + at, static_cast<uint16_t>(value)); };
    put32(0x00, uint64_t{layout.groups} * layout.inodes_per_group);
    put32(0x04, layout.blocks);
    put32(0x0c, free_blocks);
    put32(0x10, free_inodes);
    put32(0x18, 2); // block and cluster size: 1024 << 2
    put32(0x1c, 2);
    put32(0x20, kBlocksPerGroup);
    put32(0x24, kBlocksPerGroup);
    put32(0x28, layout.inodes_per_group);
    put16(0x36, 0xffff); // no limit of mounts
    put16(0x38, 0xef53);
    put16(0x3a, 1); // clean
    put16(0x3c, 2); // read-only after an error: the agent is told, and nothing goes on wrong
    put32(0x4c, 1); // revision with inode sizes and features
    put32(0x54, kLostFoundInode);
    put16(0x58, kInodeBytes);
    put32(0x5c, kCompatible);
    put32(0x60, kIncompatible);
    put32(0x64, kReadOnlyCompatible);
    area.put_bytes(kStart + 0x68, std::as_bytes(std::span(kUuid)));
    area.put_bytes(kStart + 0xec, std::as_bytes(std::span(kUuid))); // the seed of the folders' hashes
    area.put(kStart + 0xfc, uint8_t{1});                            // half MD4
    put16(0x15c, 32);
    put16(0x15e, 32); // bytes of an inode beyond the first 128
    put32(0x160, 2);  // hashes of unsigned characters
}

void put_descriptor(Area& area, const Layout& layout, uint32_t group) {
    uint64_t at = kBlockBytes + uint64_t{group} * kDescriptorBytes, start = layout.start(group);
    auto put16 = [&](uint64_t offset, uint32_t value) {
        area.put(at + offset, static_cast<uint16_t>(value));
    };
    area.put(at, static_cast<uint32_t>(start));
    area.put(at + 4, static_cast<uint32_t>(start + 1));
    area.put(at + 8, static_cast<uint32_t>(start + 2));
    put16(12, layout.free_blocks(group));
    put16(14, layout.free_inodes(group));
    put16(16, group == 0 ? 2 : 0); // folders
    bool has_bitmap = group == 0 || group + 1 == layout.groups;
    put16(18, kInodesZeroed | (group == 0 ? 0 : kInodesUnset) | (has_bitmap ? 0 : kBlocksUnset));
    put16(28, layout.free_inodes(group)); // inodes never used, at the end of the table
    uint16_t sum = crc16(0xffff, std::as_bytes(std::span(kUuid)));
    sum = crc16(sum, std::as_bytes(std::span(&group, 1)));
    put16(30, crc16(sum, area.part(at, 30)));
}

void put_folder_inode(Area& area, const Layout& layout, uint32_t inode, uint16_t mode, uint16_t links,
                      uint64_t block) {
    uint64_t at = (layout.start(0) + 2) * kBlockBytes + (inode - 1) * kInodeBytes;
    area.put(at, static_cast<uint16_t>(0x4000 | mode));
    area.put(at + 4, kBlockBytes);
    area.put(at + 26, links);
    area.put(at + 28, kBlockBytes / 512);
    area.put(at + 32, uint32_t{0x80000}); // by extents; the tree's head, then one extent of one block
    area.put(at + 40, uint16_t{0xf30a});
    area.put(at + 42, uint16_t{1});
    area.put(at + 44, uint16_t{4});
    area.put(at + 56, uint16_t{1});
    area.put(at + 60, static_cast<uint32_t>(block));
    area.put(at + 128, uint16_t{32});
}

struct Entry {
    uint32_t inode;
    uint16_t bytes;
    std::string_view name;
};
void put_entries(Area& area, uint64_t at, std::initializer_list<Entry> entries) {
    for (const Entry& entry : entries) {
        area.put(at, entry.inode);
        area.put(at + 4, entry.bytes);
        area.put(at + 6, static_cast<uint8_t>(entry.name.size()));
        area.put(at + 7, uint8_t{2}); // a folder
        area.put_bytes(at + 8, std::as_bytes(std::span(entry.name)));
        at += entry.bytes;
    }
}
} // namespace

std::vector<Extent> empty_ext4(uint64_t bytes) {
    CHECK(bytes >= kLeastExt4Bytes && bytes <= kMostExt4Bytes && bytes % (1 << 20) == 0);
    Layout layout(bytes);
    // Superblock, descriptors, the first group's bitmaps and its first block of inodes, in one piece.
    uint64_t bitmaps = layout.start(0) * kBlockBytes;
    Area front(layout.start(0) + 3);
    put_superblock(front, layout);
    for (uint32_t group = 0; group < layout.groups; ++group) put_descriptor(front, layout, group);
    front.set_bits(bitmaps, 0, layout.used_in_first());
    front.set_bits(bitmaps, layout.blocks_in(0), kBlocksPerGroup); // what is not there is not free
    front.set_bits(bitmaps + kBlockBytes, 0, kLostFoundInode);
    front.set_bits(bitmaps + kBlockBytes, layout.inodes_per_group, 8 * kBlockBytes);
    put_folder_inode(front, layout, kRootInode, 0755, 3, layout.root_folder());
    put_folder_inode(front, layout, kLostFoundInode, 0700, 2, layout.root_folder() + 1);
    Area folders(2);
    put_entries(folders, 0,
                {{kRootInode, 12, "."}, {kRootInode, 12, ".."}, {kLostFoundInode, 4072, "lost+found"}});
    put_entries(folders, kBlockBytes, {{kLostFoundInode, 12, "."}, {kRootInode, 4084, ".."}});
    // The last group may be shorter than the others, so its bitmap is there from the start.
    Area last(1);
    uint32_t group = layout.groups - 1;
    auto own = static_cast<uint32_t>(layout.start(group) - uint64_t{group} * kBlocksPerGroup);
    last.set_bits(0, own, own + layout.own_blocks());
    last.set_bits(0, layout.blocks_in(group), kBlocksPerGroup);
    std::vector<Extent> extents;
    extents.push_back({.offset = 0, .bytes = std::move(front).take()});
    extents.push_back({.offset = layout.root_folder() * kBlockBytes, .bytes = std::move(folders).take()});
    if (group > 0)
        extents.push_back({.offset = layout.start(group) * kBlockBytes, .bytes = std::move(last).take()});
    return extents;
}

} // namespace nullbox::cage
