#include "egress/http_body.h"

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace nullbox::egress::http {

constexpr size_t kMaxLineBytes = 1024; // of a chunk's size with extensions, or of a trailer
constexpr size_t kMaxTrailerBytes = size_t{8} << 10;
constexpr size_t kMaxSizeDigits = 15;

BodyReader::BodyReader(Framing framing) : framing_(framing) {
    switch (framing.kind) {
    case Framing::Kind::None:
        state_ = State::Done;
        break;
    case Framing::Kind::Length:
        left_ = framing.length;
        state_ = left_ == 0 ? State::Done : State::Content;
        break;
    case Framing::Kind::Chunked:
        state_ = State::ChunkLine;
        break;
    case Framing::Kind::UntilClose:
        left_ = UINT64_MAX;
        state_ = State::Content;
        break;
    }
}

Result<BodyReader::Piece> BodyReader::next(std::string_view stream) {
    if (stream.empty() || state_ == State::Done) return Piece{};
    if (state_ == State::Content) return content(stream);
    return line(stream);
}

Result<BodyReader::Piece> BodyReader::content(std::string_view stream) {
    auto now = stream.substr(0, static_cast<size_t>(std::min<uint64_t>(left_, stream.size())));
    if (framing_.kind != Framing::Kind::UntilClose) left_ -= now.size();
    if (left_ == 0) state_ = framing_.kind == Framing::Kind::Chunked ? State::ChunkEnd : State::Done;
    return Piece{now.size(), now};
}

Result<BodyReader::Piece> BodyReader::line(std::string_view stream) {
    size_t end = stream.find('\n');
    if (end == std::string_view::npos && stream.size() < kMaxLineBytes) return Piece{};
    if (end == std::string_view::npos || end >= kMaxLineBytes)
        return error("a line of the chunked body is too long");
    if (end == 0 || stream[end - 1] != '\r') return error("a line of the chunked body does not end in CRLF");
    auto text = stream.substr(0, end - 1);
    if (state_ == State::ChunkEnd) {
        if (!text.empty()) return error("a chunk is longer than its size says");
        state_ = State::ChunkLine;
    } else if (state_ == State::Trailer) {
        trailer_bytes_ += end + 1;
        if (trailer_bytes_ > kMaxTrailerBytes) return error("the chunked body's trailer is too long");
        if (text.empty()) state_ = State::Done;
    } else {
        TRY(chunk_line(text));
    }
    return Piece{.taken = end + 1};
}

Result<> BodyReader::chunk_line(std::string_view text) {
    auto digits = text.substr(0, text.find_first_of("; \t"));
    for (char c : text)
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f)
            return error("a chunk's line holds a control character");
    uint64_t size = 0;
    auto [end, wrong] = std::from_chars(digits.data(), digits.data() + digits.size(), size, 16);
    if (digits.empty() || digits.size() > kMaxSizeDigits || wrong != std::errc() ||
        end != digits.data() + digits.size())
        return error("a chunk's size is no number");
    left_ = size;
    state_ = size == 0 ? State::Trailer : State::Content;
    return {};
}

Result<> BodyReader::ended() {
    if (state_ == State::Done) return {};
    if (framing_.kind != Framing::Kind::UntilClose)
        return error("the connection ended in the middle of a body");
    state_ = State::Done;
    return {};
}

std::string chunk(std::string_view content) {
    char digits[17];
    auto* end = std::to_chars(digits, digits + sizeof digits, content.size(), 16).ptr;
    std::string out(digits, end);
    return out.append("\r\n").append(content).append("\r\n");
}

} // namespace nullbox::egress::http
