// Does an ordinary 64-bit guest really run on /dev/kvm? Some machines have one that opens, creates a VM and a
// vCPU, and then cannot run a long-mode kernel. So we run a tiny one that does what every 64-bit kernel does
// on its way up: leave protected mode for long mode by itself, ask CPUID, take an exception through its own
// IDT, change a page table entry under its feet and flush it, use SSE, say what it found on a port, halt.
//
// Prints "ok" and exits 0, or one line with the step that failed and exits 1. tools/qemu-accel builds it
// (plain clang, no library of ours: it runs before anything is built) and puts a time limit on it.
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

// The guest. Physical layout: 0x1000 code, 0x8000 page tables (4 pages), 0x20000 the page whose mapping is
// changed, 0x21000 its other content, 0x30000 stack top. Progress goes to port 0x80, the verdict to port
// 0x81.
asm(R"(
    .pushsection .rodata
    .global guest_begin, guest_end
guest_begin:
    .code32
    movb  $1, %al
    outb  %al, $0x80
    // Page tables: PML4 at 0x8000 -> PDPT 0x9000 -> PD 0xa000 -> PT 0xb000, the first 2 MiB mapped 1:1 by 4 KiB.
    movl  $0x9003, 0x8000
    movl  $0xa003, 0x9000
    movl  $0xb003, 0xa000
    movl  $0xb000, %edi
    movl  $0x003, %eax
1:  movl  %eax, (%edi)
    movl  $0, 4(%edi)
    addl  $0x1000, %eax
    addl  $8, %edi
    cmpl  $0xc000, %edi
    jb    1b
    movl  $0x8000, %eax
    movl  %eax, %cr3
    movl  %cr4, %eax
    orl   $0x620, %eax            // PAE, OSFXSR, OSXMMEXCPT
    movl  %eax, %cr4
    movl  $0xc0000080, %ecx       // EFER
    rdmsr
    orl   $0x900, %eax            // LME, NXE
    wrmsr
    movl  $0x80000033, %eax       // PG, NE, ET, MP, PE
    movl  %eax, %cr0
    movb  $2, %al
    outb  %al, $0x80
    lgdtl guest_gdt_pointer - guest_begin + 0x1000
    ljmpl $8, $(guest_long - guest_begin + 0x1000)
    .balign 8
guest_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
guest_gdt_pointer:
    .word 23
    .long guest_gdt - guest_begin + 0x1000
    .code64
guest_long:
    movw  $16, %ax
    movw  %ax, %ds
    movw  %ax, %es
    movw  %ax, %ss
    movq  $0x30000, %rsp
    movb  $3, %al
    outb  %al, $0x80
    // CPUID must say long mode, which we are in.
    movl  $0x80000001, %eax
    cpuid
    btl   $29, %edx
    jnc   guest_fail
    movb  $4, %al
    outb  %al, $0x80
    // #UD through our own IDT at 0x40000 (vector 6).
    leaq  guest_handler - guest_begin + 0x1000, %rax
    movq  $0x40060, %rdi
    movw  %ax, (%rdi)
    movw  $8, 2(%rdi)
    movw  $0x8e00, 4(%rdi)
    movw  $0, 6(%rdi)
    movq  $0, 8(%rdi)
    lidt  guest_idt_pointer - guest_begin + 0x1000
    xorl  %ebx, %ebx
    ud2
    cmpl  $0x6006, %ebx
    jne   guest_fail
    movb  $5, %al
    outb  %al, $0x80
    // A mapping changed and flushed must be seen at once.
    movl  $0x1111, 0x20000
    movl  $0x2222, 0x21000
    movl  $0x21003, 0xb000 + 0x20 * 8
    movl  $0x20000, %eax
    invlpg (%rax)
    cmpl  $0x2222, 0x20000
    jne   guest_fail
    movb  $6, %al
    outb  %al, $0x80
    // SSE and 64-bit arithmetic, over many page walks.
    movq  $0x123456789abcdef, %rax
    movq  %rax, %xmm0
    paddq %xmm0, %xmm0
    movq  %xmm0, %rbx
    addq  %rax, %rax
    cmpq  %rax, %rbx
    jne   guest_fail
    movl  $200000, %ecx
    movl  $0x100000, %esi
2:  movl  %ecx, (%rsi)
    addl  $0x1000, %esi
    andl  $0x1ff000, %esi
    orl   $0x100000, %esi
    decl  %ecx
    jnz   2b
    movb  $7, %al
    outb  %al, $0x80
    movb  $0x42, %al
    outb  %al, $0x81
    hlt
guest_fail:
    movb  $0xee, %al
    outb  %al, $0x81
    hlt
guest_handler:
    movl  $0x6006, %ebx
    addq  $2, (%rsp)              // step over ud2
    iretq
guest_idt_pointer:
    .word 0xfff
    .quad 0x40000
guest_end:
    .code64
    .popsection
)");
extern "C" const char guest_begin[], guest_end[];

