#include "cage/vmm/loader.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/file.h"
#include "cage/vmm/mptable.h"

namespace nullbox::cage {

struct LoaderTest : testing::Test {
    GuestMemory memory = *GuestMemory::make(64 << 20);
    static constexpr uint64_t kAt = 16 << 20;

    // An ELF of one segment at 16 MiB with 4 bytes of text and a page of zeroes.
    struct Image {
        Elf64_Ehdr header{};
        Elf64_Phdr segment{};
        char text[8] = "\x90\x90\xf4";
    };
    static Image good() {
        Image image;
        std::memcpy(image.header.e_ident,
                    "\x7f"
                    "ELF\x02\x01\x01",
                    7);
        image.header.e_type = ET_EXEC;
        image.header.e_machine = EM_X86_64;
        image.header.e_entry = kAt + 1;
        image.header.e_phoff = offsetof(Image, segment);
        image.header.e_phentsize = sizeof(Elf64_Phdr);
        image.header.e_phnum = 1;
        image.segment = {.p_type = PT_LOAD,
                         .p_offset = offsetof(Image, text),
                         .p_paddr = kAt,
                         .p_filesz = 4,
                         .p_memsz = 4096};
        return image;
    }
    static Fd file_of(std::span<const std::byte> bytes) {
        Fd file(::memfd_create("kernel", MFD_CLOEXEC));
        EXPECT_TRUE(write_all(file.get(), bytes));
        return file;
    }
    Result<LoadedKernel> load(const Image& image) {
        return load_kernel(memory, file_of(std::as_bytes(std::span(&image, 1))).get());
    }
};

TEST_F(LoaderTest, LoadsASegmentWhereItBelongs) {
    auto loaded = load(good());
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->entry, kAt + 1);
    EXPECT_EQ(loaded->end, kAt + 4096);
    EXPECT_EQ(memory.read<uint32_t>(kAt), 0x00f49090u);
}

TEST_F(LoaderTest, DamageIsAnErrorThatSaysSo) {
    struct Case {
        const char* what;
        std::function<void(Image&)> damage;
    };
    const Case cases[] = {
        {"magic", [](Image& image) { image.header.e_ident[1] = 'X'; }},
        {"32 bits", [](Image& image) { image.header.e_ident[EI_CLASS] = ELFCLASS32; }},
        {"another processor", [](Image& image) { image.header.e_machine = EM_AARCH64; }},
        {"shared object", [](Image& image) { image.header.e_type = ET_DYN; }},
        {"no program headers", [](Image& image) { image.header.e_phnum = 0; }},
        {"too many", [](Image& image) { image.header.e_phnum = 0xffff; }},
        {"of another size", [](Image& image) { image.header.e_phentsize = 57; }},
        {"beyond the file", [](Image& image) { image.header.e_phoff = 1 << 20; }},
        {"far beyond", [](Image& image) { image.header.e_phoff = UINT64_MAX - 8; }},
        {"segment beyond the file", [](Image& image) { image.segment.p_offset = 1 << 20; }},
        {"segment far beyond", [](Image& image) { image.segment.p_offset = UINT64_MAX; }},
        {"more data than memory", [](Image& image) { image.segment.p_filesz = 8192; }},
        {"below 1 MiB", [](Image& image) { image.segment.p_paddr = 0x7000; }},
        {"outside of memory", [](Image& image) { image.segment.p_paddr = 64 << 20; }},
        {"over the end", [](Image& image) { image.segment.p_memsz = 64 << 20; }},
        {"wraps", [](Image& image) { image.segment.p_memsz = UINT64_MAX - 100; }},
        {"address wraps", [](Image& image) { image.segment.p_paddr = UINT64_MAX - 100; }},
        {"entry outside", [](Image& image) { image.header.e_entry = kAt + 4096; }},
        {"entry below", [](Image& image) { image.header.e_entry = 0; }},
        {"nothing to load", [](Image& image) { image.segment.p_type = PT_NOTE; }},
    };
    for (const Case& each : cases) {
        Image image = good();
        each.damage(image);
        auto loaded = load(image);
        EXPECT_FALSE(loaded) << each.what;
        if (!loaded) {
            EXPECT_TRUE(loaded.error().message.starts_with("guest kernel: ")) << loaded.error().message;
        }
    }
    for (size_t length = 0; length < sizeof(Image) - 4; ++length) {
        Image image = good();
        EXPECT_FALSE(load_kernel(memory, file_of(std::as_bytes(std::span(&image, 1)).first(length)).get()))
            << length;
    }
}

