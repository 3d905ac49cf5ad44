#include "cage/vmm/loader.h"

#include <algorithm>
#include <array>
#include <asm/bootparam.h>
#include <cerrno>
#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

namespace nullbox::cage {

namespace {
constexpr unsigned kMostProgramHeaders = 32;
constexpr uint64_t kMostInitramfsBytes = uint64_t{1} << 30;

Result<> read_at(int file, uint64_t offset, std::span<std::byte> out) {
    while (!out.empty()) {
        ssize_t count = ::pread(file, out.data(), out.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno_error("read");
        if (count == 0) return error("the file ends too early: it is cut off, make the image again");
        offset += static_cast<uint64_t>(count);
        out = out.subspan(static_cast<size_t>(count));
    }
    return {};
}

template <typename T>
Result<T> read_struct(int file, uint64_t offset) {
    T value;
    TRY(read_at(file, offset, std::as_writable_bytes(std::span(&value, 1))));
    return value;
}

Result<> check_header(const Elf64_Ehdr& header) {
    constexpr std::array<unsigned char, 6> kIdent{0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB};
    if (!std::equal(kIdent.begin(), kIdent.end(), header.e_ident) || header.e_type != ET_EXEC ||
        header.e_machine != EM_X86_64)
        return error("not an uncompressed x86-64 ELF kernel (vmlinux, not bzImage)");
    if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 ||
        header.e_phnum > kMostProgramHeaders)
        return error("damaged program header table");
    return {};
}

Result<> load_segment(GuestMemory& memory, int file, const Elf64_Phdr& segment) {
    if (segment.p_filesz > segment.p_memsz) return error("segment with more data than memory");
    auto place = memory.range(segment.p_paddr, segment.p_memsz);
    if (!place || segment.p_paddr < kExtendedMemoryStart)
        return error(cat("segment at ", hex(segment.p_paddr), " of ", segment.p_memsz,
                         " bytes does not fit in guest memory: raise max_memory_mb"));
    // Whole pages are mapped, the rest is read. Beyond p_filesz the memory is zero already: it is fresh.
    uint64_t mapped = 0;
    if (memory.can_map_files() && (segment.p_paddr | segment.p_offset) % kPageBytes == 0) {
        // A page beyond the file's end would kill the process at its first touch (SIGBUS).
        struct stat info{};
        if (::fstat(file, &info) < 0) return errno_error("size");
        auto file_bytes = static_cast<uint64_t>(info.st_size);
        if (file_bytes < segment.p_filesz || file_bytes - segment.p_filesz < segment.p_offset)
            return error("the file ends too early: it is cut off, make the image again");
        mapped = segment.p_filesz & ~(kPageBytes - 1);
        if (mapped > 0) TRY(memory.map_file(segment.p_paddr, mapped, file, segment.p_offset));
    }
    return read_at(file, segment.p_offset + mapped, place->subspan(mapped, segment.p_filesz - mapped));
}

void add_e820(boot_params& params, uint64_t start, uint64_t end) {
    if (start < end)
        params.e820_table[params.e820_entries++] = {.addr = start, .size = end - start, .type = 1};
}

Result<> load_initramfs(const GuestMemory& memory, const BootFiles& files, boot_params& params) {
    struct stat info{};
    if (::fstat(files.initramfs, &info) < 0) return errno_error("size");
    auto bytes = static_cast<uint64_t>(info.st_size);
    if (bytes == 0 || bytes > kMostInitramfsBytes)
        return error(cat(bytes, " bytes is no initramfs: make it again"));
    uint64_t start = (files.kernel.end + kHugePageBytes - 1) & ~(kHugePageBytes - 1);
    auto place = memory.range(start, bytes);
    if (!place) return error(cat(bytes, " bytes do not fit behind the kernel: raise max_memory_mb"));
    TRY(read_at(files.initramfs, 0, *place));
    params.hdr.ramdisk_image = static_cast<uint32_t>(start); // in the low region: 32 bits are enough
    params.hdr.ramdisk_size = static_cast<uint32_t>(bytes);
    return {};
}

// The low 1 GiB onto itself in 2 MiB pages: the kernel makes its own tables before it looks further.
[[nodiscard]] bool write_page_tables(const GuestMemory& memory) {
    constexpr uint64_t kPresentWritable = 3, kLargePage = 0x80;
    std::array<uint64_t, 512> directory{};
    for (size_t i = 0; i < directory.size(); ++i)
        directory[i] = i * kHugePageBytes | kPresentWritable | kLargePage;
    return memory.write(kPageTablesAddress, (kPageTablesAddress + 0x1000) | kPresentWritable) &&
           memory.write(kPageTablesAddress + 0x1000, (kPageTablesAddress + 0x2000) | kPresentWritable) &&
           memory.write(kPageTablesAddress + 0x2000, directory);
}
} // namespace

Result<LoadedKernel> load_kernel(GuestMemory& memory, int file) {
    auto header = TRY(read_struct<Elf64_Ehdr>(file, 0).context("guest kernel"));
    TRY(check_header(header).context("guest kernel"));
    LoadedKernel loaded{.entry = header.e_entry};
    bool entry_inside = false;
    for (unsigned i = 0; i < header.e_phnum; ++i) {
        uint64_t at = 0;
        if (__builtin_add_overflow(header.e_phoff, i * sizeof(Elf64_Phdr), &at) || at > INT64_MAX)
            return error("guest kernel: damaged program header table");
        auto segment = TRY(read_struct<Elf64_Phdr>(file, at).context("guest kernel"));
        // An empty segment, wherever it lies, must not move the kernel's end: the initramfs goes behind that.
        if (segment.p_type != PT_LOAD || (segment.p_memsz | segment.p_filesz) == 0) continue;
        if (segment.p_offset > INT64_MAX) return error("guest kernel: damaged segment");
        if (segment.p_paddr < loaded.end) return error("guest kernel: segments overlap or are out of order");
        TRY(load_segment(memory, file, segment).context("guest kernel"));
        loaded.end = segment.p_paddr + segment.p_memsz;
        entry_inside |= header.e_entry >= segment.p_paddr && header.e_entry < loaded.end;
    }
    if (!entry_inside) return error("guest kernel: entry point outside of its segments");
    return loaded;
}

Result<> prepare_boot(const GuestMemory& memory, const BootFiles& files) {
    if (files.command_line.size() >= kMostCommandLineBytes)
        return error(cat("kernel command line of ", files.command_line.size(), " bytes: at most ",
                         kMostCommandLineBytes - 1));
    boot_params params{};
    params.hdr.boot_flag = 0xaa55;
    params.hdr.header = 0x53726448; // "HdrS"
    params.hdr.type_of_loader = 0xff;
    params.hdr.cmd_line_ptr = kCommandLineAddress;
    params.hdr.cmdline_size = static_cast<uint32_t>(files.command_line.size());
    uint64_t low_end = memory.regions()[0].host.size();
    add_e820(params, 0, kBaseMemoryEnd);
    add_e820(params, kExtendedMemoryStart, low_end);
    if (memory.regions().size() > 1)
        add_e820(params, kHighMemoryStart, kHighMemoryStart + memory.regions()[1].host.size());
    if (files.initramfs >= 0) TRY(load_initramfs(memory, files, params).context("guest initramfs"));

    std::array<char, kMostCommandLineBytes> line{};
    std::ranges::copy(files.command_line, line.begin());
    std::array<uint64_t, 4> gdt{0, 0, kBootCode.descriptor, kBootData.descriptor};
    bool written = memory.write(kBootParamsAddress, params) && memory.write(kCommandLineAddress, line) &&
                   memory.write(kGdtAddress, gdt) && write_page_tables(memory);
    if (!written) return error("guest memory is too small to boot: raise max_memory_mb");
    return {};
}

} // namespace nullbox::cage
