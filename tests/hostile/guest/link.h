// The guest's vsock, and on it what agent-init says to cage (src/guest_link/frames.h), so that a case can
// report.
#pragma once

#include "virtio.h"

namespace hostile {

constexpr unsigned char kLinkVersion = 4; // of src/guest_link/frames.h, whose frames this guest makes by hand

struct __attribute__((packed)) Packet {
    uint64_t source_cid, destination_cid;
    uint32_t source_port, destination_port, length;
    uint16_t type, operation;
    uint32_t flags, buffer_bytes, forwarded;
};
enum Operation : uint16_t {
    kRequest = 1,
    kResponse = 2,
    kReset = 3,
    kShutdown = 4,
    kData = 5,
    kCreditUpdate = 6
};

class Link {
public:
    static constexpr uint32_t kPort = 1000;
    // Until cage has taken our Hello and Started. A guest that cannot come this far ends without a word.
    bool open();
    void say(const char* text);
    void say(const char* text, uint64_t number);
    [[noreturn]] void end(unsigned code); // the last word, and then the machine
    void frame(uint8_t type, const void* payload, uint32_t bytes);
    void raw(const void* bytes, uint32_t count);

    // Any packet; fields that are not given are right.
    Packet packet(Operation operation, uint32_t source_port = kPort, uint32_t destination_port = 1024) const;
    void send(const Packet& packet, const void* payload = nullptr, uint32_t bytes = 0);
    // The next packet to this port; others are let go. Operation 0: none came.
    Packet receive(uint32_t port, unsigned patience = 1);
    void refill();
    Device device;

private:
    static constexpr uint32_t kRoom = 4096;
    unsigned char* room_ = nullptr;
    unsigned char* out_ = nullptr;
    uint32_t cid_ = 0;
    uint32_t received_ = 0;
};

} // namespace hostile
