// A driver with whatever rings and requests the input makes, in front of the block device.
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "cage/vmm/block.h"
#include "cage/vmm/test_driver.h"

using namespace nullbox;       // NOLINT: a fuzz target
using namespace nullbox::cage; // NOLINT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) return 0;
    static TestMemory memory;
    bool writable = data[0] & 1, event_index = data[0] & 2, scratch = data[0] & 4, limited = data[0] & 8;
    auto waiting = static_cast<uint16_t>(data[1] % 24); // more than 16 is a jump
    auto input = std::as_bytes(std::span(data + 2, std::min<size_t>(size - 2, 0x6000)));
    // Descriptors, rings and requests lie one behind the other, all from the input.
    constexpr uint64_t kBase = 0x1000;
    std::memset(memory.buffer->bytes + kBase, 0, 0x8000);
    std::memcpy(memory.buffer->bytes + kBase, input.data(), input.size());

    Fd file(::memfd_create("disk", MFD_CLOEXEC));
    CHECK(::ftruncate(file.get(), 64 << 10) == 0);
    // On a clock of ours, which goes on only when the device asks to be called.
    Clock::time_point now(std::chrono::seconds(1000));
    RateLimit limit({.bytes_per_s = 4096, .operations_per_s = 2}, [&] { return now; });
    auto device = BlockDevice::make(std::move(file),
                                    {.writable = writable,
                                     .scratch = scratch,
                                     .limit = limited ? &limit : nullptr,
                                     .call_at = [&](Clock::time_point when, const std::function<void()>&) {
                                         CHECK(when > now);
                                         now = when;
                                         return Watch();
                                     }});
    CHECK(device);
    std::vector<Virtqueue> queues;
    queues.emplace_back(memory.memory);
    auto& state = queues[0].state();
    state = {.size = 16,
             .descriptors = kBase,
             .available = kBase + 0x100,
             .used = kBase + 0x140,
             .event_index = event_index};
    queues[0].start();
    CHECK(!queues[0].fault());
    CHECK(memory.memory.write(state.available + 2, waiting));
    auto before = now;
    for (int turn = 0; turn < 64 && ((*device)->process(queues) || std::exchange(before, now) != now); ++turn)
        queues[0].take_interrupt();
    CHECK(queues[0].fault() || state.next_available == state.next_used);
    return 0;
}
