// The registers: queues placed where none can be, features and status in the wrong order, resets at any
// moment (virtio 1.2, sections 2.1, 3.1 and 4.2).
#include <thread>

#include "guest.h"

namespace nullbox::hostile {

namespace {
template <typename Nonsense>
void each_device_faults(std::string_view text, const Nonsense& nonsense) {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.negotiate();
        auto where = guest.place_of(0);
        nonsense(where);
        guest.place(0, where);
        guest.write(kStatus, 0xf);
        guest.kick(0);
        guest.faults(cat(guest.transport->name(), ": ", text));
        guest.works_after_reset();
    }
}

void wrong_sizes() {
    for (uint32_t size : {0u, 3u, 24u, 127u, 129u, 256u, 0x8000u, 0x10000u, 0x10020u, UINT32_MAX})
        each_device_faults("wrong queue size", [&](Guest::Place& where) { where.size = size; });
}
void misaligned() {
    for (uint64_t off : {1u, 2u, 8u, 15u})
        each_device_faults("misaligned ring", [&](Guest::Place& where) { where.descriptors += off; });
    each_device_faults("misaligned ring", [](Guest::Place& where) { where.available += 1; });
    for (uint64_t off : {1u, 2u, 3u})
        each_device_faults("misaligned ring", [&](Guest::Place& where) { where.used += off; });
}
void rings_outside() {
    for (uint64_t address : {GuardedMemory::kBytes, Guest::kDevice, uint64_t{0xfee0'0000}, kHighMemoryStart,
                             UINT64_MAX & ~uint64_t{15}, uint64_t{1} << 63}) {
        each_device_faults("ring outside of memory",
                           [&](Guest::Place& where) { where.descriptors = address; });
        each_device_faults("ring outside of memory", [&](Guest::Place& where) { where.available = address; });
        each_device_faults("ring outside of memory", [&](Guest::Place& where) { where.used = address; });
    }
}
// The last byte of each ring is its event index; one step less than fits.
void rings_over_the_end() {
    constexpr uint64_t kEnd = GuardedMemory::kBytes, kSize = Guest::kQueueLength;
    each_device_faults("ring outside of memory",
                       [](Guest::Place& where) { where.descriptors = kEnd - kSize * 16 + 16; });
    each_device_faults("ring outside of memory",
                       [](Guest::Place& where) { where.available = kEnd - (4 + kSize * 2 + 2) + 2; });
    each_device_faults("ring outside of memory", [](Guest::Place& where) {
        where.used = ((kEnd - (4 + kSize * 8 + 2)) & ~uint64_t{3}) + 4;
    });
    for (Kind kind : kEveryKind) { // and the last place that fits is one
        Guest guest(kind);
        guest.negotiate();
        guest.place(0, {.descriptors = kEnd - kSize * 16,
                        .available = 0x10000,
                        .used = (kEnd - 0x1000 - 262) & ~uint64_t{3}});
        guest.has_not_faulted();
    }
}
void rings_across_the_hole() {
    for (uint64_t address : {kLowMemoryEnd - 16, kLowMemoryEnd, kHighMemoryStart - 16,
                             kHighMemoryStart + (uint64_t{2} << 30) - 16}) {
        for (uint64_t Guest::Place::* ring :
             {&Guest::Place::descriptors, &Guest::Place::available, &Guest::Place::used}) {
            Guest guest(Kind::Rng, *GuestMemory::make(uint64_t{5} << 30));
            guest.negotiate();
            auto where = guest.place_of(0);
            where.*ring = address;
            guest.place(0, where);
            guest.faults("rng: ring outside of memory");
            guest.works_after_reset();
        }
    }
}
void ready_twice() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        guest.write(kStatus, 0);
        guest.negotiate();
        for (uint32_t i = 0; i < guest.rings.size(); ++i) {
            guest.rings[i].forget();
            guest.place(i, guest.place_of(i));
            guest.place(i, {.descriptors = 0x3, .available = UINT64_MAX, .used = Guest::kDevice, .size = 7});
            guest.write(kQueueReady, UINT32_MAX), guest.write(kQueueReady, 1);
        }
        guest.write(kStatus, 0xf);
        guest.serve();
        guest.works();
    }
}
void ready_toggles_before() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.negotiate();
        for (uint32_t i = 0; i < guest.rings.size(); ++i) {
            guest.rings[i].forget();
            for (int round = 0; round < 50; ++round) {
                guest.place(i, guest.place_of(i));
                guest.write(kQueueReady, 0);
            }
            equal(guest.read(kQueueReady), 0, "ready after it was taken back");
            guest.place(i, guest.place_of(i));
        }
        guest.write(kStatus, 0xf);
        guest.serve();
        guest.works();
    }
}
void ready_toggles_within() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        for (int round = 0; round < 20; ++round) {
            for (uint32_t i = 0; i < guest.rings.size(); ++i) {
                guest.write(kQueueSelect, i), guest.write(kQueueReady, 0), guest.write(kQueueSize, 2);
                equal(guest.read(kQueueReady), 1, "ready while the driver is there");
            }
            guest.works();
        }
    }
}
void no_such_queue_kicked() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        for (uint32_t queue : {3u, 4u, 255u, 0xffffu, 0x10000u, UINT32_MAX}) guest.kick(queue);
        guest.serve();
        guest.works();
    }
}
void no_such_queue_placed() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.negotiate();
        for (uint32_t queue : {3u, 4u, 64u, 0x8000'0000u, UINT32_MAX}) {
            guest.place(queue, {.descriptors = 1, .available = 1, .used = 1, .size = 5});
            equal(guest.read(kQueueSizeMost), 0, "size of a queue that there is none of");
            equal(guest.read(kQueueReady), 0, "ready of a queue that there is none of");
        }
        guest.has_not_faulted();
        guest.restart();
        guest.works();
    }
}
void kicks_in_a_storm() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        std::thread vcpu([&] {
            for (uint32_t i = 0; i < 20'000; ++i) guest.kick(i % 4);
        });
        for (int round = 0; round < 20; ++round) guest.works();
        vcpu.join();
        guest.serve();
        guest.works();
    }
}
void features_not_offered() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        uint64_t offered = guest.transport->device().features() | kFeatureVersion1 | kFeatureEventIndex;
        for (unsigned bit = 0; bit < 64; ++bit) {
            if (offered >> bit & 1) continue;
            guest.write(kStatus, 0), guest.write(kStatus, 1), guest.write(kStatus, 3);
            for (uint32_t half : {0u, 1u}) {
                guest.write(kDriverFeaturesSelect, half);
                guest.write(kDriverFeatures,
                            static_cast<uint32_t>((offered | uint64_t{1} << bit) >> 32 * half));
            }
            guest.write(kStatus, 0xb);
            equal(guest.read(kStatus), 3,
                  cat("status after feature ", bit, " of a ", guest.transport->name()));
            guest.write(kStatus, 0xf);
            equal(guest.read(kStatus), 3, "status after DRIVER_OK in spite of that");
        }
        for (uint32_t half : {2u, 3u, 0x8000'0000u, UINT32_MAX}) { // a selection beyond both halves
            guest.write(kDeviceFeaturesSelect, half);
            equal(guest.read(kDeviceFeatures), 0, "features beyond bit 63");
        }
        guest.restart();
        guest.works();
    }
}
void legacy_driver() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.negotiate(~kFeatureVersion1);
        equal(guest.read(kStatus), 3, "status without VERSION_1");
        guest.place(0, guest.place_of(0));
        equal(guest.read(kQueueReady), 0, "a queue of a driver without features");
        guest.works_after_reset();
    }
}
void features_skipped() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        for (uint32_t status : {1u, 3u, 7u}) guest.write(kStatus, status);
        expect(!(guest.read(kStatus) & kDriverOk), "DRIVER_OK without FEATURES_OK");
        guest.place(0, guest.place_of(0));
        guest.kick(0);
        guest.speak();
        guest.serve();
        equal(guest.ring(0).used_index(), 0, "answers to a driver that is not there");
        guest.works_after_reset();
    }
}
void features_changed_late() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        auto agreed = guest.transport->state().driver_features;
        for (uint32_t half : {0u, 1u}) {
            guest.write(kDriverFeaturesSelect, half);
            guest.write(kDriverFeatures, UINT32_MAX);
        }
        expect(guest.transport->state().driver_features == agreed,
               "features change after they were agreed on");
        guest.works();
    }
}
void no_queues() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.negotiate();
        guest.write(kStatus, 0xf);
        for (int round = 0; round < 100; ++round) {
            guest.speak();
            for (uint32_t queue = 0; queue < 4; ++queue) guest.kick(queue);
            guest.serve();
        }
        guest.has_not_faulted();
        guest.peers.clear();
        guest.works_after_reset();
    }
}
void some_queues() { // only one of a pair is there
    for (Kind kind : {Kind::Net, Kind::Vsock, Kind::Share, Kind::Console})
        for (uint32_t only : {0u, 1u}) {
            Guest guest(kind);
            guest.negotiate();
            guest.rings[only].forget();
            guest.place(only, guest.place_of(only));
            guest.write(kStatus, 0xf);
            guest.put_text(Guest::kData, good_frame(1000));
            for (int round = 0; round < 40; ++round) {
                guest.speak();
                guest.ring(only).add({{Guest::kData, 1012, only == 0}});
                guest.kick(only);
                guest.serve();
                if (!guest.fault.empty()) break;
            }
            guest.peers.clear();
            guest.works_after_reset();
        }
}
void status_in_any_order() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        for (uint32_t first = 0; first < 256; ++first)
            for (uint32_t second : {0u, 1u, 3u, 8u, 0xbu, 0xfu, 0x40u, 0x4fu, 0x80u, 0xffu, 0xffff'ff00u}) {
                guest.write(kStatus, first), guest.write(kStatus, second);
                uint32_t status = guest.read(kStatus);
                expect(!(status & kDriverOk) || (status & kFeaturesOk), "DRIVER_OK without FEATURES_OK");
                expect(!(status & ~0xffu) && !(status & kNeedsReset), cat("status ", status));
                guest.write(kStatus, 0);
            }
        guest.serve();
        guest.works_after_reset();
    }
}
void status_taken_back() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        for (uint32_t status : {1u, 3u, 7u, 8u, 0xbu, 0xeu}) guest.write(kStatus, status);
        equal(guest.read(kStatus), 0xf, "status after bits were taken away");
        guest.works();
        guest.write(kStatus, 0x8f); // FAILED
        guest.ring(0).add({{Guest::kAnswer, 64, true}});
        guest.kick(0);
        guest.speak();
        guest.serve();
        guest.peers.clear();
        guest.works_after_reset();
    }
}
void goes_on_after_a_fault() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        uint32_t queue = static_cast<uint32_t>(guest.rings.size()) > 1 ? 1 : 0;
        guest.ring(queue).offer(999);
        guest.kick(queue);
        guest.serve();
        expect(guest.read(kStatus) & kNeedsReset, "no fault");
        uint16_t served = guest.ring(queue).used_index();
        for (uint32_t status : {0xfu, 0x4fu, 0xffu, 1u}) guest.write(kStatus, status);
        guest.place(queue, guest.place_of(queue));
        guest.ring(queue).set_index(1);
        for (int round = 0; round < 50; ++round) {
            guest.speak();
            guest.kick(queue);
            guest.serve();
        }
        equal(guest.ring(queue).used_index(), served, "requests served after the fault");
        equal(static_cast<uint64_t>(guest.faults_told), 1, "times that the fault was told");
        guest.peers.clear();
        guest.works_after_reset();
    }
}
void registers_of_odd_size() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        auto before = guest.page->bytes;
        std::array<std::byte, 8> zeros{}; // a status of 0 would be a reset
        for (uint64_t offset = 0; offset < kRegisterPageBytes + 16; ++offset)
            for (size_t width : {1u, 2u, 8u})
                guest.write_bytes(Guest::kDevice + offset, std::span(zeros).first(width));
        for (uint64_t offset = 1; offset < kRegisterPageBytes; ++offset)
            if (offset % 4 != 0) guest.write_bytes(Guest::kDevice + offset, std::span(zeros).first(4));
        expect(guest.page->bytes == before, "a write of the wrong size or place changed a register");
        guest.works();
    }
}
void config_space() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        auto before = guest.page->bytes;
        uint64_t ones = UINT64_MAX;
        auto bytes = std::as_bytes(std::span(&ones, 1));
        for (uint64_t offset = 0x100; offset < kRegisterPageBytes + 8; ++offset)
            for (size_t width : {1u, 2u, 4u, 8u})
                guest.write_bytes(Guest::kDevice + offset, bytes.first(width));
        expect(guest.page->bytes == before, "the configuration changed");
        for (uint64_t offset = 0xf0; offset < kRegisterPageBytes + 8; ++offset)
            for (size_t width : {1u, 2u, 4u, 8u}) {
                std::array<std::byte, 8> seen{};
                guest.bus.read(Guest::kDevice + offset, std::span(seen).first(width));
                bool inside = offset + width <= kRegisterPageBytes;
                for (size_t i = 0; i < width; ++i)
                    expect(seen[i] == (inside ? before[offset + i] : std::byte{0xff}),
                           "a read brings something else");
            }
        guest.works();
    }
}
void registers_that_are_not() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        for (uint32_t offset = 0; offset < 0x100; offset += 4) {
            // Not those that are registers of a driver; among the others are reset of a queue and shared
            // memory.
            if (offset == kStatus || offset == kQueueNotify) continue;
            for (uint32_t value : {0u, 1u, 0x5555'5555u, UINT32_MAX}) guest.write(offset, value);
        }
        guest.serve();
        guest.works();
    }
}
void any_writes() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        Random random(static_cast<uint64_t>(kind) + 1);
        constexpr uint32_t kUsual[] = {kStatus,         kQueueSelect,         kQueueSize,    kQueueReady,
                                       kQueueNotify,    kDescriptorsLow,      kAvailableLow, kUsedLow,
                                       kDriverFeatures, kDriverFeaturesSelect};
        constexpr uint32_t kValues[] = {0, 1, 3, 0xb, 0xf, 32, 0x10000, 0x11000, 0x12000, 1u << 29};
        for (int step = 0; step < 30'000; ++step) {
            uint32_t offset =
                random.below(8) ? kUsual[random.below(std::size(kUsual))] : random.below(0x1000) & ~3u;
            guest.write(offset, random.below(4) ? kValues[random.below(std::size(kValues))]
                                                : static_cast<uint32_t>(random.next()));
            if (random.below(64) == 0) guest.serve(10);
        }
        guest.works_after_reset();
    }
}
void reset_at_each_step() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        for (int round = 0; round < 200; ++round) {
            int step = 0, stop = round % 12;
            auto reached = [&] { return step++ >= stop; };
            guest.write(kStatus, 0);
            if (reached()) continue;
            guest.negotiate();
            for (uint32_t i = 0; i < guest.rings.size() && !reached(); ++i) {
                guest.rings[i].forget();
                guest.place(i, guest.place_of(i));
                if (reached()) guest.write(kStatus, 0);
            }
            guest.write(kStatus, 0xf);
            guest.speak();
            guest.kick(0);
            if (round % 3 == 0) guest.serve(5);
        }
        guest.peers.clear();
        guest.works_after_reset();
    }
}
void reset_with_requests_waiting() {
    for (const QueueOf& which : kEveryQueue) {
        Guest guest(which.kind);
        guest.start();
        guest.put(Guest::kData, uint64_t{0}), guest.put(Guest::kData + 8, uint64_t{0});
        for (int i = 0; i < 8; ++i)
            guest.ring(which.queue)
                .add(which.to_guest ? std::vector<Buffer>{{Guest::kAnswer, 4096, true}}
                                    : std::vector<Buffer>{{Guest::kData, 64}, {Guest::kAnswer, 4096, true}});
        guest.kick(which.queue);
        guest.write(kStatus, 0); // before the device thread comes to it
        guest.speak();
        guest.serve();
        equal(guest.ring(which.queue).used_index(), 0, "answers into the memory of a driver that is gone");
        guest.peers.clear();
        guest.works_after_reset();
    }
}
// A vCPU that resets and begins anew, again and again, while the device thread serves.
void reset_within() {
    for (Kind kind : kEveryKind) {
        Guest guest(kind);
        guest.start();
        std::atomic<bool> done = false;
        std::thread vcpu([&] {
            for (int round = 0; round < 300; ++round) {
                guest.write(kStatus, 0);
                guest.negotiate();
                for (uint32_t i = 0; i < guest.rings.size(); ++i) {
                    guest.rings[i].forget();
                    guest.place(i, guest.place_of(i));
                    for (int request = 0; request < 8; ++request)
                        guest.rings[i].add(
                            {{Guest::kData + i * 0x1000, 64}, {Guest::kAnswer + i * 0x4000, 4096, true}});
                }
                guest.write(kStatus, 0xf);
                for (uint32_t i = 0; i < guest.rings.size(); ++i) guest.kick(i);
                if (round % 4 == 0) std::this_thread::yield();
            }
            done = true;
        });
        for (unsigned turn = 0; !done; ++turn) {
            if (turn % 16 == 0) guest.speak();
            if (guest.peers.size() > 64) guest.peers.clear();
            guest.notified = true;
            guest.serve(4);
        }
        vcpu.join();
        guest.peers.clear();
        guest.works_after_reset();
    }
}

