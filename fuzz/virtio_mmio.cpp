// Register writes of any order, width and value, with requests served in between: the transport's state
// machine.
#include "cage/vmm/virtio_mmio.h"
#include "base/bytes.h"
#include "base/check.h"
#include "cage/vmm/rng.h"
#include "cage/vmm/test_driver.h"

using namespace nullbox;       // NOLINT: a fuzz target
using namespace nullbox::cage; // NOLINT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static TestMemory memory;
    struct alignas(4096) Page {
        std::array<std::byte, kRegisterPageBytes> bytes{};
    };
    static Page page;
    page = {};
    std::memset(memory.buffer->bytes, 0, 0x8000);
    bool faulted = false;
    VirtioMmio transport(std::make_unique<RngDevice>(), memory.memory, page.bytes,
                         {.raise_interrupt = [] {},
                          .notify = [] {},
                          .fault =
                              [&](std::string_view, const char* what) {
                                  CHECK(what != nullptr);
                                  faulted = true;
                              }});
    ByteReader reader(std::as_bytes(std::span(data, size)));
    // What a real driver writes, so that the input need not find it: (offset, value) pairs by one byte.
    static constexpr std::array<std::pair<uint32_t, uint32_t>, 16> kUsual{{
        {0x70, 0},
        {0x70, 1},
        {0x70, 3},
        {0x24, 1},
        {0x20, 1},
        {0x24, 0},
        {0x20, 1u << 29},
        {0x70, 0xb},
        {0x30, 0},
        {0x38, 16},
        {0x80, 0x1000},
        {0x90, 0x2000},
        {0xa0, 0x3000},
        {0x44, 1},
        {0x70, 0xf},
        {0x50, 0},
    }};
    for (int step = 0; step < 512 && !reader.failed(); ++step) {
        auto what = reader.number<uint8_t>();
        if (what < 64) {
            auto [offset, value] = kUsual[what % kUsual.size()];
            transport.write(offset, std::as_bytes(std::span(&value, 1)));
        } else if (what < 160) {
            auto offset = reader.number<uint16_t>();
            transport.write(offset % 0x1100, reader.take(size_t{1} << (what & 3)));
        } else if (what < 200) {
            auto bytes = reader.take(what & 31);
            auto place = memory.memory.range(0x1000 + reader.number<uint16_t>() % 0x2800, bytes.size());
            if (place) std::ranges::copy(bytes, place->begin());
        } else
            transport.process();
        uint32_t status = 0;
        std::memcpy(&status, page.bytes.data() + 0x70, sizeof status);
        CHECK(status == transport.state().status);
        CHECK(!(status & 4) || (status & 8)); // DRIVER_OK only with FEATURES_OK
    }
    return 0;
}
