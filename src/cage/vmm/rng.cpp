#include "cage/vmm/rng.h"

#include <algorithm>
#include <array>
#include <sys/random.h>

namespace nullbox::cage {

// A guest seeds its own generator with tens of bytes; more than this per request only keeps the thread busy.
constexpr size_t kMostBytes = 256;

bool RngDevice::process(std::span<Virtqueue> queues) {
    return serve_queue(queues[0], [&](Chain chain) {
        std::array<std::byte, kMostBytes> random; // NOLINT: filled by getrandom
        size_t length = std::min<uint64_t>(kMostBytes, chain.writable_bytes());
        // Up to 256 bytes come whole and without interruption once the generator is seeded (getrandom(2)).
        if (::getrandom(random.data(), length, 0) != static_cast<ssize_t>(length)) length = 0;
        if (!chain.write(std::span(random).first(length))) length = 0;
        queues[0].complete(std::move(chain), static_cast<uint32_t>(length));
    });
}

} // namespace nullbox::cage
