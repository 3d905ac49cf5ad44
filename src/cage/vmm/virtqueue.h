// A split virtqueue (virtio 1.2, section 2.7), seen from the device.
//
// Everything in the rings is guest-controlled and may change while we read: each index and descriptor is read
// once, checked in the copy, then used. The first nonsense makes the queue faulty for good: pop() yields
// nothing more and fault() says what it was; the transport then stops the VM. Indirect descriptors are not
// offered, so one is nonsense too. A chain never outlives the call that popped it, so there is one at a time
// per queue (a held one has given up its buffers).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <sys/uio.h>

#include "cage/vmm/guest_memory.h"

namespace nullbox::cage {

constexpr uint16_t kMostQueueSize = 128;

struct QueueState {                 // everything a snapshot needs
    uint16_t size = kMostQueueSize; // guest-controlled until ready
    uint64_t descriptors = 0;       // guest-controlled until ready, as are the next two
    uint64_t available = 0;         // guest address of the ring the driver writes
    uint64_t used = 0;              // guest address of the ring the device writes
    bool ready = false;
    bool event_index = false; // VIRTIO_F_EVENT_IDX was negotiated
    uint16_t next_available = 0;
    uint16_t next_used = 0;
    uint16_t signalled_used = 0; // next_used when the driver was last told
};

class Virtqueue;
class Chain;

// Room in a guest's buffer for a header that can be written only once what follows it is there.
class ReservedRoom {
public:
    static constexpr size_t kMostBytes = 64;
    // Exactly the reserved bytes. Before the chain goes back to its queue.
    void fill(std::span<const std::byte> bytes) const;

private:
    friend class Chain;
    std::array<iovec, kMostBytes> pieces_{}; // a copy: the next look at the chain reuses its storage
    size_t count_ = 0;
};

// The buffers of one request: what the driver wrote for us, then what we may write. Taken from the front
// piece by piece. It must go back to its queue (complete or put_back) before it is destroyed.
class [[nodiscard]] Chain {
public:
    Chain(Chain&& other) noexcept;
    Chain& operator=(Chain&&) = delete;
    ~Chain();

    uint64_t readable_bytes() const { return readable_bytes_; }
    uint64_t writable_bytes() const { return writable_bytes_; }
    // The next out.size() readable bytes, copied once; false (and nothing taken) if there are fewer.
    [[nodiscard]] bool read(std::span<std::byte> out);
    // Into the next writable bytes; false (and nothing written) if there are fewer.
    [[nodiscard]] bool write(std::span<const std::byte> bytes);
    // Takes the next writable bytes away for later; false (and nothing taken) if there are fewer.
    [[nodiscard]] bool reserve(ReservedRoom& room, size_t bytes);
    // Takes the last writable byte away; null if there is none (a block request's status).
    std::byte* take_last_writable();
    // What is left, for readv and writev; most: at most so many bytes of it.
    std::span<const iovec> readable(uint64_t most = UINT64_MAX) { return clip(readable_, most); }
    std::span<const iovec> writable(uint64_t most = UINT64_MAX) { return clip(writable_, most); }
    void skip_readable(uint64_t count);
    void skip_writable(uint64_t count); // count bytes were written through writable()

private:
    friend class Virtqueue;
    Chain(Virtqueue* queue, uint16_t head) : queue_(queue), head_(head) {}
    static void advance(std::span<iovec>& pieces, uint64_t count);
    std::span<const iovec> clip(std::span<iovec> pieces, uint64_t most);

    Virtqueue* queue_;
    uint16_t head_;
    std::span<iovec> readable_, writable_; // views of the queue's storage
    uint64_t readable_bytes_ = 0, writable_bytes_ = 0;
};

class Virtqueue {
public:
    explicit Virtqueue(const GuestMemory& memory) : memory_(&memory) {}
    Virtqueue(Virtqueue&&) = default;

    QueueState& state() { return state_; }
    const QueueState& state() const { return state_; }
    // Checks the addresses and size in state() and begins; a wrong one makes the queue faulty.
    void start();
    void reset();

    // The next request, if there is one and the queue is started and not faulty.
    std::optional<Chain> pop();
    // Gives the request back to the driver: written bytes of the writable part, from its start, are filled.
    void complete(Chain chain, uint32_t written);
    // As if it had not been popped.
    void put_back(Chain chain);
    // For one answer in several requests' buffers: like complete, but the driver sees none of them before
    // publish_held, and after put_back_held none was popped. Between hold and either: pop and hold only.
    void hold(Chain chain, uint32_t written);
    void publish_held();
    void put_back_held();
    // With nothing left to pop: asks to be told of the next request; true if one came in the meantime.
    bool enable_notifications();
    // Whether the driver wants an interrupt for what was completed since the last call.
    bool take_interrupt();

    const char* fault() const { return fault_; } // null, or what the guest did
    void set_fault(const char* what) { fault_ = what; }

private:
    friend class Chain;
    struct Descriptor {
        uint64_t address;
        uint32_t length;
        uint16_t flags;
        uint16_t next;
    };
    static_assert(sizeof(Descriptor) == 16);

    void write_used(uint16_t at, const Chain& chain, uint32_t written);
    bool collect(Chain& chain);
    uint16_t load_index(const std::byte* field) const;

    const GuestMemory* memory_;
    QueueState state_;
    const char* fault_ = nullptr;
    std::span<std::byte> descriptors_, available_, used_; // checked when the queue starts; RAM never moves
    bool chain_out_ = false;
    uint16_t held_ = 0;
    std::array<iovec, kMostQueueSize> pieces_{};
    std::array<iovec, kMostQueueSize> clipped_{};
};

} // namespace nullbox::cage
