#include "link.h"

namespace hostile {

extern "C" void* memcpy(void* target, const void* source, size_t bytes);

#ifndef LINK_VERSION
#error "LINK_VERSION: guest_link::kVersion"
#endif
static_assert(LINK_VERSION == kLinkVersion, "the link's frames have changed: bring this guest's up to date");

bool Link::open() {
    device = find(kVsock);
    if (!device.start()) return false;
    cid_ = device.read(0x100);
    room_ = static_cast<unsigned char*>(allocate(kRoom * 16));
    out_ = static_cast<unsigned char*>(allocate(128 << 10));
    refill();
    send(packet(kRequest));
    if (receive(kPort, 20).operation != kResponse) return false;
    unsigned char hello[10] = {kLinkVersion, 0};
    frame(64, hello, sizeof hello);
    if (receive(kPort, 20).operation != kData) return false; // Start: what it says is not for us
    unsigned char started[8] = {};
    frame(65, started, sizeof started);
    return true;
}

void Link::refill() {
    for (unsigned i = 0; i < 16; ++i) {
        Buffer buffer{room_ + i * kRoom, kRoom, kWrite};
        device.queue[0].add(&buffer, 1);
    }
    device.queue[0].kick();
}

Packet Link::packet(Operation operation, uint32_t source_port, uint32_t destination_port) const {
    return {cid_, 2, source_port, destination_port, 0, 1, operation, 0, 1 << 20, received_};
}

void Link::send(const Packet& packet, const void* payload, uint32_t bytes) {
    memcpy(out_, &packet, sizeof packet);
    if (bytes) memcpy(out_ + 4096, payload, bytes);
    Buffer buffers[] = {{out_, sizeof packet}, {out_ + 4096, bytes}};
    device.queue[1].add(buffers, bytes ? 2 : 1);
    device.queue[1].kick();
    device.queue[1].wait();
}

Packet Link::receive(uint32_t port, unsigned patience) {
    for (unsigned round = 0; round < patience * 64; ++round) {
        uint32_t head = 0, written = 0;
        if (!device.queue[0].wait(&written, &head)) return {};
        uint64_t place = load<uint64_t>(device.queue[0].descriptors + head * 16u);
        Packet packet;
        memcpy(&packet, reinterpret_cast<void*>(place), sizeof packet);
        Buffer again{reinterpret_cast<void*>(place), kRoom, kWrite};
        device.queue[0].add(&again, 1);
        device.queue[0].kick();
        if (packet.operation == kData && packet.destination_port == kPort) received_ += packet.length;
        if (packet.destination_port == port) return packet;
    }
    return {};
}

void Link::raw(const void* bytes, uint32_t count) {
    Packet data = packet(kData);
    data.length = count;
    send(data, bytes, count);
}

void Link::frame(uint8_t type, const void* payload, uint32_t bytes) {
    static unsigned char place[70'000];
    memcpy(place, &bytes, 4);
    place[4] = type;
    memcpy(place + 5, payload, bytes);
    raw(place, bytes + 5);
}

void Link::say(const char* text) {
    unsigned char payload[300] = {1, 0}; // stdout, whole line
    uint32_t length = 0;
    for (; text[length] && length < 250; ++length)
        payload[14 + length] = static_cast<unsigned char>(text[length]);
    memcpy(payload + 10, &length, 4);
    frame(66, payload, 14 + length);
}

void Link::say(const char* text, uint64_t number) {
    char line[256];
    unsigned at = 0;
    for (; text[at] && at < 200; ++at) line[at] = text[at];
    line[at++] = ' ';
    char digits[20];
    unsigned count = 0;
    do digits[count++] = static_cast<char>('0' + number % 10);
    while (number /= 10);
    while (count) line[at++] = digits[--count];
    line[at] = '\0';
    say(line);
}

void Link::end(unsigned code) {
    unsigned char payload[6] = {0, static_cast<unsigned char>(code)};
    frame(67, payload, sizeof payload);
    (void)receive(kPort, 5); // cage closes its end
    out8(0x64, 0xfe);
    halt();
}

} // namespace hostile
