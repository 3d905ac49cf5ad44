// Puts an uncompressed ELF kernel, its initramfs and its command line into guest memory, and says how the
// first vCPU starts: Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst), long mode from the first
// instruction. The files come from our image, yet are checked like any other input.
#pragma once

#include <cstdint>
#include <string_view>

#include "cage/vmm/guest_memory.h"

namespace nullbox::cage {

// Where things lie below 1 MiB.
constexpr uint64_t kGdtAddress = 0x500;
constexpr uint64_t kBootParamsAddress = 0x7000;
constexpr uint64_t kPageTablesAddress = 0x9000; // PML4, page directory pointers, page directory
constexpr uint64_t kStackAddress = 0x8ff0;
constexpr uint64_t kCommandLineAddress = 0x20000;
constexpr uint64_t kBaseMemoryEnd = 0x9fc00; // the MP table lies from here to 640 KiB
constexpr uint64_t kExtendedMemoryStart = 0x100000;
constexpr size_t kMostCommandLineBytes = 2048; // x86's COMMAND_LINE_SIZE

struct Segment {
    uint16_t selector;
    uint8_t type; // of the descriptor, as in kvm_segment
    uint64_t descriptor;
};
// The GDT the kernel is entered with: flat 64-bit code at 0x10, flat data at 0x18 (boot.rst asks for these).
constexpr Segment kBootCode{0x10, 11, 0x00af'9b00'0000'ffff};
constexpr Segment kBootData{0x18, 3, 0x00cf'9300'0000'ffff};

struct LoadedKernel {
    uint64_t entry = 0; // guest address, inside a loaded segment
    uint64_t end = 0;   // first address behind the kernel and its zeroed data
};

Result<LoadedKernel> load_kernel(GuestMemory& memory, int file);

struct BootFiles {
    LoadedKernel kernel;
    int initramfs = -1;
    std::string_view command_line;
};
// The initramfs behind the kernel, boot_params, e820, GDT and page tables.
Result<> prepare_boot(const GuestMemory& memory, const BootFiles& files);

} // namespace nullbox::cage
