#include "cage/vmm/vcpu.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "base/text.h"
#include "cage/vmm/cpuid.h"
#include "cage/vmm/kvm.h"

namespace nullbox::cage {

namespace {
constexpr size_t kMostCpuidEntries = 256;
constexpr size_t kThreadStackBytes = 128 << 10;
constexpr int kKick = SIGUSR1;

// The extended registers that a guest may use are switched on from the start, as far as KVM has them. A guest
// writes the same itself; but where that write is not seen by KVM (QEMU's emulation of SVM does not intercept
// it), KVM would put the old value back at each entry, and the guest's AVX instructions would fault.
Result<> enable_extended_registers(int vcpu, const std::vector<kvm_cpuid_entry2>& entries) {
    constexpr uint32_t kXsave = 1 << 26;
    constexpr uint64_t kX87SseAvxAvx512Pkru = 0x2e7;
    uint64_t supported = 0;
    bool has_xsave = false;
    for (const kvm_cpuid_entry2& entry : entries) {
        if (entry.function == 1) has_xsave = (entry.ecx & kXsave) != 0;
        if (entry.function == 0xd && entry.index == 0) supported = entry.eax | uint64_t{entry.edx} << 32;
    }
    if (!has_xsave || (supported & 1) == 0) return {};
    kvm_xcrs registers{.nr_xcrs = 1};
    registers.xcrs[0] = {.xcr = 0, .value = supported & kX87SseAvxAvx512Pkru};
    TRY(kvm_call(vcpu, KVM_SET_XCRS, "enable a vCPU's extended registers", &registers));
    return {};
}

Result<> set_cpuid(int kvm, int vcpu, Vcpu::Place place) {
    KvmTable table{std::vector<kvm_cpuid_entry2>(kMostCpuidEntries)};
    TRY(kvm_call(kvm, kGetSupportedCpuid, "ask KVM what the processor can do", table.data()));
    KvmTable filtered(guest_cpuid(table.entries(), place.index, place.count));
    TRY(kvm_call(vcpu, kSetCpuid, "set a vCPU's CPUID", filtered.data()));
    return enable_extended_registers(vcpu, filtered.entries());
}

// What firmware would have set: fast string operations, write-back memory.
Result<> set_model_registers(int vcpu) {
    constexpr uint32_t kMiscEnable = 0x1a0, kMtrrDefaultType = 0x2ff;
    constexpr uint64_t kFastStrings = 1, kMtrrEnabled = 1 << 11, kWriteBack = 6;
    KvmTable table(
        std::vector<kvm_msr_entry>{{.index = kMiscEnable, .data = kFastStrings},
                                   {.index = kMtrrDefaultType, .data = kMtrrEnabled | kWriteBack}});
    TRY(kvm_call(vcpu, kSetMsrs, "set a vCPU's model registers", table.data()));
    return {};
}

kvm_segment segment_from(const Segment& from, bool code) {
    return {.base = 0,
            .limit = 0xffff'ffff,
            .selector = from.selector,
            .type = from.type,
            .present = 1,
            .dpl = 0,
            .db = !code, // 64-bit code has L instead
            .s = 1,
            .l = code,
            .g = 1};
}
} // namespace

Vcpu::Vcpu(Vcpu&& other) noexcept
    : fd_(std::move(other.fd_)), run_(std::exchange(other.run_, nullptr)), run_bytes_(other.run_bytes_) {}

Vcpu::~Vcpu() {
    if (run_) ::munmap(run_, run_bytes_);
}

Result<Vcpu> Vcpu::make(int kvm, int vm, Place place) {
    Vcpu vcpu(Fd(TRY(kvm_call(vm, KVM_CREATE_VCPU, "make a vCPU", static_cast<unsigned long>(place.index)))));
    auto bytes = TRY(kvm_call(kvm, KVM_GET_VCPU_MMAP_SIZE, "size of a vCPU's shared page"));
    vcpu.run_bytes_ = static_cast<size_t>(bytes);
    void* shared = ::mmap(nullptr, vcpu.run_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd_.get(), 0);
    if (shared == MAP_FAILED) return errno_error("map a vCPU's shared page");
    vcpu.run_ = static_cast<kvm_run*>(shared);
    TRY(set_cpuid(kvm, vcpu.fd_.get(), place));
    TRY(set_model_registers(vcpu.fd_.get()));
    return vcpu;
}

Result<> Vcpu::set_boot_registers(uint64_t entry) {
    constexpr uint64_t kCr0 = 0x8005'0033; // PG AM WP NE ET MP PE
    constexpr uint64_t kCr4Pae = 0x20, kEferLongMode = 0x500, kRflagsFixed = 2;
    kvm_sregs system{};
    TRY(kvm_call(fd_.get(), KVM_GET_SREGS, "read a vCPU's system registers", &system));
    system.cs = segment_from(kBootCode, true);
    system.ds = system.es = system.fs = system.gs = system.ss = segment_from(kBootData, false);
    system.gdt = {.base = kGdtAddress, .limit = 4 * 8 - 1};
    system.idt = {.base = 0, .limit = 0};
    system.cr0 = kCr0;
    system.cr3 = kPageTablesAddress;
    system.cr4 = kCr4Pae;
    system.efer = kEferLongMode;
    TRY(kvm_call(fd_.get(), KVM_SET_SREGS, "set a vCPU's system registers", &system));
    kvm_regs general{.rsi = kBootParamsAddress, .rsp = kStackAddress, .rip = entry, .rflags = kRflagsFixed};
    TRY(kvm_call(fd_.get(), KVM_SET_REGS, "set a vCPU's registers", &general));
    return {};
}

Result<> Vcpu::start(const Surroundings& surroundings) {
    surroundings_ = surroundings;
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, kThreadStackBytes);
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failed = ::pthread_create(&thread_, &attributes, thread_main, this);
    ::pthread_attr_destroy(&attributes);
    if (failed) return errno_error(failed, "start a vCPU's thread");
    return {};
}

