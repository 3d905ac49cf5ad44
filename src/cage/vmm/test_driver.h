// The driver's side of a virtqueue in a buffer, for tests and fuzz targets: rings, chains, and what came
// back. Nothing here checks what it writes; a test may build any nonsense with it.
#pragma once

#include <memory>
#include <vector>

#include "base/check.h"
#include "cage/vmm/virtqueue.h"

namespace nullbox::cage {

struct TestMemory {
    static constexpr size_t kBytes = 2 << 20;
    struct alignas(4096) Buffer {
        std::byte bytes[kBytes] = {};
    };
    std::unique_ptr<Buffer> buffer = std::make_unique<Buffer>();
    GuestMemory memory = GuestMemory::over(buffer->bytes);
};

struct TestBuffer {
    uint64_t address;
    uint32_t length;
    bool writable = false;
    uint16_t extra_flags = 0;
};

class TestDriver {
public:
    static constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4;

    // Rings from guest address base on, 8 KiB at most; the queue's state is set, not started.
    TestDriver(TestMemory& memory, Virtqueue& queue, uint64_t base, uint16_t size = 16)
        : memory_(memory.memory), base_(base), size_(size) {
        queue.state().size = size;
        queue.state().descriptors = descriptors();
        queue.state().available = available();
        queue.state().used = used();
    }
    uint64_t descriptors() const { return base_; }
    uint64_t available() const { return base_ + 0x1000; }
    uint64_t used() const { return base_ + 0x1800; }

    void put_descriptor(uint16_t index, uint64_t address, uint32_t length, uint16_t flags, uint16_t next) {
        struct {
            uint64_t address;
            uint32_t length;
            uint16_t flags, next;
        } raw{address, length, flags, next};
        CHECK(memory_.write(descriptors() + index * 16u, raw));
    }
    // A chain in fresh descriptors, made available. Its head.
    uint16_t add(const std::vector<TestBuffer>& buffers) {
        uint16_t head = next_descriptor_;
        for (size_t i = 0; i < buffers.size(); ++i) {
            uint16_t index = next_descriptor_, next = (index + 1) % size_;
            auto flags = static_cast<uint16_t>((i + 1 < buffers.size() ? kNext : 0) |
                                               (buffers[i].writable ? kWrite : 0) | buffers[i].extra_flags);
            put_descriptor(index, buffers[i].address, buffers[i].length, flags, next);
            next_descriptor_ = next;
        }
        offer(head);
        return head;
    }
    void offer(uint16_t head) {
        CHECK(memory_.write(available() + 4 + (available_index_ % size_) * 2u, head));
        set_available_index(static_cast<uint16_t>(available_index_ + 1));
    }
    void set_available_index(uint16_t index) {
        available_index_ = index;
        CHECK(memory_.write(available() + 2, index));
    }
    void set_available_flags(uint16_t flags) { CHECK(memory_.write(available(), flags)); }
    void set_used_event(uint16_t index) { CHECK(memory_.write(available() + 4 + size_ * 2u, index)); }
    uint16_t used_event_of_device() const { return *memory_.read<uint16_t>(used() + 4 + size_ * 8u); }

    uint16_t used_index() const { return *memory_.read<uint16_t>(used() + 2); }
    struct Used {
        uint32_t head, written;
    };
    // The next completed request; the caller knows that there is one (used_index).
    Used take_used() { return *memory_.read<Used>(used() + 4 + (taken_++ % size_) * 8u); }
    bool has_used() const { return taken_ != used_index(); }

    template <typename T>
    void put(uint64_t address, const T& value) {
        CHECK(memory_.write(address, value));
    }
    template <typename T>
    T get(uint64_t address) const {
        return *memory_.read<T>(address);
    }

private:
    const GuestMemory& memory_;
    uint64_t base_;
    uint16_t size_;
    uint16_t next_descriptor_ = 0, available_index_ = 0, taken_ = 0;
};

} // namespace nullbox::cage
