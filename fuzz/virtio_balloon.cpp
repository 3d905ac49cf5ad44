// A hostile driver's lists and reports in front of the balloon, with all of its three queues from the input.
// Nothing of the rings' own memory need survive: a guest may give back the very page its rings are on.
#include "base/check.h"
#include "cage/vmm/balloon.h"
#include "cage/vmm/test_driver.h"

using namespace nullbox;       // NOLINT: a fuzz target
using namespace nullbox::cage; // NOLINT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 4) return 0;
    static TestMemory memory;
    auto input = std::as_bytes(std::span(data + 4, std::min<size_t>(size - 4, 0x6000)));
    // For each queue 0x400 bytes of descriptors and rings, then the lists, all from the input.
    constexpr uint64_t kBase = 0x1000;
    std::memset(memory.buffer->bytes + kBase, 0, 0x8000);
    std::memcpy(memory.buffer->bytes + kBase, input.data(), input.size());
    BalloonDevice device(memory.memory);
    std::vector<Virtqueue> queues;
    queues.reserve(3);
    for (uint64_t i = 0; i < 3; ++i) {
        queues.emplace_back(memory.memory);
        auto base = kBase + i * 0x400;
        queues[i].state() = {.size = 16,
                             .descriptors = base,
                             .available = base + 0x100,
                             .used = base + 0x140,
                             .event_index = (data[0] >> i & 1) != 0};
        queues[i].start();
        CHECK(!queues[i].fault());
        CHECK(memory.memory.write(base + 0x102, static_cast<uint16_t>(data[i + 1] % 24)));
    }
    for (int turn = 0; turn < 4 && device.process(queues); ++turn)
        for (Virtqueue& queue : queues) queue.take_interrupt();
    (void)device.write_config(data[0], data[1]);
    return 0;
}
