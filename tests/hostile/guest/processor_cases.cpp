// What a guest does to its processor, its ports, its addresses and itself.
#include "cases.h"

namespace hostile {

extern "C" void* memset(void* target, int value, size_t bytes);

namespace {
void nothing(Link& link) {
    equal(link, devices() >= 5, 1, "devices:");
    Device rng = find(kRng);
    equal(link, rng.start(), 1, "rng starts:");
    auto* place = static_cast<unsigned char*>(allocate(64));
    Buffer buffer{place, 32, kWrite};
    rng.queue[0].add(&buffer, 1);
    rng.queue[0].kick();
    uint32_t written = 0;
    equal(link, rng.queue[0].wait(&written), 1, "rng answers:");
    equal(link, written, 32, "rng wrote:");
}
void faults_three_times(Link&) { triple_fault(); }
void halts(Link&) { halt(); }
void spins(Link&) {
    asm volatile("cli");
    for (;;) asm volatile("" ::: "memory");
}
void resets(Link&) {
    for (;;) out8(0x64, 0xfe);
}
void port_noise(Link& link) {
    for (unsigned port = 0; port < 0x10000; port += port < 0x400 ? 1 : 257) {
        if (port == 0x64) continue;
        auto number = static_cast<uint16_t>(port);
        out8(number, 0xff), in8(number);
        if (port % 4 == 0) out16(number, 0xfefe), out32(number, 0xfefefefe), in32(number);
    }
    link.say("exceptions:", exceptions);
}
void port_strings(Link& link) {
    auto* place = static_cast<unsigned char*>(allocate(65536));
    memset(place, 1, 65536);
    for (uint16_t port : {0x80, 0x64, 0x3f8, 0xffff}) {
        uint64_t count = 300, from = address_of(place);
        asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
        count = 100, from = address_of(place);
        asm volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(port) : "memory");
        count = 300, from = address_of(place);
        asm volatile("rep insb" : "+D"(from), "+c"(count) : "d"(port) : "memory");
        count = 100, from = address_of(place);
        asm volatile("rep insw" : "+D"(from), "+c"(count) : "d"(port) : "memory");
        memset(place, 1, 65536);
    }
    // Into registers, and from them: the string's other end is a device.
    uint64_t count = 64, from = kDevices;
    asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(uint16_t{0x80}) : "memory");
    count = 64, from = kDevices + 0x100;
    asm volatile("rep insb" : "+D"(from), "+c"(count) : "d"(uint16_t{0x80}) : "memory");
    link.say("exceptions:", exceptions);
}
void odd_registers(Link& link) {
    Device rng = find(kRng);
    equal(link, rng.start(), 1, "rng starts:");
    for (unsigned n = 0; n < devices(); ++n) {
        uint64_t page = kDevices + n * kDevicePage;
        for (uint64_t offset = 0; offset < 0x120; ++offset) {
            store<uint8_t>(page + offset, 0);
            store<uint16_t>(page + offset, 0);
            store<uint64_t>(page + offset, 0);
            if (offset % 4) store<uint32_t>(page + offset, 0);
        }
        for (uint64_t offset = 0x100; offset < kDevicePage; offset += 61)
            store<uint32_t>(page + offset, 0xffff'ffff), load<uint64_t>(page + offset);
    }
    equal(link, rng.read(0x70), 0xf, "status of the rng after it:");
    nothing(link);
}
void holes(Link& link) {
    for (uint64_t address : {kHole, kHole + 1, uint64_t{0xc000'0000}, kDevices - 8, kDevices - 3,
                             kDevices + devices() * kDevicePage - 3, uint64_t{0xfffb'c000},
                             uint64_t{0xffff'fff0}, memory_bytes(), memory_bytes() + 4093}) {
        store<uint8_t>(address, 1), store<uint16_t>(address, 1), store<uint32_t>(address, 1),
            store<uint64_t>(address, 1);
        load<uint8_t>(address), load<uint16_t>(address), load<uint32_t>(address), load<uint64_t>(address);
    }
    equal(link, load32(kHole), 0xffff'ffff, "the hole reads as");
    uint64_t count = 512, to = kHole; // a string across a page
    asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0) : "memory");
    count = 4096 + 64, to = kDevices + kDevicePage - 32;
    asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0) : "memory");
}
void runs_from(uint64_t address) {
    asm volatile("jmp *%0" ::"r"(address));
    halt();
}
void runs_in_the_hole(Link&) { runs_from(kHole); }
void runs_in_registers(Link&) { runs_from(kDevices); }
void runs_beyond_memory(Link&) { runs_from(memory_bytes() + 0x1000); }
void tables_in_the_hole(Link&) {
    asm volatile("mov %0, %%cr3" ::"r"(kHole) : "memory");
    halt();
}
void tables_in_registers(Link&) {
    asm volatile("mov %0, %%cr3" ::"r"(kDevices) : "memory");
    halt();
}
void stack_in_the_hole(Link&) {
    asm volatile("mov %0, %%rsp; push %%rax; pop %%rax; call 1f; 1: ud2" ::"r"(kHole + 0x800) : "memory");
    halt();
}
void stack_in_registers(Link&) {
    asm volatile("mov %0, %%rsp; push %%rax; pop %%rax; call 1f; 1: ud2" ::"r"(kDevices + 0x800) : "memory");
    halt();
}
void gates_in_the_hole(Link&) {
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } pointer{0xfff, kHole};
    asm volatile("lidt %0; ud2" ::"m"(pointer));
    halt();
}
void what_cannot_be_emulated(Link& link) {
    uint64_t cr4 = 0, cr0 = 0;
    asm volatile("mov %%cr4, %0; mov %%cr0, %1" : "=r"(cr4), "=r"(cr0));
    asm volatile("mov %0, %%cr4; mov %1, %%cr0" ::"r"(cr4 | 0x600), "r"((cr0 & ~uint64_t{4}) | 2));
    asm volatile("fxsave (%0)" ::"r"(kHole) : "memory");
    asm volatile("fxsave (%0)" ::"r"(kDevices + 0x200) : "memory");
    wait_for_the_end(link);
}
void over_its_boot_structures(Link&) {
    memset(reinterpret_cast<void*>(0), 0xff, 0x500);            // interrupt vectors
    memset(reinterpret_cast<void*>(0x500), 0xff, 0x6b00);       // GDT: the segments are loaded
    memset(reinterpret_cast<void*>(0x7000), 0xff, 0x1000);      // boot_params
    memset(reinterpret_cast<void*>(0x9000), 0xff, 0x3000);      // the first page tables
    memset(reinterpret_cast<void*>(0x20000), 0xff, 0x800);      // the command line
    memset(reinterpret_cast<void*>(0x9fc00), 0xff, 0x400);      // the MP table
    memset(reinterpret_cast<void*>(0x1000000), 0xff, 0xc00000); // the kernel that was loaded with us
}
void over_itself(Link&) {
    uint64_t count = memory_bytes(), to = 0;
    asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0xff) : "memory");
    halt();
}
void all_memory(Link&) { // every page of it, but what it stands on itself
    for (uint64_t page = 0x1000; page < memory_bytes(); page += 4096) {
        bool own = page >= 0x2000000 && page < 0x3000000;
        if (!own) store<uint64_t>(page, ~page);
    }
}
void model_registers(Link& link) {
    skip_bytes = 2;
    auto write = [](uint32_t number, uint64_t value) {
        asm volatile("wrmsr" ::"c"(number), "a"(static_cast<uint32_t>(value)),
                     "d"(static_cast<uint32_t>(value >> 32))
                     : "memory");
    };
    const uint64_t values[] = {
        0, 1, ~uint64_t{0}, kHole | 1, kDevices | 1, (uint64_t{1} << 40) | 1, memory_bytes() | 3};
    for (uint64_t value : values) {
        for (uint32_t number = 0; number < 0x500; ++number)
            if (number != 0x1b && (number < 0x800 || number > 0x8ff)) write(number, value);
        for (uint32_t number = 0xc000'0081; number < 0xc000'0110; ++number)
            if (number != 0xc000'0100 && number != 0xc000'0101) write(number, value);
        for (uint32_t number = 0xc001'0000; number < 0xc001'0140; ++number) write(number, value);
        for (uint32_t number = 0x4b56'4d00; number < 0x4b56'4d10; ++number) write(number, value); // KVM's own
        for (uint32_t number = 0x4000'0000; number < 0x4000'0110; number += 3)
            write(number, value); // Hyper-V's
        write(0x11, value), write(0x12, value);
        for (unsigned round = 0; round < 100'000; ++round)
            pause(); // it now tells the time to such an address
    }
    link.say("exceptions:", exceptions);
}
void hypercalls(Link& link) {
    for (uint64_t number = 0; number < 64; ++number)
        for (uint64_t argument : {uint64_t{0}, kHole, ~uint64_t{0}}) {
            uint64_t answer = number;
            skip_bytes = 3;
            asm volatile("vmmcall"
                         : "+a"(answer)
                         : "b"(argument), "c"(argument), "d"(argument), "S"(argument)
                         : "memory");
            answer = number;
            asm volatile("vmcall"
                         : "+a"(answer)
                         : "b"(argument), "c"(argument), "d"(argument), "S"(argument)
                         : "memory");
        }
    link.say("exceptions:", exceptions);
}
void machines_of_its_own(Link& link) {
    skip_bytes = 3;
    for (uint64_t address : {uint64_t{0}, kHole, kDevices, memory_bytes(), ~uint64_t{0xfff}}) {
        asm volatile("vmrun" ::"a"(address) : "memory");
        asm volatile("vmload" ::"a"(address) : "memory");
        asm volatile("vmsave" ::"a"(address) : "memory");
        asm volatile("stgi; clgi; stgi" ::: "memory");
    }
    link.say("exceptions:", exceptions);
}
void interrupt_storm(Link& link) {
    skip_bytes = 0; // an interrupt skips nothing
    store32(kLocalApic + 0xf0, 0x1ff);
    for (unsigned round = 0; round < 500; ++round) {
        store32(kLocalApic + 0x310, (round % 256) << 24);
        store32(kLocalApic + 0x300, 0x4000 | (round % 32));        // fixed, also to nobody
        store32(kLocalApic + 0x300, 0x4400);                       // NMI to whoever it is
        if (round % 256 != 0) store32(kLocalApic + 0x300, 0x4500); // INIT to others
        if (round % 256 != 0) store32(kLocalApic + 0x300, 0x4600 | (round % 256));
    }
    for (uint64_t offset = 0; offset < 0x1000; offset += 16)
        if (offset != 0x300) store32(kLocalApic + offset, 0xffff'ffff), load32(kLocalApic + offset);
    for (uint32_t line = 0; line < 256; ++line) { // the IO-APIC: each line anywhere
        store32(0xfec0'0000, line);
        store32(0xfec0'0010, 0xffff'ffff);
        store<uint8_t>(0xfec0'0001, 1), store<uint64_t>(0xfec0'0010, 0);
    }
    link.say("exceptions:", exceptions);
}
void control_registers(Link& link) {
    skip_bytes = 3;
    for (uint64_t bit = 0; bit < 64; ++bit) {
        uint64_t cr4 = 0;
        asm volatile("mov %%cr4, %0" : "=r"(cr4));
        asm volatile("mov %0, %%cr4" ::"a"((cr4 | uint64_t{1} << bit) & ~uint64_t{0x20}) : "memory");
        asm volatile("mov %0, %%cr4" ::"a"(cr4) : "memory");
        asm volatile("mov %0, %%dr7" ::"a"(uint64_t{1} << bit) : "memory");
    }
    // Not CR8: QEMU 7.2's emulation of a write to it in a nested guest ends QEMU itself.
    link.say("exceptions:", exceptions);
}
} // namespace

const Case processor_cases[] = {
    {"nothing wrong", nothing},
    {"triple fault", faults_three_times},
    {"halt with interrupts off", halts},
    {"spin with interrupts off", spins},
    {"reset port", resets},
    {"port noise", port_noise},
    {"port strings", port_strings},
    {"odd registers", odd_registers},
    {"holes", holes},
    {"runs in the hole", runs_in_the_hole},
    {"runs in registers", runs_in_registers},
    {"runs beyond memory", runs_beyond_memory},
    {"tables in the hole", tables_in_the_hole},
    {"tables in registers", tables_in_registers},
    {"stack in the hole", stack_in_the_hole},
    {"stack in registers", stack_in_registers},
    {"gates in the hole", gates_in_the_hole},
    {"what cannot be emulated", what_cannot_be_emulated},
    {"over its boot structures", over_its_boot_structures},
    {"over itself", over_itself},
    {"all memory", all_memory},
    {"model registers", model_registers},
    {"hypercalls", hypercalls},
    {"machines of its own", machines_of_its_own},
    {"interrupt storm", interrupt_storm},
    {"control registers", control_registers},
};
const unsigned processor_case_count = sizeof processor_cases / sizeof *processor_cases;

} // namespace hostile
