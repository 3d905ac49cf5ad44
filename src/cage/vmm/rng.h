// virtio-rng (virtio 1.2, section 5.4): fills buffers from the kernel's generator.
#pragma once

#include "cage/vmm/virtio_device.h"

namespace nullbox::cage {

class RngDevice final : public VirtioDevice {
public:
    std::string_view name() const override { return "rng"; }
    uint32_t id() const override { return 4; }
    size_t queue_count() const override { return 1; }
    bool process(std::span<Virtqueue> queues) override;
};

} // namespace nullbox::cage
