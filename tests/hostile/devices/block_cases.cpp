// virtio-blk: requests that no driver makes (virtio 1.2, section 5.2).
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

namespace nullbox::hostile {

namespace {
enum Type : uint32_t { kIn = 0, kOut = 1, kFlush = 4, kId = 8, kDiscard = 11 };
enum Answer : uint8_t { kOk = 0, kIoError = 1, kUnsupported = 2 };
constexpr uint64_t kSectors = 16;

struct DiskCase {
    Guest guest;
    explicit DiskCase(Kind kind) : guest(kind) { guest.start(); }
    uint8_t status(uint32_t type, uint64_t sector, std::vector<Buffer> data) {
        return guest.ask_block(type, sector, std::move(data)).status;
    }
    std::string content() const {
        std::string bytes(kSectors * 512 + 4096, '\0');
        ssize_t count = ::pread(guest.disk.get(), bytes.data(), bytes.size(), 0);
        bytes.resize(static_cast<size_t>(std::max<ssize_t>(count, 0)));
        return bytes;
    }
};

void beyond_the_end() {
    for (Kind kind : {Kind::Image, Kind::Disk}) {
        DiskCase disk(kind);
        auto before = disk.content();
        for (uint64_t sector : {kSectors, kSectors + 1, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / 512,
                                UINT64_MAX / 512 + 1, uint64_t{1} << 55, uint64_t{1} << 63}) {
            equal(disk.status(kIn, sector, {{Guest::kAnswer, 512, true}}), kIoError,
                  cat("read of sector ", sector));
            equal(disk.status(kOut, sector, {{Guest::kAnswer, 512}}), kIoError,
                  cat("write of sector ", sector));
        }
        equal(disk.status(kIn, kSectors - 1, {{Guest::kAnswer, 1024, true}}), kIoError,
              "a read over the end");
        equal(disk.status(kOut, kSectors - 1, {{Guest::kAnswer, 1024}}), kIoError, "a write over the end");
        expect(disk.content() == before, "the disk has changed");
        disk.guest.works();
    }
}
void parts_of_sectors() {
    DiskCase disk(Kind::Disk);
    auto before = disk.content();
    for (uint32_t bytes : {1u, 511u, 513u, 1000u}) {
        equal(disk.status(kIn, 0, {{Guest::kAnswer, bytes, true}}), kIoError, "part of a sector read");
        equal(disk.status(kOut, 0, {{Guest::kAnswer, bytes}}), kIoError, "part of a sector written");
    }
    equal(disk.status(kIn, 0, {{Guest::kAnswer, 511, true}, {Guest::kAnswer + 600, 1, true}}), kOk,
          "a sector in two pieces");
    expect(disk.content() == before, "the disk has changed");
    disk.guest.works();
}
void write_to_an_image() {
    DiskCase disk(Kind::Image);
    auto before = disk.content();
    for (uint64_t sector = 0; sector < kSectors; ++sector)
        equal(disk.status(kOut, sector, {{Guest::kData + 0x1000, 512}}), kIoError,
              "a write to a read-only disk");
    equal(disk.status(kOut, 0, {}), kIoError, "a write of nothing to a read-only disk");
    equal(disk.status(kFlush, 0, {{Guest::kData + 0x1000, 512}}), kOk, "a flush with data");
    expect(disk.content() == before, "a read-only disk has changed");
    disk.guest.works();
}
void unknown_types() {
    DiskCase disk(Kind::Disk);
    auto before = disk.content();
    for (uint32_t type = 0; type < 300; ++type)
        if (type != kIn && type != kOut && type != kFlush && type != kId)
            equal(disk.status(type, 0, {{Guest::kData + 0x1000, 512}}), kUnsupported, cat("type ", type));
    for (uint32_t type : {0x8000'0000u, 0x8000'0001u, UINT32_MAX, 0x10001u})
        equal(disk.status(type, 0, {{Guest::kAnswer, 512, true}}), kUnsupported, cat("type ", type));
    expect(disk.content() == before, "the disk has changed");
    disk.guest.works();
}
template <typename Make>
void faulty(const Make& make) {
    for (Kind kind : {Kind::Image, Kind::Disk}) {
        DiskCase disk(kind);
        disk.guest.put(Guest::kData, uint64_t{0}), disk.guest.put(Guest::kData + 8, uint64_t{0});
        disk.guest.ring(0).add(make());
        disk.guest.kick(0);
        disk.guest.faults("block: request without header or status");
        disk.guest.works_after_reset();
    }
}
void no_status() {
    faulty([] { return std::vector<Buffer>{{Guest::kData, 16}}; });
    faulty([] { return std::vector<Buffer>{{Guest::kData, 16}, {Guest::kData + 512, 512}}; });
}
void short_header() {
    for (uint32_t bytes : {0u, 1u, 15u})
        faulty([&] { return std::vector<Buffer>{{Guest::kData, bytes}, {Guest::kAnswer, 513, true}}; });
}
void header_in_pieces() {
    DiskCase disk(Kind::Disk);
    Guest& guest = disk.guest;
    guest.put(Guest::kData, uint64_t{0}), guest.put(Guest::kData + 8, uint64_t{1});
    std::vector<Buffer> pieces;
    for (uint32_t i = 0; i < 16; ++i) pieces.push_back({Guest::kData + i, 1});
    for (uint32_t i = 0; i < 8; ++i) pieces.push_back({Guest::kAnswer + i * 0x1000, 64, true});
    pieces.push_back({Guest::kAnswer + 0x9000, 1, true});
    guest.ring(0).add(pieces);
    guest.kick(0);
    guest.serve();
    equal(guest.ring(0).take().written, 513, "bytes of a request in 25 pieces");
    equal(guest.get<uint8_t>(Guest::kAnswer + 0x9000), kOk, "its status");
    expect(guest.text(Guest::kAnswer + 0x7000, 64) == std::string(64, 'b'), "its data");
    guest.works();
}
void direction_turned_round() {
    DiskCase disk(Kind::Disk);
    auto before = disk.content();
    disk.guest.put_text(Guest::kAnswer, std::string(512, 'Z'));
    (void)disk.status(kIn, 0, {{Guest::kData + 0x1000, 512}}); // nothing to read into
    (void)disk.status(kOut, 0, {{Guest::kAnswer, 512, true}}); // nothing to write from
    expect(disk.content() == before, "a write took a buffer that is not for reading");
    expect(disk.guest.text(Guest::kAnswer, 512) == std::string(512, 'Z'), "a write wrote to the guest");
    disk.guest.works();
}
// Status, header and data at one address: the request is what it was when it was read.
void all_at_one_place() {
    DiskCase disk(Kind::Disk);
    auto before = disk.content();
    Guest& guest = disk.guest;
    for (uint64_t sector : {uint64_t{0}, kSectors - 1, kSectors}) {
        guest.put(Guest::kData, uint64_t{0}), guest.put(Guest::kData + 8, sector);
        guest.ring(0).add({{Guest::kData, 16}, {Guest::kData, 512, true}, {Guest::kData, 1, true}});
        guest.kick(0);
        guest.serve();
        guest.has_not_faulted();
        guest.ring(0).take();
    }
    expect(disk.content() == before, "the disk has changed");
    guest.works();
}
void more_than_the_disk() {
    DiskCase disk(Kind::Disk);
    auto before = disk.content();
    std::vector<Buffer> pieces(28, {Guest::kAnswer, 1 << 20, true}), from(28, {Guest::kAnswer, 1 << 20});
    equal(disk.status(kIn, 0, pieces), kIoError, "a read of 28 MiB");
    equal(disk.status(kOut, 0, from), kIoError, "a write of 28 MiB");
    expect(disk.content() == before, "the disk has changed or grown");
    disk.guest.works();
}
void file_cut_off() {
    DiskCase disk(Kind::Disk);
    expect(::ftruncate(disk.guest.disk.get(), 1024) == 0, "cut the file");
    equal(disk.status(kIn, 4, {{Guest::kAnswer, 512, true}}), kIoError, "a read behind the end of the file");
    equal(disk.status(kIn, 1, {{Guest::kAnswer, 1024, true}}), kIoError, "a read over the end of the file");
    disk.guest.works();
}
void name_with_little_room() {
    DiskCase disk(Kind::Image);
    for (uint32_t bytes : {0u, 1u, 19u})
        equal(disk.status(kId, 0, {{Guest::kAnswer, bytes, true}}), kIoError,
              cat("the name into ", bytes, " bytes"));
    equal(disk.status(kId, UINT64_MAX, {{Guest::kAnswer, 4096, true}}), kOk, "the name into a page");
    disk.guest.works();
}

constexpr Case kCases[] = {
    {"block: sectors beyond the end, and whose offset wraps", beyond_the_end},
    {"block: parts of sectors", parts_of_sectors},
    {"block: writes to a read-only disk", write_to_an_image},
    {"block: unknown types of request, discard among them", unknown_types},
    {"block: no byte for the status", no_status},
    {"block: a header cut short", short_header},
    {"block: header and data in pieces of one byte", header_in_pieces},
    {"block: reads from readable, writes from writable buffers", direction_turned_round},
    {"block: header, data and status at one address", all_at_one_place},
    {"block: one request for more than the whole disk", more_than_the_disk},
    {"block: the file behind it is cut off", file_cut_off},
    {"block: its name into too little room", name_with_little_room},
};
} // namespace

std::span<const Case> block_cases() { return kCases; }

} // namespace nullbox::hostile
