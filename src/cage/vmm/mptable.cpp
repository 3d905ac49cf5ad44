#include "cage/vmm/mptable.h"

#include <numeric>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "cage/vmm/loader.h"

namespace nullbox::cage {

namespace {
constexpr size_t kFloatingPointerBytes = 16, kTableHeaderBytes = 44;
enum EntryType : uint8_t { kProcessor = 0, kBus = 1, kIoApic = 2, kIoInterrupt = 3, kLocalInterrupt = 4 };
enum InterruptType : uint8_t { kVectored = 0, kNmi = 1, kExternal = 3 };

uint8_t checksum(std::span<const std::byte> bytes) {
    auto sum = std::accumulate(bytes.begin(), bytes.end(), 0u, [](unsigned total, std::byte byte) {
        return total + static_cast<unsigned>(byte);
    });
    return static_cast<uint8_t>(0u - sum);
}

void text(ByteWriter& out, std::string_view characters) { out.bytes(std::as_bytes(std::span(characters))); }

struct Interrupt {
    EntryType entry;
    InterruptType type;
    uint8_t source_line, target, target_line;
};
void add_interrupt(ByteWriter& out, const Interrupt& interrupt) {
    out.number<uint8_t>(interrupt.entry).number<uint8_t>(interrupt.type);
    out.number<uint16_t>(0); // polarity and trigger as the bus has them: edge, active high
    out.number<uint8_t>(0)
        .number(interrupt.source_line)
        .number(interrupt.target)
        .number(interrupt.target_line);
}
} // namespace

Result<> write_mp_table(const GuestMemory& memory, uint32_t vcpus) {
    CHECK(vcpus >= 1 && vcpus <= kMostVcpus);
    auto io_apic = static_cast<uint8_t>(vcpus); // the first id behind the CPUs'
    ByteWriter entries;
    for (uint32_t cpu = 0; cpu < vcpus; ++cpu) {
        auto id = static_cast<uint8_t>(cpu);
        constexpr uint8_t kEnabled = 1, kBootProcessor = 2, kApicVersion = 0x14;
        entries.number<uint8_t>(kProcessor).number(id).number(kApicVersion);
        entries.number<uint8_t>(kEnabled | (id == 0 ? kBootProcessor : 0));
        entries.number<uint32_t>(0x600).number<uint32_t>(0x201).number<uint64_t>(0); // family 6, FPU and APIC
    }
    entries.number<uint8_t>(kBus).number<uint8_t>(0);
    text(entries, "ISA   ");
    entries.number<uint8_t>(kIoApic).number(io_apic).number<uint8_t>(0x11).number<uint8_t>(1);
    entries.number(kIoApicAddress);
    for (uint8_t line = 0; line < kIoApicLines; ++line)
        add_interrupt(entries, {kIoInterrupt, kVectored, line, io_apic, line});
    add_interrupt(entries, {kLocalInterrupt, kExternal, 0, 0, 0});
    add_interrupt(entries, {kLocalInterrupt, kNmi, 0, 0xff, 1});
    auto count = static_cast<uint16_t>(vcpus + 2 + kIoApicLines + 2);

    auto build = [&](uint8_t table_sum) {
        ByteWriter table;
        text(table, "PCMP");
        table.number(static_cast<uint16_t>(kTableHeaderBytes + entries.view().size()));
        table.number<uint8_t>(4).number(table_sum); // specification 1.4
        text(table, "NULLBOX MICROVM     ");
        table.number<uint32_t>(0)
            .number<uint16_t>(0)
            .number(count)
            .number(kLocalApicAddress)
            .number<uint32_t>(0);
        table.bytes(entries.view());
        return std::move(table).take();
    };
    auto table = build(checksum(build(0)));

    auto point = [&](uint8_t sum) {
        ByteWriter pointer;
        text(pointer, "_MP_");
        pointer.number(static_cast<uint32_t>(kBaseMemoryEnd + kFloatingPointerBytes)).number<uint8_t>(1);
        pointer.number<uint8_t>(4).number(sum).number<uint8_t>(0).number<uint32_t>(0);
        return std::move(pointer).take();
    };
    auto pointer = point(checksum(point(0)));

    auto place = memory.range(kBaseMemoryEnd, 0xa0000 - kBaseMemoryEnd);
    if (!place) return error("guest memory is too small for an MP table: raise max_memory_mb");
    CHECK(pointer.size() == kFloatingPointerBytes && pointer.size() + table.size() <= place->size());
    std::memcpy(place->data(), pointer.data(), pointer.size());
    std::memcpy(place->data() + pointer.size(), table.data(), table.size());
    return {};
}

} // namespace nullbox::cage
