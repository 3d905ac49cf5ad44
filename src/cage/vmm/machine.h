// A whole VM: memory, kernel, interrupt chip, devices, vCPUs. Built from descriptors, then run by its vCPU
// threads and the device thread's loop. There is no PCI, no ACPI and no firmware: devices are announced on
// the kernel's command line, CPUs in the MP table.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/loop.h"
#include "cage/vmm/balloon.h"
#include "cage/vmm/console.h"
#include "cage/vmm/guest_memory.h"
#include "cage/vmm/net.h"
#include "cage/vmm/rate_limit.h"
#include "cage/vmm/vcpu.h"
#include "cage/vmm/virtio_mmio.h"
#include "cage/vmm/vm_end.h"
#include "cage/vmm/vsock.h"
#include "cage/vmm_channel.h"

namespace nullbox::cage {

struct MachineOptions {
    uint32_t vcpus = 1;
    uint64_t memory_bytes = 0;
    uint64_t guest_cid = 3;
    std::string_view command_line; // appended to the monitor's own
    bool kernel_log = false;       // the guest kernel's messages to stderr
    RateLimit::Rates disk_rates;   // of all disks together
    VsockDevice::GuestConnect on_guest_connect;
};
struct Disk {
    Fd file;
    bool writable = false, scratch = false;
};
struct SharedFolder {
    Fd folder;
    Share what;
};
struct NetCard {
    Fd tap;
    NetDevice::Options options;
};
struct MachineFiles {
    Fd kvm, kernel, initramfs;
    std::vector<Disk> disks;
    std::optional<NetCard> net;
    std::vector<SharedFolder> shares;
};

class Machine {
public:
    // loop outlives the machine. Nothing runs yet.
    static Result<std::unique_ptr<Machine>> build(Loop& loop, MachineFiles files, MachineOptions options);
    Machine(const Machine&) = delete;

    // Starts the vCPU threads, each under the filter (null: none). They end with the process.
    Result<> start(const sandbox::SyscallFilter* vcpu_filter);
    // The guest gives so many pages of 4 KiB back, as far as it can, or takes the rest of them again.
    void set_balloon_target(uint32_t pages);
    void connect_guest(uint32_t port, Fd socket) { vsock_->connect_guest(port, std::move(socket)); }

    // Brings every vCPU out of the guest; paused is called once, from the loop, when all stand still. Devices
    // go on: what comes from outside waits in the rings. Time goes on too (docs/decisions/0050).
    void pause(std::function<void()> paused);
    void resume();

    // Readable when the VM has ended.
    int end_fd() const { return end_.wake_fd(); }
    // Serves what the guest had sent before it ended, then says why it ended.
    EndedMessage finish();

private:
    struct Slot { // one device: its transport and how it is notified and interrupts
        std::unique_ptr<VirtioMmio> transport;
        Fd notified, interrupt;
        Watch watch;
    };
    Machine(Loop& loop, GuestMemory memory, VmEndReport end)
        : loop_(loop), memory_(std::move(memory)), end_(std::move(end)) {}
    Result<> make_vm(int kvm);
    Result<> map_memory();
    Result<> map_register_pages(size_t devices);
    Result<> add_devices(MachineFiles& files, MachineOptions& options);
    Result<> add_disks(std::vector<Disk> disks, const RateLimit::Rates& rates);
    Result<> add_shares(std::vector<SharedFolder> shares);
    void add_ports(bool early_console);
    Result<> add_device(std::unique_ptr<VirtioDevice> device);
    Result<> add_memory_slot(uint64_t guest_start, std::span<std::byte> host, bool read_only);
    Result<> make_vcpus(int kvm, uint32_t count);
    Result<> boot(const MachineFiles& files, const MachineOptions& options);
    void on_all_wait();
    void console_line(std::string_view line, bool show);

    Loop& loop_;
    GuestMemory memory_;
    VmEndReport end_;
    Fd vm_;
    uint32_t memory_slots_ = 0;
    std::span<std::byte> register_pages_; // one for each device, mapped read-only in the guest
    std::vector<std::unique_ptr<IoHandler>> ports_;
    IoBus memory_bus_, port_bus_;
    VsockDevice* vsock_ = nullptr;
    const NetDevice* net_ = nullptr; // null: the guest has none
    BalloonDevice* balloon_ = nullptr;
    VirtioMmio* balloon_transport_ = nullptr;
    std::optional<RateLimit> disk_limit_; // before slots_: the disks look at it
    Fd acknowledged_;                     // where all devices' acknowledgements of interrupts end
    std::vector<Slot> slots_;
    std::vector<Vcpu> vcpus_;
    std::unique_ptr<VcpuGate> gate_;
    Watch gate_watch_;
    std::function<void()> paused_; // empty: nobody waits for a pause
    std::string command_line_;
    // Guest-controlled: its last line on the console, and the one in which its kernel gave up.
    std::string last_words_, panic_;
};

} // namespace nullbox::cage
