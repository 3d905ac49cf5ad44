// A message's body out of a byte stream (RFC 9112 section 6 and 7): which bytes are its content, and where it
// ends. Pure. Chunk extensions and trailers are read, bounded and dropped.
#pragma once

#include <string>
#include <string_view>

#include "egress/http_head.h"

namespace nullbox::egress::http {

class BodyReader {
public:
    explicit BodyReader(Framing framing);
    struct Piece {
        size_t taken = 0;         // bytes of the stream that are done with
        std::string_view content; // among them; of the next message nothing is taken
    };
    // Call it until it takes nothing. An error: the framing is broken, what follows cannot be understood.
    Result<Piece> next(std::string_view stream);
    bool done() const { return state_ == State::Done; }
    // The stream ended. Only a body until the close may end so.
    Result<> ended();

private:
    enum class State : uint8_t { Content, ChunkLine, ChunkEnd, Trailer, Done };
    Result<Piece> content(std::string_view stream);
    Result<Piece> line(std::string_view stream);
    Result<> chunk_line(std::string_view line);

    Framing framing_;
    State state_;
    uint64_t left_ = 0; // of the content or the chunk
    size_t trailer_bytes_ = 0;
};

std::string chunk(std::string_view content); // content not empty
constexpr std::string_view kLastChunk = "0\r\n\r\n";

} // namespace nullbox::egress::http
