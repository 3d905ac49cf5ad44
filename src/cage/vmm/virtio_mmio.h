// The virtio-mmio transport, version 2 (virtio 1.2, section 4.2): registers, device status, queues,
// interrupts.
//
// Reads cost no exit: the registers lie in a page that the guest has mapped read-only, and that we keep up to
// date (render). Only writes come here. InterruptStatus bit 0 stays set while the driver is there, and
// InterruptACK of it goes unheard: with edge-triggered lines a driver looks at its rings in any case. So
// whoever owns the address may take those writes before they come here (machine.cpp), which are one for each
// interrupt. Bit 1 (the configuration has changed) comes and goes as the specification says.
//
// Register writes come from vCPU threads, process() from the device thread; lock_ is held in both, so that a
// device is never reset under a request. A vCPU that writes a register may thus wait for a request to end.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cage/vmm/io_bus.h"
#include "cage/vmm/virtio_device.h"

namespace nullbox::cage {

constexpr size_t kRegisterPageBytes = 4096;
constexpr uint64_t kQueueNotifyRegister = 0x50;
constexpr uint64_t kInterruptAckRegister = 0x64;
constexpr uint32_t kUsedBufferInterrupt = 1; // bit 0

struct TransportState { // everything a snapshot needs beside the queues
    uint32_t status = 0;
    uint32_t device_features_select = 0; // guest-controlled, as are the next two
    uint32_t driver_features_select = 0;
    uint32_t queue_select = 0;
    uint64_t driver_features = 0; // a subset of what was offered once FEATURES_OK is set
    uint32_t interrupts = 0;
};

class VirtioMmio final : public IoHandler {
public:
    struct Hooks {
        std::function<void()> raise_interrupt; // from the device thread, or a vCPU's at a fault
        std::function<void()> notify;          // have process() called on the device thread; from any thread
        // The driver did what no driver does. The device has stopped (DEVICE_NEEDS_RESET); the VM should too.
        std::function<void(std::string_view device, const char* what)> fault;
    };
    // page: what the guest reads; it and the memory outlive the transport.
    VirtioMmio(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory,
               std::span<std::byte, kRegisterPageBytes> page, Hooks hooks);

    std::string_view name() const override { return device_->name(); }
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;

    // Device thread: serves the queues, interrupts the driver if it wants that.
    void process();

    // Device thread: change() makes the device's config() another; the driver is told.
    void change_config(const std::function<void()>& change);

    VirtioDevice& device() { return *device_; }
    const TransportState& state() const { return state_; }
    std::span<Virtqueue> queues() { return queues_; }

private:
    void write_register(uint32_t offset, uint32_t value);
    void write_queue(uint32_t offset, uint32_t value);
    void write_status(uint32_t value);
    void reset();
    void check_fault();
    void render();
    void render_config();
    void put(uint32_t offset, uint32_t value);
    uint64_t offered() const { return device_->features() | kFeatureVersion1 | kFeatureEventIndex; }

    std::unique_ptr<VirtioDevice> device_;
    std::span<std::byte, kRegisterPageBytes> page_;
    Hooks hooks_;
    std::mutex lock_; // all below, and the device while it processes
    TransportState state_;
    bool device_reset_due_ = false, device_start_due_ = false;
    uint32_t config_generation_ = 0;
    std::vector<Virtqueue> queues_;
};

} // namespace nullbox::cage
