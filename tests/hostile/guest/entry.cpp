// From the monitor's first instruction to main_of_guest. An agent with the ordinary amount of memory gets the
// ordinary kernel, which lies in the same file: its neighbours in the test are hostile, it is not.
#include "machine.h"

#ifndef REAL_ENTRY
#error "REAL_ENTRY: where the ordinary kernel begins"
#endif

namespace hostile {

void main_of_guest(unsigned which);

constexpr uint64_t kOrdinaryMegabytes = 64;

struct __attribute__((packed)) E820 {
    uint64_t address, size;
    uint32_t type;
};
struct __attribute__((packed)) Gate {
    uint16_t low, selector;
    uint8_t stack, type;
    uint16_t middle;
    uint32_t high, reserved;
};
struct __attribute__((packed)) TablePointer {
    uint16_t limit;
    uint64_t base;
};

volatile uint64_t exceptions = 0, skip_bytes = 2;
static uint64_t low_memory;
alignas(4096) static uint64_t level4[512], level3[512], level2[4][512];
alignas(16) static Gate gates[32];
alignas(4096) static unsigned char heap[8 << 20];
static size_t heap_used;

uint64_t memory_bytes() { return low_memory; }
uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

void* allocate(size_t bytes) {
    void* place = heap + heap_used;
    heap_used += (bytes + 4095) & ~size_t{4095};
    if (heap_used > sizeof heap) triple_fault();
    return place;
}

void halt() {
    for (;;) asm volatile("cli; hlt");
}
void triple_fault() {
    TablePointer none{0, 0};
    asm volatile("lidt %0; ud2" ::"m"(none));
    halt();
}

// Counts, and skips the instruction. One handler for vectors with an error code, one for those without.
extern "C" void fault_with_code();
extern "C" void fault_without_code();
asm(R"(
.global fault_with_code
fault_with_code:
    add $8, %rsp
.global fault_without_code
fault_without_code:
    push %rax
    incq exceptions(%rip)
    mov skip_bytes(%rip), %rax
    add %rax, 8(%rsp)
    pop %rax
    iretq
)");

static void set_gates() {
    for (unsigned vector = 0; vector < 32; ++vector) {
        bool code = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 ||
                    vector == 29 || vector == 30;
        auto handler = reinterpret_cast<uint64_t>(code ? &fault_with_code : &fault_without_code);
        gates[vector] = {.low = static_cast<uint16_t>(handler),
                         .selector = 0x10,
                         .stack = 0,
                         .type = 0x8e,
                         .middle = static_cast<uint16_t>(handler >> 16),
                         .high = static_cast<uint32_t>(handler >> 32),
                         .reserved = 0};
    }
    TablePointer pointer{sizeof gates - 1, reinterpret_cast<uint64_t>(gates)};
    asm volatile("lidt %0" ::"m"(pointer));
}

static void map_all() {
    constexpr uint64_t kPresentWritable = 3, kLarge = 0x80;
    level4[0] = reinterpret_cast<uint64_t>(level3) | kPresentWritable;
    for (uint64_t i = 0; i < 4; ++i) {
        level3[i] = reinterpret_cast<uint64_t>(level2[i]) | kPresentWritable;
        for (uint64_t j = 0; j < 512; ++j) level2[i][j] = (i << 30) | (j << 21) | kPresentWritable | kLarge;
    }
    asm volatile("mov %0, %%cr3" ::"r"(level4) : "memory");
}

extern "C" [[noreturn]] void begin(uint64_t boot_params) {
    auto* table = reinterpret_cast<E820*>(boot_params + 0x2d0);
    low_memory = table[1].address + table[1].size;
    map_all();
    set_gates();
    main_of_guest(static_cast<unsigned>(((low_memory >> 20) - kOrdinaryMegabytes) / 2 - 1));
    halt();
}

// rsi: boot_params, whose second stretch of memory is what max_memory_mb says.
asm(R"(
.section .text.entry, "ax"
.global entry
entry:
    mov 0x2d0+20(%rsi), %rax
    add 0x2d0+28(%rsi), %rax
    shr $20, %rax
    cmp $64, %rax
    ja 1f
    mov $)" REAL_ENTRY R"(, %rax
    jmp *%rax
1:  cli
    lea stack_end(%rip), %rsp
    mov %rsi, %rdi
    call begin
.bss
.align 4096
stack: .skip 65536
stack_end:
.text
)");

extern "C" void* memset(void* target, int value, size_t bytes) {
    void* start = target;
    asm volatile("rep stosb" : "+D"(target), "+c"(bytes) : "a"(value) : "memory");
    return start;
}
extern "C" void* memcpy(void* target, const void* source, size_t bytes) {
    void* start = target;
    asm volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(bytes)::"memory");
    return start;
}

} // namespace hostile