void* Vcpu::thread_main(void* self) {
    auto& vcpu = *static_cast<Vcpu*>(self);
    const auto& surroundings = vcpu.surroundings_;
    if (surroundings.filter && surroundings.filter->install() != 0)
        surroundings.end->report(VmEnd::HostFailure, "cannot restrict a vCPU's thread");
    else
        vcpu.run();
    // The device thread ends the process. (Ending this thread would need more system calls than waiting.)
    for (;;) ::pause();
}

void Vcpu::run() {
    while (true) {
        int failed = ::ioctl(fd_.get(), KVM_RUN, 0) < 0 ? errno : 0;
        if (failed == EINTR || failed == EAGAIN) {
            pass_gate();
            continue;
        }
        if (failed == EFAULT || failed == ENOMEM)
            return surroundings_.end->report(VmEnd::HostFailure, "the host has no memory left for the guest");
        if (failed) return surroundings_.end->report(VmEnd::HostFailure, "KVM cannot run the vCPU");
        switch (run_->exit_reason) {
        case KVM_EXIT_MMIO:
            handle_memory();
            break;
        case KVM_EXIT_IO:
            handle_port();
            break;
        case KVM_EXIT_SHUTDOWN:
            return surroundings_.end->report(VmEnd::Shutdown, "the guest has reset the CPU");
        case KVM_EXIT_SYSTEM_EVENT:
            return surroundings_.end->report(VmEnd::Shutdown, "the guest powered off");
        case KVM_EXIT_INTR:
            break;
        case KVM_EXIT_FAIL_ENTRY:
            return surroundings_.end->report(
                VmEnd::HostFailure, "the processor refuses to run the guest (nested virtualisation?)");
        case KVM_EXIT_INTERNAL_ERROR:
            return surroundings_.end->report(VmEnd::GuestFault, "the guest did what KVM cannot emulate");
        default:
            return surroundings_.end->report(VmEnd::GuestFault, "an exit from the guest that nothing serves");
        }
    }
}

Result<> Vcpu::prepare_kicks() {
    struct sigaction action{};
    action.sa_handler = [](int) {}; // that it comes is all: KVM_RUN ends with EINTR
    if (::sigaction(kKick, &action, nullptr) < 0) return errno_error("set up a signal");
    return {};
}

// The signal ends a KVM_RUN that goes on, immediate_exit one that has not begun yet. All of it in one order
// (the gate, the flag, the signal here; the flag, the gate there), so that no kick is lost in between.
void Vcpu::kick() noexcept {
    std::atomic_ref(run_->immediate_exit).store(1);
    ::pthread_kill(thread_, kKick);
}

void Vcpu::pass_gate() noexcept {
    std::atomic_ref(run_->immediate_exit).store(0);
    if (surroundings_.gate->closed()) surroundings_.gate->wait();
}

void Vcpu::tell_clock_of_pause() noexcept { (void)::ioctl(fd_.get(), KVM_KVMCLOCK_CTRL, 0); }

void Vcpu::handle_memory() {
    auto& access = run_->mmio;
    auto data = std::as_writable_bytes(std::span(access.data))
                    .first(std::min<size_t>(access.len, sizeof access.data));
    if (access.is_write)
        surroundings_.memory_bus->write(access.phys_addr, data);
    else
        surroundings_.memory_bus->read(access.phys_addr, data);
}

void Vcpu::handle_port() {
    auto& access = run_->io; // KVM puts the data inside the shared pages, whatever the guest does
    auto* data = reinterpret_cast<std::byte*>(run_) + access.data_offset;
    for (uint32_t i = 0; i < access.count; ++i, data += access.size) {
        if (access.direction == KVM_EXIT_IO_OUT)
            surroundings_.port_bus->write(access.port, {data, access.size});
        else
            surroundings_.port_bus->read(access.port, {data, access.size});
    }
}

} // namespace nullbox::cage
