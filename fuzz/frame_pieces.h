// Frames in arbitrary pieces, as their reader gets them. Besides finding crashes it holds the reader to its
// promise: what it accepts, the encoder writes back to the same frame.
#pragma once

#include <algorithm>

#include "base/check.h"
#include "guest_link/frames.h"

namespace nullbox::guest_link {

template <typename Frame>
void read_all(std::span<const std::byte> bytes, size_t piece) {
    FrameReader<Frame> reader;
    while (!bytes.empty()) {
        auto now = bytes.first(std::min(piece, bytes.size()));
        bytes = bytes.subspan(now.size());
        reader.feed(now);
        for (;;) {
            auto frame = reader.next();
            if (!frame) return;
            if (!*frame) break;
            auto again = encode(**frame);
            FrameReader<Frame> second;
            CHECK(again);
            second.feed(*again);
            auto same = second.next();
            CHECK(same && *same && **same == **frame);
        }
    }
}

} // namespace nullbox::guest_link
