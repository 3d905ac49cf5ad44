// The MP table (Intel MultiProcessor Specification 1.4): how a guest without ACPI learns of its CPUs and of
// the IO-APIC. It lies at the end of base memory, where kernels look for it.
#pragma once

#include <cstdint>

#include "cage/vmm/guest_memory.h"

namespace nullbox::cage {

constexpr uint32_t kMostVcpus = 16; // the guest kernel's NR_CPUS
constexpr uint32_t kIoApicLines = 24;
constexpr uint32_t kLocalApicAddress = 0xfee0'0000;
constexpr uint32_t kIoApicAddress = 0xfec0'0000;

Result<> write_mp_table(const GuestMemory& memory, uint32_t vcpus);

} // namespace nullbox::cage
