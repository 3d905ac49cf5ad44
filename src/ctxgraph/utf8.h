// UTF-8 (RFC 3629), one code point at a time. Internal to src/ctxgraph.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nullbox::ctxgraph {

constexpr uint32_t kNoCodePoint = UINT32_MAX;

// Takes the first code point off a text that is not empty; kNoCodePoint and one byte less where it is not
// valid: overlong, a surrogate, beyond 0x10ffff, cut off.
inline uint32_t take_code_point(std::string_view& text) {
    auto byte = [&](size_t at) { return static_cast<uint8_t>(text[at]); };
    auto invalid = [&] {
        text.remove_prefix(1);
        return kNoCodePoint;
    };
    size_t length = byte(0) < 0x80       ? 1
                    : byte(0) >> 5 == 6  ? 2
                    : byte(0) >> 4 == 14 ? 3
                    : byte(0) >> 3 == 30 ? 4
                                         : 0;
    if (length == 0 || length > text.size()) return invalid();
    uint32_t point = length == 1 ? byte(0) : byte(0) & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (byte(i) >> 6 != 2) return invalid();
        point = point << 6 | (byte(i) & 0x3fu);
    }
    static constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < kLeast[length] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return invalid();
    text.remove_prefix(length);
    return point;
}

inline void append_code_point(std::string& out, uint32_t point) {
    auto add = [&](uint32_t byte) { out += static_cast<char>(byte); };
    if (point < 0x80) return add(point);
    if (point < 0x800) {
        add(0xc0 | point >> 6);
    } else if (point < 0x10000) {
        add(0xe0 | point >> 12);
        add(0x80 | (point >> 6 & 0x3f));
    } else {
        add(0xf0 | point >> 18);
        add(0x80 | (point >> 12 & 0x3f));
        add(0x80 | (point >> 6 & 0x3f));
    }
    add(0x80 | (point & 0x3f));
}

} // namespace nullbox::ctxgraph
