// Frames on the streams of commands and copies: arbitrary bytes in arbitrary pieces, read as each of the
// three readers would. What a reader accepts, the encoder writes back to the same frame.
#include <algorithm>

#include "frame_pieces.h"
#include "guest_link/exec_frames.h"

using namespace nullbox::guest_link;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    auto bytes = std::as_bytes(std::span(data, size));
    size_t piece = size_t{data[0]} + 1;
    read_all<ExecGuestFrame>(bytes.subspan(1), piece);
    read_all<CallerFrame>(bytes.subspan(1), piece);
    read_all<CopyFrame>(bytes.subspan(1), piece);
    return 0;
}
