// virtio-console, one port, guest to host only (virtio 1.2, section 5.3): the guest kernel's log. Lines go to
// a sink, cut at a bound; the last of them are kept, to say why a guest ended.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <string_view>

#include "cage/vmm/virtio_device.h"

namespace nullbox::cage {

class ConsoleDevice final : public VirtioDevice {
public:
    // line: guest-controlled bytes with no newline, at most kMostLineBytes.
    using Sink = std::function<void(std::string_view line)>;
    static constexpr size_t kMostLineBytes = 512;

    explicit ConsoleDevice(Sink sink) : sink_(std::move(sink)) {}
    std::string_view name() const override { return "console"; }
    uint32_t id() const override { return 3; }
    size_t queue_count() const override { return 2; } // 0 to the guest (never used), 1 from the guest
    bool process(std::span<Virtqueue> queues) override;
    std::span<const std::byte> config() const override { return config_; }

    // A byte of the log from elsewhere (the early console's port).
    void put(char byte);

private:
    Sink sink_;
    std::string line_;
    std::array<std::byte, 12> config_{}; // no size, no multiport, no emergency write
};

} // namespace nullbox::cage