namespace {

// What the guest was about to do after it reported step n.
const char* const kAfterStep[] = {"its first instruction",
                                  "turning paging on",
                                  "entering 64-bit code",
                                  "asking CPUID",
                                  "taking an exception",
                                  "changing a page table entry",
                                  "using SSE",
                                  "its last instructions"};

// kvm_cpuid2 by hand: its flexible array makes the header's own struct, and with it the request numbers,
// differ between C and C++ (an empty struct has size 1 in C++).
struct CpuidTable {
    uint32_t count, padding;
    kvm_cpuid_entry2 entries[256];
};
constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, uint64_t);
constexpr unsigned long kSetCpuid = _IOW(KVMIO, 0x90, uint64_t);

int fail(const char* what) {
    std::printf("%s: %s\n", what, std::strerror(errno));
    return 1;
}

int run(int vcpu, kvm_run* state) {
    unsigned step = 0;
    for (int exits = 0; exits < 1000; ++exits) {
        if (ioctl(vcpu, KVM_RUN, 0) != 0) return fail("KVM_RUN");
        if (state->exit_reason == KVM_EXIT_IO && state->io.direction == KVM_EXIT_IO_OUT) {
            uint8_t value = *(reinterpret_cast<uint8_t*>(state) + state->io.data_offset);
            if (state->io.port == 0x80 && value < 8) step = value;
            if (state->io.port == 0x81) {
                if (value == 0x42) return std::puts("ok"), 0;
                std::printf("a 64-bit guest got a wrong result from %s\n", kAfterStep[step]);
                return 1;
            }
        } else {
            std::printf("a 64-bit guest did not run: it stopped at %s (KVM exit reason %u)\n",
                        kAfterStep[step], state->exit_reason);
            return 1;
        }
    }
    std::puts("a 64-bit guest did not run: it never came to an end");
    return 1;
}

} // namespace

int main() {
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) return fail("/dev/kvm does not open");
    if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) return fail("/dev/kvm speaks another version");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0) return fail("KVM_CREATE_VM");
    // QEMU and cage both need the in-kernel interrupt controller.
    if (ioctl(vm, KVM_CREATE_IRQCHIP, 0) != 0) return fail("KVM_CREATE_IRQCHIP");

    constexpr size_t kMemoryBytes = 2 << 20;
    void* memory = mmap(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return fail("mmap of 2 MiB");
    std::memcpy(static_cast<char*>(memory) + 0x1000, guest_begin,
                static_cast<size_t>(guest_end - guest_begin));
    kvm_userspace_memory_region region{0, 0, 0, kMemoryBytes, reinterpret_cast<uint64_t>(memory)};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) return fail("KVM_SET_USER_MEMORY_REGION");

    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu < 0) return fail("KVM_CREATE_VCPU");
    // The guest sees the CPU that KVM offers.
    CpuidTable cpuid{};
    cpuid.count = 256;
    if (ioctl(kvm, kGetSupportedCpuid, &cpuid) != 0) return fail("KVM_GET_SUPPORTED_CPUID");
    if (ioctl(vcpu, kSetCpuid, &cpuid) != 0) return fail("KVM_SET_CPUID2");

    kvm_sregs sregs{};
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs) != 0) return fail("KVM_GET_SREGS");
    kvm_segment flat{};
    flat.limit = 0xffffffff;
    flat.present = flat.s = flat.db = flat.g = 1;
    flat.type = 3;
    flat.selector = 16;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
    flat.type = 11;
    flat.selector = 8;
    sregs.cs = flat;
    sregs.cr0 = 0x11; // protected mode, no paging: where PVH and multiboot kernels start
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs) != 0) return fail("KVM_SET_SREGS");
    kvm_regs regs{};
    regs.rip = 0x1000;
    regs.rsp = 0x30000;
    regs.rflags = 2;
    if (ioctl(vcpu, KVM_SET_REGS, &regs) != 0) return fail("KVM_SET_REGS");

    int state_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (state_bytes < static_cast<int>(sizeof(kvm_run))) return fail("KVM_GET_VCPU_MMAP_SIZE");
    void* state =
        mmap(nullptr, static_cast<size_t>(state_bytes), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (state == MAP_FAILED) return fail("mmap of the vCPU");
    return run(vcpu, static_cast<kvm_run*>(state));
}
