// What a virtio device is to the transport. Everything here runs on the device thread, except the constants,
// and never while another call into the same device runs. A device makes its state from nothing in reset(),
// and reports what only a broken or hostile driver would send through its queue's set_fault().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "cage/vmm/virtqueue.h"

namespace nullbox::cage {

constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;
constexpr uint64_t kFeatureEventIndex = uint64_t{1} << 29;

// Requests served from one queue before other devices get their turn.
constexpr unsigned kRequestsPerTurn = 64;

// Serves what the driver queued, with serve(Chain): true if it stopped at its turn's end with more to do.
// Every round counts, so a driver that moves its index to and fro gets no more than its turn.
template <typename Serve>
bool serve_queue(Virtqueue& queue, const Serve& serve) {
    for (unsigned round = 0; round < kRequestsPerTurn; ++round) {
        if (auto chain = queue.pop())
            serve(*std::move(chain));
        else if (!queue.enable_notifications())
            return false;
    }
    return true;
}

class VirtioDevice {
public:
    virtual ~VirtioDevice() = default;
    virtual std::string_view name() const = 0;
    virtual uint32_t id() const = 0;                // virtio 1.2, section 5
    virtual uint64_t features() const { return 0; } // its own bits; the transport adds the common ones
    virtual size_t queue_count() const = 0;
    // Constant once the VM runs, but for what VirtioMmio::change_config and write_config change.
    virtual std::span<const std::byte> config() const { return {}; }
    // The driver writes a field of 32 bits; false: there is none to be written at that offset. The one call
    // that comes on a vCPU's thread.
    virtual bool write_config(uint32_t /*offset*/, uint32_t /*value*/) { return false; }

    // The driver is ready, or has notified, or the device asked to be called (wake). Serves its queues; true
    // if it stopped at kRequestsPerTurn with more to do.
    virtual bool process(std::span<Virtqueue> queues) = 0;
    // Before the first process() after a reset: what the driver took of the features offered.
    virtual void start(uint64_t /*features*/) {}
    virtual void reset() {}

    // Set by the transport: has process() called again, with its locking and interrupts.
    std::function<void()> wake = [] {};
};

} // namespace nullbox::cage
