// The bare machine: instructions, memory, and where things lie. There is no library and no kernel: memcpy and
// memset are in entry.cpp. Everything below 4 GiB is mapped onto itself, in pages of 2 MiB.
#pragma once

#include <initializer_list>
#include <stddef.h>
#include <stdint.h>

namespace hostile {

constexpr uint64_t kDevices = 0xd000'0000, kDevicePage = 4096; // as src/cage/vmm/machine.cpp places them
constexpr uint64_t kHole = 0xd010'0000;                        // beyond the last of them
constexpr uint64_t kLocalApic = 0xfee0'0000;

inline void out8(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
inline void out16(uint16_t port, uint16_t value) { asm volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
inline void out32(uint16_t port, uint32_t value) { asm volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
inline uint8_t in8(uint16_t port) {
    uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
inline uint32_t in32(uint16_t port) {
    uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
template <typename T>
T load(uint64_t address) {
    return *reinterpret_cast<volatile T*>(address);
}
template <typename T>
void store(uint64_t address, T value) {
    *reinterpret_cast<volatile T*>(address) = value;
}
inline uint32_t load32(uint64_t address) { return load<uint32_t>(address); }
inline void store32(uint64_t address, uint32_t value) { store(address, value); }
inline void fence() { asm volatile("mfence" ::: "memory"); }
inline void pause() { asm volatile("pause"); }

// How many exceptions were taken since the start. An instruction that faults is skipped: its length is what
// was said last.
extern "C" volatile uint64_t exceptions, skip_bytes;
uint64_t memory_bytes();  // low memory, as e820 has it
[[noreturn]] void halt(); // interrupts off, for good
[[noreturn]] void triple_fault();

// Bumps, never frees; zeroed, page-aligned.
void* allocate(size_t bytes);
uint64_t address_of(const void* pointer);

} // namespace hostile
