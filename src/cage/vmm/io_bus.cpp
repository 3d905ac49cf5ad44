#include "cage/vmm/io_bus.h"

#include <algorithm>

namespace nullbox::cage {

const IoBus::Range* IoBus::find(uint64_t address, size_t length) const {
    for (const Range& range : ranges_) {
        uint64_t offset = address - range.start;
        if (address >= range.start && offset < range.length && length <= range.length - offset) return &range;
    }
    return nullptr;
}

void IoBus::read(uint64_t address, std::span<std::byte> data) const {
    std::ranges::fill(data, std::byte{0xff});
    if (const Range* range = find(address, data.size())) range->handler->read(address - range->start, data);
}

void IoBus::write(uint64_t address, std::span<const std::byte> data) const {
    if (const Range* range = find(address, data.size())) range->handler->write(address - range->start, data);
}

} // namespace nullbox::cage