TEST_F(LoaderTest, PreparesWhatTheKernelReads) {
    std::string cpio(100'000, 'c');
    Fd initramfs = file_of(std::as_bytes(std::span(cpio)));
    BootFiles files{.kernel = {.entry = kAt, .end = kAt + 12345},
                    .initramfs = initramfs.get(),
                    .command_line = "console=hvc0"};
    auto prepared = prepare_boot(memory, files);
    ASSERT_TRUE(prepared) << prepared.error().message;
    auto params = *memory.read<boot_params>(kBootParamsAddress);
    EXPECT_EQ(+params.hdr.header, 0x53726448u);
    EXPECT_EQ(+params.hdr.ramdisk_image, 18u << 20);
    EXPECT_EQ(+params.hdr.ramdisk_size, cpio.size());
    EXPECT_EQ(memory.read<char>((18 << 20) + cpio.size() - 1), 'c');
    ASSERT_EQ(+params.e820_entries, 2);
    EXPECT_EQ(+params.e820_table[0].size, kBaseMemoryEnd);
    EXPECT_EQ(+params.e820_table[1].addr, kExtendedMemoryStart);
    EXPECT_EQ(+params.e820_table[1].size, (64u << 20) - kExtendedMemoryStart);
    EXPECT_EQ(as_text(memory.range(params.hdr.cmd_line_ptr, 13)->first(13)),
              std::string_view("console=hvc0\0", 13));
    // The page tables map each of the first 512 large pages onto itself.
    uint64_t top = *memory.read<uint64_t>(kPageTablesAddress) & ~0xfffull;
    uint64_t middle = *memory.read<uint64_t>(top) & ~0xfffull;
    EXPECT_EQ(memory.read<uint64_t>(middle + 8 * 8), (16u << 20) | 0x83u);
}

TEST_F(LoaderTest, TooMuchIsRefused) {
    BootFiles files{.kernel = {.entry = kAt, .end = kAt}};
    std::string line(kMostCommandLineBytes, 'x');
    files.command_line = line;
    EXPECT_FALSE(prepare_boot(memory, files));
    files.command_line = "";
    std::string big((48 << 20) + 1, 'x');
    Fd initramfs = file_of(std::as_bytes(std::span(big)));
    files.initramfs = initramfs.get();
    auto prepared = prepare_boot(memory, files);
    ASSERT_FALSE(prepared);
    EXPECT_TRUE(prepared.error().message.contains("max_memory_mb")) << prepared.error().message;
}

TEST_F(LoaderTest, MpTableChecksumsAndCounts) {
    for (uint32_t vcpus : {1u, 2u, kMostVcpus}) {
        ASSERT_TRUE(write_mp_table(memory, vcpus));
        auto place = *memory.range(kBaseMemoryEnd, 1024);
        EXPECT_EQ(as_text(place.first(4)), "_MP_");
        auto sum = [](std::span<const std::byte> bytes) {
            unsigned total = 0;
            for (std::byte byte : bytes) total += static_cast<unsigned>(byte);
            return total & 0xff;
        };
        EXPECT_EQ(sum(place.first(16)), 0u);
        auto table = place.subspan(16);
        EXPECT_EQ(as_text(table.first(4)), "PCMP");
        ByteReader reader(table.subspan(4));
        auto length = reader.number<uint16_t>();
        EXPECT_EQ(sum(table.first(length)), 0u);
        EXPECT_EQ(length, 44 + vcpus * 20 + 8 + 8 + kIoApicLines * 8 + 16);
        ByteReader count(table.subspan(34));
        EXPECT_EQ(count.number<uint16_t>(), vcpus + 2 + kIoApicLines + 2);
    }
}

} // namespace nullbox::cage
