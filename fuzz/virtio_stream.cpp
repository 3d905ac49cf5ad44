// The console and the random device behind rings made of the input.
#include "base/check.h"
#include "cage/vmm/console.h"
#include "cage/vmm/rng.h"
#include "cage/vmm/test_driver.h"

using namespace nullbox;       // NOLINT: a fuzz target
using namespace nullbox::cage; // NOLINT

static void serve(VirtioDevice& device, size_t queue, TestMemory& memory, std::span<const std::byte> input,
                  uint16_t waiting) {
    constexpr uint64_t kBase = 0x1000;
    std::memset(memory.buffer->bytes + kBase, 0, 0x4000);
    std::memcpy(memory.buffer->bytes + kBase, input.data(), std::min<size_t>(input.size(), 0x4000));
    std::vector<Virtqueue> queues;
    queues.reserve(2);
    queues.emplace_back(memory.memory), queues.emplace_back(memory.memory);
    auto& state = queues[queue].state();
    state = {.size = 16,
             .descriptors = kBase,
             .available = kBase + 0x100,
             .used = kBase + 0x140,
             .event_index = (waiting & 1) != 0};
    queues[queue].start();
    CHECK(memory.memory.write(state.available + 2, waiting));
    for (int turn = 0; turn < 4 && device.process(queues); ++turn) queues[queue].take_interrupt();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1) return 0;
    static TestMemory memory;
    auto input = std::as_bytes(std::span(data + 1, size - 1));
    auto waiting = static_cast<uint16_t>(data[0] % 20);
    ConsoleDevice console([](std::string_view line) { CHECK(line.size() <= ConsoleDevice::kMostLineBytes); });
    serve(console, 1, memory, input, waiting);
    RngDevice rng;
    serve(rng, 0, memory, input, waiting);
    return 0;
}
