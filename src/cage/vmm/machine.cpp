#include "cage/vmm/machine.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "cage/vmm/block.h"
#include "cage/vmm/fs.h"
#include "cage/vmm/kvm.h"
#include "cage/vmm/loader.h"
#include "cage/vmm/mptable.h"
#include "cage/vmm/ports.h"
#include "cage/vmm/rng.h"

namespace nullbox::cage {

namespace {
constexpr uint64_t kDevicesStart = 0xd000'0000; // in the hole below 4 GiB
constexpr uint32_t kFirstLine = 5;              // IO-APIC lines below belong to a PC's own devices
constexpr size_t kStandingDevices = 4;          // vsock, console, rng, balloon
constexpr size_t kMostDevices = kMaxBlockDevices + kStandingDevices + 1 + kMaxShares;
constexpr uint64_t kTssAddress = 0xfffb'd000; // three pages that KVM wants on Intel, above all devices
static_assert(kDevicesStart + kMostDevices * kRegisterPageBytes <= kIoApicAddress);

// The IO-APIC has fewer lines than a guest may have devices, so the last devices share the lines of the
// first. Each pulse of an edge-triggered line has the guest call the handlers of all who share it, and a
// handler looks at its rings whoever raised the line: no pulse is lost, and a handler too many finds nothing
// to do.
constexpr uint32_t line_of(size_t device) {
    constexpr size_t kLines = kIoApicLines - kFirstLine;
    return kFirstLine + static_cast<uint32_t>(device % kLines);
}
static_assert(kMostDevices <= 2 * (kIoApicLines - kFirstLine), "three on a line");

// kernel/README.md has the reason of each word.
constexpr std::string_view kCommandLine =
    "console=hvc0 quiet reboot=t panic=-1 tsc=reliable cryptomgr.notests no_timer_check noreplace-smp";
constexpr std::string_view kLogCommandLine = "console=hvc0 earlyprintk=ttyS0 reboot=t panic=-1 tsc=reliable "
                                             "cryptomgr.notests no_timer_check noreplace-smp";

Result<Fd> make_eventfd() {
    Fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) return errno_error("make eventfd");
    return fd;
}

void signal(int eventfd) {
    uint64_t one = 1;
    (void)!::write(eventfd, &one, sizeof one);
}

void clear(int eventfd) {
    uint64_t count = 0;
    (void)!::read(eventfd, &count, sizeof count);
}
} // namespace

Result<std::unique_ptr<Machine>> Machine::build(Loop& loop, MachineFiles files, MachineOptions options) {
    if (options.vcpus < 1 || options.vcpus > kMostVcpus)
        return error(cat(options.vcpus, " vCPUs: 1 to ", kMostVcpus, " are possible"));
    auto memory = TRY(GuestMemory::make(options.memory_bytes));
    std::unique_ptr<Machine> machine(new Machine(loop, std::move(memory), TRY(VmEndReport::make())));
    TRY(machine->make_vm(files.kvm.get()));
    TRY(machine->map_memory());
    machine->command_line_ = options.kernel_log ? kLogCommandLine : kCommandLine;
    TRY(machine->add_devices(files, options));
    TRY(machine->boot(files, options));
    return machine;
}

Result<> Machine::make_vm(int kvm) {
    int version = TRY(kvm_call(kvm, KVM_GET_API_VERSION, "ask for KVM's version (is this /dev/kvm?)"));
    if (version != KVM_API_VERSION)
        return error(cat("KVM speaks version ", version, " of its interface, not 12"));
    auto vm = kvm_call(kvm, KVM_CREATE_VM,
                       "make a VM (on a machine that is itself virtual: switch nested virtualisation on)");
    vm_ = Fd(TRY(std::move(vm)));
    TRY(kvm_call(vm_.get(), KVM_SET_TSS_ADDR, "set KVM's task state address", kTssAddress));
    TRY(kvm_call(vm_.get(), KVM_CREATE_IRQCHIP, "make the interrupt controllers"));
    // 0: the TSC rate that the host knows now. KVM's own default is from its start; where the kernel has
    // refined the rate since, by more than 250 ppm, and the processor cannot scale, KVM keeps a broken TSC
    // for the vCPUs
    // ("user requested TSC rate below hardware speed") and no timer of theirs ever fires. KVM without this
    // call (before 5.18) is no error.
    (void)kvm_call(vm_.get(), KVM_SET_TSC_KHZ, "set the TSC rate");
    return {};
}

Result<> Machine::add_memory_slot(uint64_t guest_start, std::span<std::byte> host, bool read_only) {
    kvm_userspace_memory_region region{.slot = memory_slots_++,
                                       .flags = read_only ? uint32_t{KVM_MEM_READONLY} : 0,
                                       .guest_phys_addr = guest_start,
                                       .memory_size = host.size(),
                                       .userspace_addr = reinterpret_cast<uintptr_t>(host.data())};
    TRY(kvm_call(vm_.get(), KVM_SET_USER_MEMORY_REGION, "give memory to the guest", &region));
    return {};
}

