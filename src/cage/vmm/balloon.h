// virtio-balloon (virtio 1.2, section 5.5): pages that the guest does not need go back to the host. Two ways:
// the guest's kernel reports what it has free, unasked, in blocks of 2 MiB (free page reporting), and it
// gives up as many pages as the target asks for (inflate). A page given back is gone: at the next touch the
// guest finds zeros, or for a page of the kernel's or initramfs's file what the file has there.
//
// All guest memory is private to the VM process, so MADV_DONTNEED is what frees it, and nobody else's page
// can be meant: whatever a guest names is its own RAM or a fault. A guest that lies about what is free only
// loses its own data.
#pragma once

#include <array>

#include "cage/vmm/virtio_device.h"

namespace nullbox::cage {

class BalloonDevice final : public VirtioDevice {
public:
    static constexpr size_t kMostPagesAtOnce = 1024; // of one inflate request; Linux sends 256

    // memory: the guest's, which the pages are looked up in; it outlives this.
    explicit BalloonDevice(const GuestMemory& memory) : memory_(memory) {}

    std::string_view name() const override { return "balloon"; }
    uint32_t id() const override { return 5; }
    uint64_t features() const override;
    // Inflate, deflate, reporting. Without statistics and hints the driver numbers reporting third.
    size_t queue_count() const override { return 3; }
    std::span<const std::byte> config() const override { return std::as_bytes(std::span(config_)); }
    bool write_config(uint32_t offset, uint32_t value) override;
    bool process(std::span<Virtqueue> queues) override;

    // How many pages of 4 KiB the guest should give up; its kernel does so as far as it can, and takes them
    // back by itself before it kills a process for memory. Only through VirtioMmio::change_config.
    void set_target(uint32_t pages) { config_[kTarget] = pages; }
    uint32_t actual() const { return config_[kActual]; } // guest-controlled: what it says it has given up

private:
    enum Field : uint8_t { kTarget = 0, kActual = 1 };
    void inflate(Virtqueue& queue, Chain chain);

    const GuestMemory& memory_;
    std::array<uint32_t, 2> config_{};
};

} // namespace nullbox::cage
