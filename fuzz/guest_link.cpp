// Frames from a guest: arbitrary bytes in arbitrary pieces. Besides finding crashes it holds the reader to
// its promise: what it accepts, the encoder writes back to the same bytes.
#include "frame_pieces.h"

using namespace nullbox::guest_link;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    auto bytes = std::as_bytes(std::span(data, size));
    size_t piece = size_t{data[0]} + 1;
    read_all<GuestFrame>(bytes.subspan(1), piece);
    read_all<HostFrame>(bytes.subspan(1), piece);
    return 0;
}
