#include "cage/vmm/console.h"

#include <algorithm>

#include "base/bytes.h"

namespace nullbox::cage {

void ConsoleDevice::put(char byte) {
    if (byte != '\n' && byte != '\r') line_ += byte;
    if ((byte == '\n' && !line_.empty()) || line_.size() == kMostLineBytes) {
        sink_(line_);
        line_.clear();
    }
}

bool ConsoleDevice::process(std::span<Virtqueue> queues) {
    return serve_queue(queues[1], [&](Chain chain) {
        // A driver writes a page at most at a time; what is beyond is dropped, not looped over.
        std::array<std::byte, 4096> bytes; // NOLINT: filled by read
        auto text = std::span(bytes).first(std::min<uint64_t>(bytes.size(), chain.readable_bytes()));
        if (chain.read(text))
            for (char byte : as_text(text)) put(byte);
        queues[1].complete(std::move(chain), 0);
    });
}

} // namespace nullbox::cage
