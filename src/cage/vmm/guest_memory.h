// The guest's RAM, and the only way to reach it: every view is asked for by guest address and length, and
// comes back only if the whole of it lies in one region. The guest changes this memory while we look at it,
// so a value that decides something is copied out once (read) and checked in the copy.
//
// Layout: the low region from 0 to at most 3 GiB, the rest from 4 GiB on; between them lie the devices, the
// IO-APIC and the local APIC. Both regions are one private anonymous mapping, aligned so that the host can
// back it with huge pages: a guest's first touch of a page is a fault in two page tables.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

#include "base/error.h"

namespace nullbox::cage {

constexpr uint64_t kLowMemoryEnd = 0xc000'0000;
constexpr uint64_t kHighMemoryStart = 0x1'0000'0000;
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2 << 20;
constexpr uint64_t kLeastMemoryBytes = 32 << 20;
constexpr uint64_t kMostMemoryBytes = uint64_t{1} << 40;

struct MemoryRegion {
    uint64_t guest_start = 0;
    std::span<std::byte> host;
};

class GuestMemory {
public:
    // bytes: a multiple of 2 MiB.
    static Result<GuestMemory> make(uint64_t bytes);
    // Memory from guest address 0 in a buffer of the caller's, which must outlive this (devices without a
    // guest).
    static GuestMemory over(std::span<std::byte> buffer);
    GuestMemory(GuestMemory&& other) noexcept;
    GuestMemory& operator=(GuestMemory&&) = delete;
    ~GuestMemory();

    // Nothing if any byte of [address, address + length) is not RAM. An empty range must still lie in RAM.
    std::optional<std::span<std::byte>> range(uint64_t address, uint64_t length) const {
        for (const MemoryRegion& region : regions_) {
            uint64_t offset = address - region.guest_start;
            if (address >= region.guest_start && offset < region.host.size() &&
                length <= region.host.size() - offset)
                return region.host.subspan(offset, length);
        }
        return std::nullopt;
    }
    template <typename T>
        requires std::is_trivially_copyable_v<T>
    std::optional<T> read(uint64_t address) const {
        auto bytes = range(address, sizeof(T));
        if (!bytes) return std::nullopt;
        T value;
        std::memcpy(&value, bytes->data(), sizeof value);
        // One read: without this the compiler may load a field again after it was checked.
        asm volatile("" ::: "memory");
        return value;
    }
    template <typename T>
        requires std::is_trivially_copyable_v<T>
    [[nodiscard]] bool write(uint64_t address, const T& value) const {
        auto bytes = range(address, sizeof(T));
        if (bytes) std::memcpy(bytes->data(), &value, sizeof value);
        return bytes.has_value();
    }
    // A private view of a file's pages in place of [address, address + length): nothing is read or copied
    // before the guest touches it, and what it only reads is shared by all guests of the same file. All three
    // are whole pages. Only for memory of make(), before the guest runs.
    Result<> map_file(uint64_t address, uint64_t length, int file, uint64_t offset);
    std::span<const MemoryRegion> regions() const {
        return std::span(regions_).first(regions_[1].host.empty() ? 1 : 2);
    }

    bool can_map_files() const { return !mapping_.empty(); }

private:
    GuestMemory() = default;
    std::array<MemoryRegion, 2> regions_;
    std::span<std::byte> mapping_; // ours to unmap; empty for over()
};

} // namespace nullbox::cage