constexpr Case kCases[] = {
    {"registers: queue sizes 0, not a power of two, too big", wrong_sizes},
    {"registers: misaligned rings", misaligned},
    {"registers: rings outside of memory, over registers, at addresses that wrap", rings_outside},
    {"registers: rings whose last byte is over the end", rings_over_the_end},
    {"registers: rings across the hole below 4 GiB", rings_across_the_hole},
    {"registers: a queue made ready twice, with other addresses", ready_twice},
    {"registers: ready toggled before the driver is there", ready_toggles_before},
    {"registers: ready toggled while requests are served", ready_toggles_within},
    {"registers: kicks of queues that do not exist", no_such_queue_kicked},
    {"registers: queues placed that do not exist", no_such_queue_placed},
    {"registers: kicks in a storm from another thread", kicks_in_a_storm},
    {"registers: each feature that was not offered", features_not_offered},
    {"registers: a driver without VERSION_1", legacy_driver},
    {"registers: FEATURES_OK skipped", features_skipped},
    {"registers: features changed after they were agreed on", features_changed_late},
    {"registers: DRIVER_OK without any queue", no_queues},
    {"registers: DRIVER_OK with one queue of a pair", some_queues},
    {"registers: status bits in any order", status_in_any_order},
    {"registers: status bits taken back, then FAILED", status_taken_back},
    {"registers: a driver that goes on after NEEDS_RESET", goes_on_after_a_fault},
    {"registers: writes of 1, 2 and 8 bytes, and misaligned ones", registers_of_odd_size},
    {"registers: configuration space, any width, inside and over its end", config_space},
    {"registers: writes to read-only and unknown registers", registers_that_are_not},
    {"registers: 30000 writes without sense", any_writes},
    {"registers: a reset at each step of the initialisation", reset_at_each_step},
    {"registers: a reset with requests waiting", reset_with_requests_waiting},
    {"registers: resets in the middle of I/O, from another thread", reset_within},
};
} // namespace

std::span<const Case> transport_cases() { return kCases; }

} // namespace nullbox::hostile
