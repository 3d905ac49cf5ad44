#include "cage/vmm/guest_memory.h"

#include <algorithm>
#include <sys/mman.h>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace nullbox::cage {

Result<GuestMemory> GuestMemory::make(uint64_t bytes) {
    if (bytes % kHugePageBytes != 0 || bytes < kLeastMemoryBytes || bytes > kMostMemoryBytes)
        return error(cat("guest memory of ", bytes, " bytes: it must be a multiple of 2 MiB from ",
                         kLeastMemoryBytes >> 20, " MiB to ", kMostMemoryBytes >> 20, " MiB"));
    // NORESERVE: the cgroup limits what the guest touches; what it never touches costs nothing.
    uint64_t mapped = bytes + kHugePageBytes;
    void* start =
        ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return errno_error(cat("map ", bytes >> 20, " MiB of guest memory (lower max_memory_mb)"));
    GuestMemory memory;
    memory.mapping_ = {static_cast<std::byte*>(start), mapped};
    auto misaligned = reinterpret_cast<uintptr_t>(start) % kHugePageBytes;
    auto ram = memory.mapping_.subspan(kHugePageBytes - misaligned, bytes);
    // Advice only: without transparent huge pages in the kernel the guest is slower, not wrong.
    (void)::madvise(ram.data(), ram.size(), MADV_HUGEPAGE);
    uint64_t low = std::min(bytes, kLowMemoryEnd);
    memory.regions_[0] = {0, ram.first(low)};
    memory.regions_[1] = {kHighMemoryStart, ram.subspan(low)};
    return memory;
}

Result<> GuestMemory::map_file(uint64_t address, uint64_t length, int file, uint64_t offset) {
    auto place = range(address, length);
    CHECK(place && !mapping_.empty() && (address | length | offset) % kPageBytes == 0);
    void* mapped = ::mmap(place->data(), length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file,
                          static_cast<off_t>(offset));
    if (mapped == MAP_FAILED) return errno_error("map a file into guest memory");
    return {};
}

GuestMemory GuestMemory::over(std::span<std::byte> buffer) {
    GuestMemory memory;
    memory.regions_[0] = {0, buffer};
    memory.regions_[1] = {kHighMemoryStart, {}};
    return memory;
}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : regions_(std::exchange(other.regions_, {})), mapping_(std::exchange(other.mapping_, {})) {}

GuestMemory::~GuestMemory() {
    if (!mapping_.empty()) ::munmap(mapping_.data(), mapping_.size());
}

} // namespace nullbox::cage
