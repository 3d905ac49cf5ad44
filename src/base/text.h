// Small text tools that cost nothing to include. cat() joins texts and numbers; <format> stays out of headers
// because a unit that includes it takes seconds to compile.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nullbox {

inline void append_part(std::string& out, std::string_view text) { out += text; }
inline void append_part(std::string& out, char character) { out += character; }
inline void append_part(std::string& out, std::same_as<bool> auto value) { out += value ? "true" : "false"; }
template <std::integral T>
    requires(!std::same_as<T, bool>)
void append_part(std::string& out, T value) {
    char digits[24];
    auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    out.append(digits, end);
}

template <typename... Parts>
std::string cat(const Parts&... parts) {
    std::string out;
    (append_part(out, parts), ...);
    return out;
}

// "0x1f".
std::string hex(uint64_t value);
// The whole text as a decimal number in [least, most], or nothing.
std::optional<int64_t> parse_number(std::string_view text, int64_t least, int64_t most);
std::string_view trim(std::string_view text);
// Every part between separators, empty ones too; an empty text has one empty part.
std::vector<std::string_view> split(std::string_view text, char separator);
// For a console or a log: control characters, DEL and invalid UTF-8 become '?', so that nobody's text can
// move a cursor or forge a line; cut to limit bytes with "..." at the end.
std::string printable(std::string_view text, size_t limit_bytes = 4096);
// The known name closest to a mistyped one (edit distance at most 2), for "did you mean"; empty if none is
// near.
std::string_view closest(std::string_view typed, const std::vector<std::string_view>& known);

} // namespace nullbox
