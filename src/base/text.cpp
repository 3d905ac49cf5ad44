#include "base/text.h"

#include <algorithm>

namespace nullbox {

std::string hex(uint64_t value) {
    char digits[20];
    auto end = std::to_chars(digits, digits + sizeof digits, value, 16).ptr;
    return cat("0x", std::string_view(digits, end));
}

std::optional<int64_t> parse_number(std::string_view text, int64_t least, int64_t most) {
    int64_t value = 0;
    auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    if (value < least || value > most) return std::nullopt;
    return value;
}

std::string_view trim(std::string_view text) {
    constexpr std::string_view kBlank = " \t\r\n";
    size_t first = text.find_first_not_of(kBlank);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (;;) {
        size_t end = text.find(separator);
        parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

// The length of the valid UTF-8 sequence at the start of text (RFC 3629), 0 if there is none.
static size_t utf8_length(std::string_view text) {
    auto at = [&](size_t index) { return static_cast<unsigned char>(text[index]); };
    unsigned char lead = at(0);
    size_t length = lead < 0x80                   ? 1
                    : lead >= 0xc2 && lead < 0xe0 ? 2
                    : lead >= 0xe0 && lead < 0xf0 ? 3
                    : lead >= 0xf0 && lead < 0xf5 ? 4
                                                  : 0;
    if (length == 0 || length > text.size()) return 0;
    for (size_t i = 1; i < length; i++)
        if ((at(i) & 0xc0) != 0x80) return 0;
    // Overlong forms, surrogates, and what lies beyond U+10FFFF.
    if ((lead == 0xe0 && at(1) < 0xa0) || (lead == 0xed && at(1) > 0x9f) || (lead == 0xf0 && at(1) < 0x90) ||
        (lead == 0xf4 && at(1) > 0x8f))
        return 0;
    return length;
}

std::string printable(std::string_view text, size_t limit_bytes) {
    // Most lines need nothing done to them, and PID 1 looks at every line.
    if (text.size() <= limit_bytes && std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; }))
        return std::string(text);
    std::string out;
    while (!text.empty()) {
        size_t length = utf8_length(text);
        unsigned char lead = static_cast<unsigned char>(text[0]);
        // U+0080 to U+009F are the C1 controls; a terminal may obey them as it obeys ESC.
        bool control = length == 1
                           ? (lead < 0x20 && lead != '\t') || lead == 0x7f
                           : length == 2 && lead == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0;
        if (out.size() + std::max<size_t>(length, 1) > limit_bytes) return out + "...";
        if (length == 0 || control)
            out += '?';
        else
            out += text.substr(0, length);
        text.remove_prefix(std::max<size_t>(length, 1));
    }
    return out;
}

static size_t edit_distance(std::string_view left, std::string_view right) {
    std::vector<size_t> row(right.size() + 1);
    for (size_t j = 0; j <= right.size(); j++) row[j] = j;
    for (size_t i = 1; i <= left.size(); i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= right.size(); j++) {
            size_t substituted = diagonal + (left[i - 1] != right[j - 1]);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
        }
    }
    return row[right.size()];
}

std::string_view closest(std::string_view typed, const std::vector<std::string_view>& known) {
    std::string_view best;
    size_t best_distance = 3;
    if (typed.size() > 64) return best;
    for (auto name : known) {
        size_t distance = edit_distance(typed, name);
        if (distance < best_distance && distance < name.size()) best = name, best_distance = distance;
    }
    return best;
}

} // namespace nullbox