Result<> Machine::map_memory() {
    for (const MemoryRegion& region : memory_.regions())
        TRY(add_memory_slot(region.guest_start, region.host, false));
    return {};
}

Result<> Machine::map_register_pages(size_t devices) {
    size_t bytes = devices * kRegisterPageBytes;
    void* pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return errno_error("map the devices' registers");
    register_pages_ = {static_cast<std::byte*>(pages), bytes};
    return add_memory_slot(kDevicesStart, register_pages_, true);
}

// The order is the one of the lines that the guest sees, and of its disks.
Result<> Machine::add_devices(MachineFiles& files, MachineOptions& options) {
    size_t count = files.disks.size() + kStandingDevices + (files.net ? 1 : 0) + files.shares.size();
    CHECK(count <= kMostDevices);
    TRY(map_register_pages(count));
    slots_.reserve(count);
    acknowledged_ = TRY(make_eventfd());
    TRY(add_disks(std::move(files.disks), options.disk_rates));
    auto vsock = std::make_unique<VsockDevice>(loop_, options.guest_cid, std::move(options.on_guest_connect));
    vsock_ = vsock.get();
    TRY(add_device(std::move(vsock)));
    bool show = options.kernel_log;
    TRY(add_device(
        std::make_unique<ConsoleDevice>([this, show](std::string_view line) { console_line(line, show); })));
    TRY(add_device(std::make_unique<RngDevice>()));
    auto balloon = std::make_unique<BalloonDevice>(memory_);
    balloon_ = balloon.get();
    TRY(add_device(std::move(balloon)));
    balloon_transport_ = slots_.back().transport.get();
    if (files.net) {
        auto net = TRY(NetDevice::make(loop_, std::move(files.net->tap), files.net->options));
        net_ = net.get();
        TRY(add_device(std::move(net)));
    }
    TRY(add_shares(std::move(files.shares)));
    add_ports(show);
    return {};
}

Result<> Machine::add_disks(std::vector<Disk> disks, const RateLimit::Rates& rates) {
    if (rates.bytes_per_s != 0 || rates.operations_per_s != 0) disk_limit_.emplace(rates);
    for (size_t i = 0; i < disks.size(); ++i) {
        BlockDevice::Options block{.writable = disks[i].writable,
                                   .scratch = disks[i].scratch,
                                   .limit = disk_limit_ ? &*disk_limit_ : nullptr,
                                   .call_at = [this](Clock::time_point when, std::function<void()> call) {
                                       return loop_.at(when, std::move(call));
                                   }};
        std::ranges::copy(cat("nullbox-", i), block.serial.begin());
        auto device =
            TRY(BlockDevice::make(std::move(disks[i].file), std::move(block)).context(cat("disk ", i)));
        TRY(add_device(std::move(device)));
    }
    return {};
}

Result<> Machine::add_shares(std::vector<SharedFolder> shares) {
    for (auto& [folder, what] : shares) {
        std::string_view tag(what.tag, ::strnlen(what.tag, sizeof what.tag));
        auto device = TRY(FsDevice::make(
            std::move(folder),
            {.tag = tag,
             .view = {.uid = what.guest_uid, .gid = what.guest_gid, .writable = what.read_only == 0},
             .limits = {.most_bytes = what.most_bytes, .most_files = what.most_files},
             .most_table_bytes = kSharesOverheadBytes / shares.size()}));
        TRY(add_device(std::move(device)));
    }
    return {};
}

void Machine::add_ports(bool early_console) {
    ports_.push_back(std::make_unique<ResetPort>(end_));
    port_bus_.add({.start = ResetPort::kPort, .length = 1, .handler = ports_.back().get()});
    if (!early_console) return;
    ports_.push_back(std::make_unique<EarlyConsole>());
    port_bus_.add({.start = EarlyConsole::kPort, .length = 8, .handler = ports_.back().get()});
}

