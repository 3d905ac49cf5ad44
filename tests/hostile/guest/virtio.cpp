#include "virtio.h"

namespace hostile {

void Queue::make(uint64_t device, uint32_t number) {
    device_ = device, number_ = number;
    descriptors = address_of(allocate(4096)), available = address_of(allocate(4096)),
    used_ring = address_of(allocate(4096));
    index = next_ = taken_ = 0;
}
void Queue::put(uint16_t at, uint64_t address, uint32_t length, uint16_t flags, uint16_t next) {
    uint64_t place = descriptors + at * 16u;
    store(place, address), store(place + 8, length), store(place + 12, flags), store(place + 14, next);
}
void Queue::set_index(uint16_t to) {
    index = to;
    fence();
    store(available + 2, to);
    fence();
}
void Queue::offer(uint16_t head) {
    store(available + 4 + (index % kSize) * 2u, head);
    set_index(static_cast<uint16_t>(index + 1));
}
uint16_t Queue::add(const Buffer* buffers, unsigned count) {
    uint16_t head = next_;
    for (unsigned i = 0; i < count; ++i) {
        auto next = static_cast<uint16_t>((next_ + 1) % kSize);
        put(next_, address_of(buffers[i].place), buffers[i].length,
            static_cast<uint16_t>(buffers[i].flags | (i + 1 < count ? kNext : 0)), next);
        next_ = next;
    }
    offer(head);
    return head;
}
uint16_t Queue::used() const { return load<uint16_t>(used_ring + 2); }

bool Queue::wait(uint32_t* written, uint32_t* head) {
    for (unsigned long round = 0; used() == taken_; ++round) {
        if (round > 400'000'000) return false;
        pause();
    }
    fence();
    uint64_t element = used_ring + 4 + (taken_++ % kSize) * 8u;
    if (head) *head = load<uint32_t>(element);
    if (written) *written = load<uint32_t>(element + 4);
    return true;
}

void Device::negotiate() const {
    write(0x70, 0), write(0x70, 1), write(0x70, 3);
    for (uint32_t half = 0; half < 2; ++half) {
        write(0x14, half), write(0x24, half);
        write(0x20, half ? 1 : 0); // VERSION_1 and nothing else
    }
    write(0x70, 0xb);
}
void Device::place(uint32_t number, uint64_t descriptors, uint64_t available, uint64_t used,
                   uint32_t size) const {
    write(0x30, number), write(0x38, size);
    const uint64_t addresses[] = {descriptors, available, used};
    const uint32_t offsets[] = {0x80, 0x90, 0xa0};
    for (int i = 0; i < 3; ++i) {
        write(offsets[i], static_cast<uint32_t>(addresses[i]));
        write(offsets[i] + 4, static_cast<uint32_t>(addresses[i] >> 32));
    }
    write(0x44, 1);
}
bool Device::start() {
    if (!registers) return false;
    negotiate();
    for (uint32_t i = 0; i < queues; ++i) {
        queue[i].make(registers, i);
        place(i, queue[i].descriptors, queue[i].available, queue[i].used_ring, Queue::kSize);
    }
    write(0x70, 0xf);
    return read(0x70) == 0xf;
}

unsigned devices() {
    unsigned count = 0;
    while (count < 19 && load32(kDevices + count * kDevicePage) == 0x7472'6976) ++count;
    return count;
}
Device find(uint32_t id, unsigned n) {
    Device device;
    for (unsigned i = 0; i < devices(); ++i) {
        uint64_t registers = kDevices + i * kDevicePage;
        if (load32(registers + 8) != id || n-- != 0) continue;
        device.registers = registers;
        device.queues = id == kBlock || id == kRng ? 1 : id == kVsock ? 3 : 2;
        return device;
    }
    return device;
}

} // namespace hostile
