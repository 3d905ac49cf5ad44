// Rings and descriptors that no driver makes, on every queue that a device reads (virtio 1.2, section 2.7).
#include <atomic>
#include <thread>

#include "guest.h"

namespace nullbox::hostile {

namespace {
// One kind of nonsense in the queue; then what the device must say of it, on each queue; and after a reset it
// works.
template <typename Nonsense>
void each_queue_faults(std::string_view text, const Nonsense& nonsense) {
    for (const QueueOf& which : kEveryQueue) {
        Guest guest(which.kind);
        guest.start();
        nonsense(guest, guest.ring(which.queue), which);
        if (which.to_guest) guest.speak();
        guest.kick(which.queue);
        guest.faults(cat(guest.transport->name(), ": ", text));
        guest.works_after_reset();
    }
}

// Nonsense that a device may answer or call a fault, as long as it is over soon and the device works after a
// reset.
template <typename Nonsense>
void each_queue_survives(const Nonsense& nonsense) {
    for (const QueueOf& which : kEveryQueue) {
        Guest guest(which.kind);
        guest.start();
        nonsense(guest, guest.ring(which.queue), which);
        if (which.to_guest) guest.speak();
        guest.kick(which.queue);
        guest.serve();
        guest.works_after_reset();
    }
}

uint16_t direction(const QueueOf& which) { return which.to_guest ? kWrite : 0; }

void head_beyond() {
    for (uint16_t head : {Guest::kQueueLength, uint16_t{0x7fff}, uint16_t{0xffff}})
        each_queue_faults("descriptor index beyond the queue",
                          [&](Guest&, Ring& ring, const QueueOf&) { ring.offer(head); });
}
void next_beyond() {
    for (uint16_t next : {Guest::kQueueLength, uint16_t{0xffff}})
        each_queue_faults("descriptor index beyond the queue", [&](Guest&, Ring& ring, const QueueOf& which) {
            ring.put(0, Guest::kData, 64, static_cast<uint16_t>(kNext | direction(which)), next);
            ring.offer(0);
        });
}
void loop_of_one() {
    each_queue_faults("descriptor chain without end", [](Guest&, Ring& ring, const QueueOf& which) {
        ring.put(5, Guest::kData, 16, static_cast<uint16_t>(kNext | direction(which)), 5);
        ring.offer(5);
    });
}
void loop_of_many() {
    each_queue_faults("descriptor chain without end", [](Guest&, Ring& ring, const QueueOf& which) {
        for (uint16_t i = 0; i < Guest::kQueueLength; ++i)
            ring.put(i, Guest::kData + i * 64u, 16, static_cast<uint16_t>(kNext | direction(which)),
                     static_cast<uint16_t>((i + 1) % Guest::kQueueLength));
        ring.offer(3);
    });
}
void over_the_end() {
    for (uint32_t over : {1u, 4096u, 0x7fff'ffffu})
        each_queue_faults("buffer outside of memory", [&](Guest&, Ring& ring, const QueueOf& which) {
            ring.put(0, GuardedMemory::kBytes - 16, 16 + over, direction(which), 0);
            ring.offer(0);
        });
}
void second_piece_over_the_end() {
    each_queue_faults("buffer outside of memory", [](Guest&, Ring& ring, const QueueOf& which) {
        ring.put(0, Guest::kData, 64, static_cast<uint16_t>(kNext | direction(which)), 1);
        ring.put(1, GuardedMemory::kBytes - 1, 2, direction(which), 0);
        ring.offer(0);
    });
}
void address_wraps() {
    for (uint64_t address :
         {UINT64_MAX, UINT64_MAX - 15, UINT64_MAX - 0xffff'ffff + 0x1000, uint64_t{1} << 63})
        each_queue_faults("buffer outside of memory", [&](Guest&, Ring& ring, const QueueOf& which) {
            ring.put(0, address, 0xffff'ffff, direction(which), 0);
            ring.offer(0);
        });
}
void over_device_registers() {
    for (uint64_t address : {Guest::kDevice, uint64_t{0xfee0'0000}, uint64_t{0xfec0'0000}, kLowMemoryEnd})
        each_queue_faults("buffer outside of memory", [&](Guest&, Ring& ring, const QueueOf& which) {
            ring.put(0, address, 64, direction(which), 0);
            ring.offer(0);
        });
}
void empty_outside() {
    each_queue_faults("buffer outside of memory", [](Guest&, Ring& ring, const QueueOf& which) {
        ring.put(0, GuardedMemory::kBytes + 0x1000, 0, direction(which), 0);
        ring.offer(0);
    });
}
void indirect() {
    for (uint32_t length :
         {16u, 64u, 17u, 0u, 0xffff'ffffu}) // whole tables, an odd length, none, all of memory
        for (uint16_t more : {uint16_t{0}, kNext, kWrite})
            each_queue_faults(
                "indirect descriptor, which was not offered", [&](Guest& guest, Ring& ring, const QueueOf&) {
                    // A table whose first entry is a table again: itself.
                    guest.put(Guest::kData, uint64_t{Guest::kData});
                    guest.put(Guest::kData + 8, uint32_t{16});
                    guest.put(Guest::kData + 12, kIndirect);
                    ring.put(0, Guest::kData, length, static_cast<uint16_t>(kIndirect | more), 0);
                    ring.offer(0);
                });
}
void wrong_order() {
    each_queue_faults("readable buffer after a writable one", [](Guest&, Ring& ring, const QueueOf&) {
        ring.add({{Guest::kData, 16}, {Guest::kAnswer, 64, true}, {Guest::kData + 64, 16}});
    });
}
void index_jumps() {
    for (unsigned jump : {Guest::kQueueLength + 1u, 0x8000u, 0xffffu})
        each_queue_faults("available index jumped", [&](Guest&, Ring& ring, const QueueOf&) {
            ring.set_index(static_cast<uint16_t>(ring.index() + jump));
        });
}
void index_goes_back() {
    for (const QueueOf& which : kEveryQueue) {
        if (which.to_guest) continue;
        Guest guest(which.kind);
        guest.start();
        guest.works();
        Ring& ring = guest.ring(which.queue);
        if (ring.index() == 0) continue; // the ordinary request goes through another queue
        ring.set_index(static_cast<uint16_t>(ring.index() - 1));
        guest.kick(which.queue);
        guest.faults(cat(guest.transport->name(), ": available index jumped"));
        guest.works_after_reset();
    }
}
void nothing_in_it() {
    each_queue_survives([](Guest&, Ring& ring, const QueueOf& which) {
        ring.put(0, Guest::kData, 0, direction(which), 0);
        ring.offer(0);
    });
}
void many_empty_pieces() {
    each_queue_survives([](Guest&, Ring& ring, const QueueOf& which) {
        for (uint16_t i = 0; i < Guest::kQueueLength; ++i) {
            bool last = i + 1 == Guest::kQueueLength;
            ring.put(i, Guest::kData, 0, static_cast<uint16_t>((last ? 0 : kNext) | direction(which)),
                     static_cast<uint16_t>(i + 1));
        }
        ring.offer(0);
    });
}
void wrong_direction() {
    each_queue_survives([](Guest&, Ring& ring, const QueueOf& which) {
        ring.put(0, Guest::kData, 2048, which.to_guest ? 0 : kWrite, 0);
        ring.offer(0);
    });
}
void one_byte_pieces() {
    each_queue_survives([](Guest& guest, Ring& ring, const QueueOf& which) {
        for (uint16_t i = 0; i < Guest::kQueueLength; ++i) {
            bool last = i + 1 == Guest::kQueueLength,
                 writable = which.to_guest || i >= Guest::kQueueLength / 2;
            ring.put(i, Guest::kData + i, 1,
                     static_cast<uint16_t>((last ? 0 : kNext) | (writable ? kWrite : 0)),
                     static_cast<uint16_t>(i + 1));
        }
        guest.put(Guest::kData, uint64_t{0});
        ring.offer(0);
    });
}
// The device's own writes change the rings that it works from.
void buffers_over_the_rings() {
    each_queue_survives([](Guest&, Ring& ring, const QueueOf& which) {
        for (int round = 0; round < 4; ++round)
            for (uint64_t address : {ring.descriptors(), ring.available(), ring.used()})
                ring.add(which.to_guest
                             ? std::vector<Buffer>{{address, 0x1000, true}}
                             : std::vector<Buffer>{{ring.descriptors(), 64}, {address, 0x1000, true}});
    });
}
void rings_over_each_other() {
    for (const QueueOf& which : kEveryQueue) {
        Guest guest(which.kind);
        guest.negotiate();
        Ring& ring = guest.ring(which.queue);
        for (uint32_t i = 0; i < guest.rings.size(); ++i) {
            guest.rings[i].forget();
            // All three rings of all queues at one place.
            guest.place(i, {.descriptors = ring.descriptors(),
                            .available = ring.descriptors(),
                            .used = ring.descriptors()});
        }
        guest.write(kStatus, 0xf);
        for (int i = 0; i < 64; ++i) {
            guest.put(ring.descriptors() + 2, static_cast<uint16_t>(i));
            guest.speak();
            guest.kick(which.queue);
            guest.serve();
        }
        guest.works_after_reset();
    }
}
void same_chain_many_times() {
    each_queue_survives([](Guest&, Ring& ring, const QueueOf& which) {
        ring.put(0, Guest::kData, 2048, direction(which), 0);
        for (int i = 0; i < Guest::kQueueLength; ++i) ring.offer(0);
    });
}
void event_indices_lie() {
    for (uint16_t wish : {uint16_t{0}, uint16_t{0x7fff}, uint16_t{0xffff}})
        for (const QueueOf& which : kEveryQueue) {
            Guest guest(which.kind);
            guest.start();
            Ring& ring = guest.ring(which.queue);
            guest.put(ring.available(), uint16_t{0xffff}); // flags
            guest.put(ring.available() + 4 + Guest::kQueueLength * 2, wish);
            guest.put(ring.used(), uint16_t{0xffff});                               // the device's flags
            guest.put(ring.used() + 4 + Guest::kQueueLength * 8, uint16_t{0x1234}); // and its event index
            guest.works();
        }
}

// A vCPU that changes descriptors and indices while the device thread reads them.
void changes_under_the_reader() {
    for (const QueueOf& which : kEveryQueue) {
        Guest guest(which.kind);
        guest.start();
        Ring& ring = guest.ring(which.queue);
        std::atomic<bool> stop = false;
        std::thread vcpu([&] {
            Random random(which.queue + 7);
            while (!stop) {
                for (uint16_t i = 0; i < 8; ++i) {
                    bool far = random.below(4) == 0;
                    ring.put(i, far ? random.next() : Guest::kData + random.below(0x8000),
                             random.below(far ? UINT32_MAX : 4096), static_cast<uint16_t>(random.below(4)),
                             static_cast<uint16_t>(random.below(8)));
                    guest.put(ring.available() + 4 + i * 2u, static_cast<uint16_t>(random.below(8)));
                }
                uint16_t taken = guest.transport->queues()[which.queue].state().next_available;
                ring.set_index(static_cast<uint16_t>(random.below(8) ? taken + 1 : random.below(0x10000)));
            }
        });
        for (int round = 0; round < 60; ++round) {
            for (int turn = 0; turn < 10; ++turn) {
                guest.speak();
                guest.notified = true;
                guest.serve(4);
            }
            if (guest.read(kStatus) & kNeedsReset) guest.start_blindly();
        }
        stop = true;
        vcpu.join();
        guest.peers.clear();
        guest.works_after_reset();
    }
}

// GuestMemory::make: 3 GiB below the hole, the rest above 4 GiB.
GuestMemory large_memory() { return *GuestMemory::make(uint64_t{5} << 30); }

void across_the_hole() {
    struct {
        uint64_t address;
        uint32_t length;
    } const wrong[] = {{kLowMemoryEnd - 16, 32},
                       {kLowMemoryEnd - 1, 2},
                       {kLowMemoryEnd, 16},
                       {kHighMemoryStart - 16, 32},
                       {kHighMemoryStart - 1, 1},
                       {kHighMemoryStart + (uint64_t{2} << 30) - 8, 16},
                       {kHighMemoryStart + (uint64_t{2} << 30), 1}};
    for (auto [address, length] : wrong) {
        Guest guest(Kind::Rng, large_memory());
        guest.start();
        guest.ring(0).add({{address, length, true}});
        guest.kick(0);
        guest.faults("rng: buffer outside of memory");
        guest.works_after_reset();
    }
    Guest guest(Kind::Rng, large_memory());
    guest.start();
    guest.ring(0).add({{kLowMemoryEnd - 16, 16, true}, {kHighMemoryStart, 16, true}});
    guest.kick(0);
    guest.serve();
    guest.has_not_faulted();
    equal(guest.ring(0).take().written, 32, "bytes up to the hole and behind it");
}
// 31 pieces of 2 GiB each: far beyond 32 bits, all the same memory.
void more_bytes_than_memory() {
    for (const QueueOf& which : kEveryQueue) {
        Guest guest(which.kind, large_memory());
        guest.start();
        Ring& ring = guest.ring(which.queue);
        std::vector<Buffer> pieces(31, {kHighMemoryStart, 0x7fff'ffff, which.to_guest});
        if (!which.to_guest) pieces.push_back({Guest::kAnswer, 1, true});
        ring.add(pieces);
        if (which.to_guest) guest.speak();
        guest.kick(which.queue);
        guest.serve();
        guest.works_after_reset();
        if (which.to_guest || which.kind == Kind::Console) continue;
        guest.restart();
        std::vector<Buffer> room(31, {kHighMemoryStart, 0x7fff'ffff, true});
        room.insert(room.begin(), {Guest::kData, 40});
        guest.put(Guest::kData, uint64_t{0}), guest.put(Guest::kData + 8, uint64_t{0});
        ring.add(room);
        guest.kick(which.queue);
        guest.serve();
        guest.works_after_reset();
    }
}

constexpr Case kCases[] = {
    {"queue: a head index beyond the queue", head_beyond},
    {"queue: a next index beyond the queue", next_beyond},
    {"queue: a descriptor that is followed by itself", loop_of_one},
    {"queue: all descriptors in a loop", loop_of_many},
    {"queue: a buffer over the end of memory", over_the_end},
    {"queue: a chain whose second piece goes over the end of memory", second_piece_over_the_end},
    {"queue: address and length that wrap around", address_wraps},
    {"queue: buffers over device registers and the hole", over_device_registers},
    {"queue: an empty buffer outside of memory", empty_outside},
    {"queue: indirect tables: nested, of odd length, empty, too long", indirect},
    {"queue: a readable buffer after a writable one", wrong_order},
    {"queue: the available index jumps beyond the queue", index_jumps},
    {"queue: the available index goes back", index_goes_back},
    {"queue: a request of no bytes", nothing_in_it},
    {"queue: a chain of nothing but empty pieces", many_empty_pieces},
    {"queue: all in the wrong direction", wrong_direction},
    {"queue: a request in pieces of one byte", one_byte_pieces},
    {"queue: buffers that lie over the rings", buffers_over_the_rings},
    {"queue: all rings at one place", rings_over_each_other},
    {"queue: one chain offered as often as the queue is long", same_chain_many_times},
    {"queue: flags and event indices that lie", event_indices_lie},
    {"queue: descriptors and indices that change under the reader", changes_under_the_reader},
    {"queue: buffers across the hole below 4 GiB and over the end above it", across_the_hole},
    {"queue: a request of more bytes than there is memory", more_bytes_than_memory},
};
} // namespace

std::span<const Case> queue_cases() { return kCases; }

} // namespace nullbox::hostile