Result<> Machine::add_device(std::unique_ptr<VirtioDevice> device) {
    size_t index = slots_.size();
    uint64_t start = kDevicesStart + index * kRegisterPageBytes;
    uint32_t line = line_of(index);
    Slot& slot = slots_.emplace_back();
    slot.notified = TRY(make_eventfd());
    slot.interrupt = TRY(make_eventfd());
    int notified = slot.notified.get(), interrupt = slot.interrupt.get();
    slot.transport = std::make_unique<VirtioMmio>(
        std::move(device), memory_,
        register_pages_.subspan(index * kRegisterPageBytes).first<kRegisterPageBytes>(),
        VirtioMmio::Hooks{.raise_interrupt = [interrupt] { signal(interrupt); },
                          .notify = [notified] { signal(notified); },
                          .fault =
                              [this](std::string_view name, const char* what) {
                                  std::array<char, 64> text{};
                                  auto end = std::ranges::copy(name.substr(0, 48), text.begin()).out;
                                  std::ranges::copy(std::string_view(" device: "), end);
                                  end_.report(VmEnd::GuestFault, text.data(), what);
                              }});
    memory_bus_.add({.start = start, .length = kRegisterPageBytes, .handler = slot.transport.get()});
    kvm_ioeventfd doorbell{.addr = start + kQueueNotifyRegister, .len = 4, .fd = notified};
    TRY(kvm_call(vm_.get(), KVM_IOEVENTFD, "connect a device's doorbell", &doorbell));
    // KVM takes what means nothing to us, and the vCPU goes on in the guest; nobody reads that descriptor.
    kvm_ioeventfd acknowledged{.datamatch = kUsedBufferInterrupt,
                               .addr = start + kInterruptAckRegister,
                               .len = 4,
                               .fd = acknowledged_.get(),
                               .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};
    TRY(kvm_call(vm_.get(), KVM_IOEVENTFD, "connect a device's acknowledgement", &acknowledged));
    kvm_irqfd wire{.fd = static_cast<uint32_t>(interrupt), .gsi = line};
    TRY(kvm_call(vm_.get(), KVM_IRQFD, "connect a device's interrupt", &wire));
    slot.watch = TRY(loop_.watch(notified, EPOLLIN, [transport = slot.transport.get(), notified](uint32_t) {
        clear(notified);
        transport->process();
    }));
    command_line_ += cat(" virtio_mmio.device=4K@", hex(start), ":", line);
    return {};
}

Result<> Machine::make_vcpus(int kvm, uint32_t count) {
    vcpus_.reserve(count); // a running vCPU must not move
    for (uint32_t i = 0; i < count; ++i)
        vcpus_.push_back(TRY(Vcpu::make(kvm, vm_.get(), {.index = i, .count = count})));
    return {};
}

Result<> Machine::boot(const MachineFiles& files, const MachineOptions& options) {
    auto kernel = TRY(load_kernel(memory_, files.kernel.get()));
    if (!options.command_line.empty()) command_line_ += cat(" ", options.command_line);
    TRY(prepare_boot(memory_,
                     {.kernel = kernel, .initramfs = files.initramfs.get(), .command_line = command_line_}));
    TRY(write_mp_table(memory_, options.vcpus));
    TRY(make_vcpus(files.kvm.get(), options.vcpus));
    gate_ = TRY(VcpuGate::make(options.vcpus));
    gate_watch_ = TRY(loop_.watch(gate_->all_wait_fd(), EPOLLIN, [this](uint32_t) { on_all_wait(); }));
    TRY(Vcpu::prepare_kicks());
    return vcpus_.front().set_boot_registers(kernel.entry);
}

Result<> Machine::start(const sandbox::SyscallFilter* vcpu_filter) {
    Vcpu::Surroundings surroundings{.memory_bus = &memory_bus_,
                                    .port_bus = &port_bus_,
                                    .end = &end_,
                                    .gate = gate_.get(),
                                    .filter = vcpu_filter};
    for (Vcpu& vcpu : vcpus_) TRY(vcpu.start(surroundings));
    return {};
}

void Machine::pause(std::function<void()> paused) {
    paused_ = std::move(paused);
    gate_->close();
    for (Vcpu& vcpu : vcpus_) vcpu.kick();
}

void Machine::on_all_wait() {
    clear(gate_->all_wait_fd());
    if (!gate_->all_wait()) return;
    for (Vcpu& vcpu : vcpus_) vcpu.tell_clock_of_pause();
    if (auto paused = std::exchange(paused_, nullptr)) paused();
}

void Machine::resume() {
    paused_ = nullptr;
    gate_->open();
}

void Machine::set_balloon_target(uint32_t pages) {
    balloon_transport_->change_config([&] { balloon_->set_target(pages); });
}

void Machine::console_line(std::string_view line, bool show) {
    last_words_ = printable(line, 160);
    if (line.contains("Kernel panic") && panic_.empty()) panic_ = last_words_;
    if (show) log_info(cat("guest: ", printable(line, ConsoleDevice::kMostLineBytes)));
}

EndedMessage Machine::finish() {
    for (Slot& slot : slots_) slot.transport->process();
    if (net_ && net_->counters().send_dropped > 0)
        log_warning(cat("network card: ", net_->counters().send_dropped,
                        " frames of the guest's were dropped: not from its address, or no sense in them"));
    EndedMessage message = end_.message();
    if (message.reason != VmEnd::Shutdown || last_words_.empty()) return message;
    // A kernel that panics resets the machine like one that reboots; only its words tell them apart.
    if (!panic_.empty()) message.reason = VmEnd::GuestPanic;
    std::string text = panic_.empty() ? cat(message.text, "; its last words: ", last_words_)
                                      : cat("the guest's kernel gave up: ", panic_);
    text.resize(std::min(text.size(), sizeof message.text - 1));
    std::ranges::fill(message.text, '\0');
    std::ranges::copy(text, message.text);
    return message;
}

} // namespace nullbox::cage
