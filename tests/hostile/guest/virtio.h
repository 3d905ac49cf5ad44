// A driver that does as it is told: queues at any address, descriptors with any content.
#pragma once

#include "machine.h"

namespace hostile {

enum DeviceId : uint32_t { kNet = 1, kBlock = 2, kConsole = 3, kRng = 4, kVsock = 19, kFs = 26 };
constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4;

struct Buffer {
    const void* place;
    uint32_t length;
    uint16_t flags = 0;
};

class Queue {
public:
    static constexpr uint16_t kSize = 32;
    void make(uint64_t device, uint32_t number);
    void put(uint16_t index, uint64_t address, uint32_t length, uint16_t flags, uint16_t next);
    void offer(uint16_t head);
    void set_index(uint16_t index);
    void kick() const { store32(device_ + 0x50, number_); }
    uint16_t add(const Buffer* buffers, unsigned count);
    uint16_t used() const;
    // Waits for the next answer: false after a while.
    bool wait(uint32_t* written = nullptr, uint32_t* head = nullptr);
    uint64_t descriptors, available, used_ring;
    uint16_t index = 0;

private:
    uint64_t device_ = 0;
    uint32_t number_ = 0;
    uint16_t next_ = 0, taken_ = 0;
};

struct Device {
    uint64_t registers = 0; // 0: there is none
    uint32_t queues = 0;
    Queue queue[3];

    void write(uint32_t offset, uint32_t value) const { store32(registers + offset, value); }
    uint32_t read(uint32_t offset) const { return load32(registers + offset); }
    void negotiate() const;
    void place(uint32_t number, uint64_t descriptors, uint64_t available, uint64_t used, uint32_t size) const;
    bool start(); // the whole of it
};

// The n-th device of its kind.
Device find(uint32_t id, unsigned n = 0);
unsigned devices();

} // namespace hostile
