// What frames.cpp and exec_frames.cpp share: fields of payloads, and the reader that cuts a byte stream into
// frames. Internal to src/guest_link. A set of frames brings kMaxPayload<Frame>, write() for each of its
// structs and a decode(), and instantiates FrameReader.
#pragma once

#include <algorithm>

#include "base/bytes.h"
#include "base/text.h"
#include "guest_link/frames.h"

namespace nullbox::guest_link {

template <typename Frame>
constexpr size_t kMaxPayload = 0;

constexpr uint32_t kMaxListEntries = 4096;

inline void put(ByteWriter& out, std::string_view text) {
    out.number(static_cast<uint32_t>(text.size())).bytes(std::as_bytes(std::span(text)));
}

inline void put(ByteWriter& out, const std::vector<std::string>& list) {
    out.number(static_cast<uint32_t>(list.size()));
    for (const auto& text : list) put(out, text);
}

inline std::string take_text(ByteReader& in) {
    auto length = in.number<uint32_t>();
    return std::string(as_text(in.take(length)));
}

inline Result<std::vector<std::string>> take_list(ByteReader& in, std::string_view what) {
    auto count = in.number<uint32_t>();
    if (count > kMaxListEntries)
        return error(cat(what, " has ", count, " entries, at most ", kMaxListEntries));
    std::vector<std::string> list;
    for (uint32_t i = 0; i < count && !in.failed(); i++) list.push_back(take_text(in));
    return list;
}

inline Result<bool> take_bool(ByteReader& in, std::string_view what) {
    auto value = in.number<uint8_t>();
    if (value > 1) return error(cat(what, " is ", value, ", must be 0 or 1"));
    return value == 1;
}

inline Result<> check_length(const std::string& text, size_t most, std::string_view what) {
    if (text.size() > most) return error(cat(what, " has ", text.size(), " bytes, at most ", most));
    return {};
}

template <typename Frame>
Result<std::vector<std::byte>> encode_frame(const Frame& frame) {
    ByteWriter payload;
    auto type = std::visit([&](const auto& of) { return write(payload, of); }, frame);
    size_t size = payload.view().size();
    if (size > kMaxPayload<Frame>)
        return error(cat("frame of type ", static_cast<uint8_t>(type), " has ", size, " bytes, at most ",
                         kMaxPayload<Frame>));
    ByteWriter out;
    out.number(static_cast<uint32_t>(size)).number(static_cast<uint8_t>(type)).bytes(payload.view());
    return std::move(out).take();
}

template <typename Frame>
void FrameReader<Frame>::feed(std::span<const std::byte> bytes) {
    if (broken_) return;
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(taken_));
    taken_ = 0;
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

template <typename Frame>
Result<std::optional<Frame>> FrameReader<Frame>::next() {
    if (broken_) return *broken_;
    ByteReader in(std::span(buffer_).subspan(taken_));
    auto length = in.number<uint32_t>();
    auto type = in.number<uint8_t>();
    if (in.failed()) return std::optional<Frame>();
    if (length > kMaxPayload<Frame>) {
        broken_ = error(cat("frame of ", length, " bytes, at most ", kMaxPayload<Frame>));
        return *broken_;
    }
    auto payload = in.take(length);
    if (in.failed()) return std::optional<Frame>();
    ByteReader fields(payload);
    auto frame = decode(type, fields, static_cast<const Frame*>(nullptr));
    if (frame && fields.failed()) frame = error("ends in the middle of a field");
    if (frame && !fields.rest().empty()) frame = error(cat(fields.rest().size(), " bytes too many"));
    if (!frame) {
        broken_ = with_context(std::move(frame.error()), cat("frame of type ", type));
        return *broken_;
    }
    taken_ += kHeaderBytes + length;
    return std::optional<Frame>(*std::move(frame));
}

} // namespace nullbox::guest_link
