// One virtual CPU: its KVM descriptor, its registers at start, and the thread that runs it. The thread
// answers exits through the buses and leaves everything else to the device thread; it ends only with the
// process.
#pragma once

#include <linux/kvm.h>
#include <pthread.h>

#include "cage/vmm/io_bus.h"
#include "cage/vmm/loader.h"
#include "cage/vmm/vcpu_gate.h"
#include "cage/vmm/vm_end.h"
#include "sandbox/seccomp.h"

namespace nullbox::cage {

class Vcpu {
public:
    struct Place {
        uint32_t index = 0, count = 1;
    };
    // What a running vCPU uses; outlives it.
    struct Surroundings {
        const IoBus* memory_bus;
        const IoBus* port_bus;
        VmEndReport* end;
        VcpuGate* gate;
        const sandbox::SyscallFilter* filter; // null: none (tests)
    };
    static Result<Vcpu> make(int kvm, int vm, Place place);
    Vcpu(Vcpu&& other) noexcept;
    ~Vcpu();

    // Long mode at entry with boot_params, as Linux's 64-bit boot protocol has it. The others wait for the
    // guest's INIT and SIPI.
    Result<> set_boot_registers(uint64_t entry);
    // Starts the thread; the vCPU must not move after that.
    Result<> start(const Surroundings& surroundings);

    // For the device thread. Once, before any vCPU starts: what kick() sends has a handler.
    static Result<> prepare_kicks();
    // Brings the vCPU out of the guest, and to the gate if that is closed.
    void kick() noexcept;
    // While it waits at the gate: tells its clock that it stood still, so that the guest's watchdogs
    // (lockups, RCU stalls) do not take the time for a hang. No error: a guest without kvmclock has none to
    // be told.
    void tell_clock_of_pause() noexcept;

private:
    explicit Vcpu(Fd fd) : fd_(std::move(fd)) {}
    static void* thread_main(void* self);
    void run();
    void pass_gate() noexcept;
    void handle_port();
    void handle_memory();

    Fd fd_;
    kvm_run* run_ = nullptr; // shared with KVM; io data and addresses in it are guest-controlled
    size_t run_bytes_ = 0;
    pthread_t thread_{};
    Surroundings surroundings_{};
};

} // namespace nullbox::cage
