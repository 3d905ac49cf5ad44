// The cases of tests/hostile/devices, and how one of them fails. Each runs in a process of its own
// (main.cpp), so that a crash, a sanitizer's report or a hang is that case's failure and nobody else's.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/text.h"

namespace nullbox::hostile {

struct Case {
    std::string_view what;
    void (*run)();
};

// Ends the case's process.
[[noreturn]] void fail(std::string_view why);
inline void expect(bool holds, std::string_view why) {
    if (!holds) fail(why);
}
inline void equal(uint64_t seen, uint64_t wanted, std::string_view what) {
    if (seen != wanted) fail(cat(what, ": ", seen, " instead of ", wanted));
}

std::span<const Case> queue_cases();     // rings and descriptors, on every queue that a device reads
std::span<const Case> transport_cases(); // registers, features, status, resets
std::span<const Case> bus_cases();       // addresses and ports where nobody or something else is
std::span<const Case> block_cases();
std::span<const Case> net_cases();
std::span<const Case> vsock_cases();
std::span<const Case> fs_cases();
std::span<const Case> small_device_cases(); // console, rng
std::span<const Case> link_cases();         // the frames on the guest's stream to cage

} // namespace nullbox::hostile
