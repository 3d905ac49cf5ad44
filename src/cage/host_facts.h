// What the machine has for another VM: memory, and a KVM that works.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/fd.h"

namespace nullbox::cage {

// What a VM costs beside its guest's memory: the monitor and the kernel's tables for it.
constexpr uint64_t kVmOverheadBytes = uint64_t{24} << 20;
// What is never promised to an agent: the services and the kernel live on it.
constexpr uint64_t kHostReserveBytes = uint64_t{32} << 20;

// MemAvailable of /proc/meminfo's text, in bytes.
Result<uint64_t> available_memory(std::string_view meminfo);

// promised: what running VMs may still take beyond what they hold now.
Result<> check_memory(uint64_t guest_bytes, uint64_t available_bytes, uint64_t promised_bytes);

// /dev/kvm, opened and asked for its version. The error carries the remedy.
Result<Fd> open_kvm(const char* path = "/dev/kvm");

} // namespace nullbox::cage
