#include "cage/vmm/virtio_mmio.h"

#include <algorithm>

#include "base/check.h"

namespace nullbox::cage {

namespace {
enum Register : uint32_t { // virtio 1.2, section 4.2.2
    kMagic = 0x00,
    kVersion = 0x04,
    kDeviceId = 0x08,
    kVendorId = 0x0c,
    kDeviceFeatures = 0x10,
    kDeviceFeaturesSelect = 0x14,
    kDriverFeatures = 0x20,
    kDriverFeaturesSelect = 0x24,
    kQueueSelect = 0x30,
    kQueueSizeMost = 0x34,
    kQueueSize = 0x38,
    kQueueReady = 0x44,
    kInterruptStatus = 0x60,
    kInterruptAck = kInterruptAckRegister,
    kStatus = 0x70,
    kQueueDescriptorsLow = 0x80,
    kQueueDescriptorsHigh = 0x84,
    kQueueAvailableLow = 0x90,
    kQueueAvailableHigh = 0x94,
    kQueueUsedLow = 0xa0,
    kQueueUsedHigh = 0xa4,
    kSharedMemoryLengthLow = 0xb0,
    kSharedMemoryLengthHigh = 0xb4,
    kConfigGeneration = 0xfc,
    kConfig = 0x100,
};
enum StatusBit : uint32_t { // virtio 1.2, section 2.1
    kAcknowledge = 1,
    kDriver = 2,
    kDriverOk = 4,
    kFeaturesOk = 8,
    kNeedsReset = 64,
    kFailed = 128,
};
enum InterruptBit : uint32_t { kUsedBuffer = kUsedBufferInterrupt, kConfigChange = 2 };
constexpr uint32_t kMagicValue = 0x74726976; // "virt"
constexpr uint32_t kVendor = 0x4c4c554e;     // "NULL"

void set_low(uint64_t& field, uint32_t value) { field = (field & ~uint64_t{0xffff'ffff}) | value; }
void set_high(uint64_t& field, uint32_t value) { field = (field & 0xffff'ffff) | uint64_t{value} << 32; }
} // namespace

VirtioMmio::VirtioMmio(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory,
                       std::span<std::byte, kRegisterPageBytes> page, Hooks hooks)
    : device_(std::move(device)), page_(page), hooks_(std::move(hooks)) {
    for (size_t i = 0; i < device_->queue_count(); ++i) queues_.emplace_back(memory);
    device_->wake = [this] { process(); };
    put(kMagic, kMagicValue);
    put(kVersion, 2);
    put(kDeviceId, device_->id());
    put(kVendorId, kVendor);
    put(kSharedMemoryLengthLow, UINT32_MAX); // no shared memory region, whichever is selected
    put(kSharedMemoryLengthHigh, UINT32_MAX);
    CHECK(kConfig + device_->config().size() <= kRegisterPageBytes);
    render_config();
    render();
}

void VirtioMmio::render_config() { std::ranges::copy(device_->config(), page_.begin() + kConfig); }

void VirtioMmio::put(uint32_t offset, uint32_t value) {
    __atomic_store_n(reinterpret_cast<uint32_t*>(page_.data() + offset), value, __ATOMIC_RELEASE);
}

// The registers whose value depends on what was written.
void VirtioMmio::render() {
    uint64_t features = offered();
    put(kDeviceFeatures, state_.device_features_select == 0   ? static_cast<uint32_t>(features)
                         : state_.device_features_select == 1 ? static_cast<uint32_t>(features >> 32)
                                                              : 0);
    bool exists = state_.queue_select < queues_.size();
    put(kQueueSizeMost, exists ? kMostQueueSize : 0);
    put(kQueueReady, exists && queues_[state_.queue_select].state().ready);
    put(kInterruptStatus, state_.interrupts);
    put(kStatus, state_.status);
}

void VirtioMmio::read(uint64_t offset, std::span<std::byte> data) {
    if (offset < kRegisterPageBytes && data.size() <= kRegisterPageBytes - offset)
        std::ranges::copy(page_.subspan(offset, data.size()), data.begin());
}

void VirtioMmio::write(uint64_t offset, std::span<const std::byte> data) {
    // Registers are 32 bits wide (4.2.2.2), and so is every field of a device here that may be written.
    if (data.size() != 4 || offset % 4 != 0 || offset >= kRegisterPageBytes) return;
    uint32_t value = 0;
    std::memcpy(&value, data.data(), sizeof value);
    std::lock_guard hold(lock_);
    write_register(static_cast<uint32_t>(offset), value);
    check_fault();
    render();
}

void VirtioMmio::write_register(uint32_t offset, uint32_t value) {
    bool negotiating = (state_.status & kDriver) && !(state_.status & kFeaturesOk);
    switch (offset) {
    case kDeviceFeaturesSelect:
        state_.device_features_select = value;
        break;
    case kDriverFeaturesSelect:
        state_.driver_features_select = value;
        break;
    case kDriverFeatures:
        if (!negotiating) break;
        if (state_.driver_features_select == 0) set_low(state_.driver_features, value);
        if (state_.driver_features_select == 1) set_high(state_.driver_features, value);
        break;
    case kQueueSelect:
        state_.queue_select = value;
        break;
    case kQueueNotifyRegister:
        hooks_.notify();
        break;
    case kInterruptAck:
        state_.interrupts &= ~(value & kConfigChange); // see the header
        break;
    case kStatus:
        write_status(value);
        break;
    default:
        if (offset < kConfig)
            write_queue(offset, value);
        else if (device_->write_config(offset - kConfig, value))
            render_config();
    }
}

void VirtioMmio::write_queue(uint32_t offset, uint32_t value) {
    bool configurable = (state_.status & kFeaturesOk) && !(state_.status & (kDriverOk | kNeedsReset));
    if (!configurable || state_.queue_select >= queues_.size()) return;
    Virtqueue& queue = queues_[state_.queue_select];
    QueueState& state = queue.state();
    if (state.ready) {
        if (offset == kQueueReady && value == 0) queue.reset();
        return;
    }
    switch (offset) {
    // A value that does not fit becomes 0, which start() refuses.
    case kQueueSize:
        state.size = value <= kMostQueueSize ? static_cast<uint16_t>(value) : 0;
        break;
    case kQueueDescriptorsLow:
        set_low(state.descriptors, value);
        break;
    case kQueueDescriptorsHigh:
        set_high(state.descriptors, value);
        break;
    case kQueueAvailableLow:
        set_low(state.available, value);
        break;
    case kQueueAvailableHigh:
        set_high(state.available, value);
        break;
    case kQueueUsedLow:
        set_low(state.used, value);
        break;
    case kQueueUsedHigh:
        set_high(state.used, value);
        break;
    case kQueueReady:
        if (value != 1) break;
        state.event_index = state_.driver_features & kFeatureEventIndex;
        queue.start();
        break;
    default:
        break; // read-only or unknown
    }
}

void VirtioMmio::write_status(uint32_t value) {
    if (value == 0) return reset();
    if ((state_.status & ~value & ~kNeedsReset) || (state_.status & kNeedsReset))
        return; // bits are only added
    uint32_t added = value & ~state_.status & (kAcknowledge | kDriver | kDriverOk | kFeaturesOk | kFailed);
    if (added & kFeaturesOk) {
        bool acceptable = (state_.status & kDriver) && !(state_.driver_features & ~offered()) &&
                          (state_.driver_features & kFeatureVersion1);
        if (!acceptable) added &= ~kFeaturesOk; // the driver reads it back, and gives up
    }
    if ((added & kDriverOk) && !((state_.status | added) & kFeaturesOk)) added &= ~kDriverOk;
    state_.status |= added;
    if (added & kDriverOk) {
        state_.interrupts = kUsedBuffer;
        device_start_due_ = true;
        hooks_.notify();
    }
}

// The queues stop here, on the vCPU's thread, so that nothing of the old driver's memory is touched once it
// reads status 0; the device itself (its sockets, its loop) is reset on its own thread, before anything else
// it does.
void VirtioMmio::reset() {
    state_ = {};
    for (Virtqueue& queue : queues_) queue.reset();
    device_reset_due_ = true;
    device_start_due_ = false;
    hooks_.notify();
}

void VirtioMmio::process() {
    bool more = false, interrupt = false;
    {
        std::lock_guard hold(lock_);
        if (std::exchange(device_reset_due_, false)) device_->reset();
        if (!(state_.status & kDriverOk) || (state_.status & (kNeedsReset | kFailed))) return;
        if (std::exchange(device_start_due_, false)) device_->start(state_.driver_features);
        more = device_->process(queues_);
        for (Virtqueue& queue : queues_) interrupt |= queue.take_interrupt();
        check_fault();
    }
    if (interrupt) hooks_.raise_interrupt();
    if (more) hooks_.notify();
}

void VirtioMmio::change_config(const std::function<void()>& change) {
    {
        std::lock_guard hold(lock_);
        change();
        render_config();
        put(kConfigGeneration, ++config_generation_);
        if (!(state_.status & kDriverOk)) return; // it will read the new one
        state_.interrupts |= kConfigChange;
        render();
    }
    hooks_.raise_interrupt();
}

void VirtioMmio::check_fault() {
    if (state_.status & kNeedsReset) return;
    for (const Virtqueue& queue : queues_) {
        if (!queue.fault()) continue;
        state_.status |= kNeedsReset;
        state_.interrupts |= kConfigChange;
        render();
        hooks_.fault(device_->name(), queue.fault());
        hooks_.raise_interrupt();
        return;
    }
}

} // namespace nullbox::cage
