#include "cage/vmm/balloon.h"

#include <algorithm>
#include <sys/mman.h>

namespace nullbox::cage {

namespace {
constexpr uint64_t kFeatureDeflateOnOom = 1 << 2, kFeatureReporting = 1 << 5;
enum Queue : uint8_t { kInflate = 0, kDeflate = 1, kReporting = 2 };

// The whole pages in it. A failure changes nothing for the guest: the host has the page a little longer.
void give_back(std::span<std::byte> bytes) {
    auto start = reinterpret_cast<uintptr_t>(bytes.data());
    uintptr_t first = (start + kPageBytes - 1) & ~uintptr_t{kPageBytes - 1};
    uintptr_t end = (start + bytes.size()) & ~uintptr_t{kPageBytes - 1};
    if (first < end) (void)::madvise(bytes.data() + (first - start), end - first, MADV_DONTNEED);
}
} // namespace

uint64_t BalloonDevice::features() const { return kFeatureDeflateOnOom | kFeatureReporting; }

bool BalloonDevice::write_config(uint32_t offset, uint32_t value) {
    if (offset != kActual * sizeof value) return false;
    config_[kActual] = value;
    return true;
}

bool BalloonDevice::process(std::span<Virtqueue> queues) {
    bool more =
        serve_queue(queues[kInflate], [&](Chain chain) { inflate(queues[kInflate], std::move(chain)); });
    // Nothing to do for a page that the guest takes back: it comes at the first touch.
    more |=
        serve_queue(queues[kDeflate], [&](Chain chain) { queues[kDeflate].complete(std::move(chain), 0); });
    more |= serve_queue(queues[kReporting], [&](Chain chain) {
        for (const iovec& piece : chain.writable())
            give_back({static_cast<std::byte*>(piece.iov_base), piece.iov_len});
        queues[kReporting].complete(std::move(chain), 0);
    });
    return more;
}

// An array of page numbers. Neighbours go back in one call, in whatever order the guest has named them.
void BalloonDevice::inflate(Virtqueue& queue, Chain chain) {
    std::array<uint32_t, kMostPagesAtOnce> storage; // NOLINT: filled by read
    uint64_t bytes = chain.readable_bytes();
    auto pages = std::span(storage).first(std::min<uint64_t>(bytes / sizeof(uint32_t), storage.size()));
    if (bytes != pages.size_bytes() || !chain.read(std::as_writable_bytes(pages))) {
        queue.set_fault("inflate request that is no list of at most 1024 pages");
        return queue.complete(std::move(chain), 0);
    }
    std::ranges::sort(pages);
    while (!pages.empty()) {
        size_t count = 1;
        while (count < pages.size() && pages[count] - pages[0] == count) ++count;
        auto place = memory_.range(pages[0] * kPageBytes, count * kPageBytes);
        if (!place) {
            queue.set_fault("inflate request for a page outside of memory");
            break;
        }
        give_back(*place);
        pages = pages.subspan(count);
    }
    queue.complete(std::move(chain), 0);
}

} // namespace nullbox::cage
