// Writing: RFC 8785.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/text.h"
#include "ctxgraph/json.h"
#include "ctxgraph/utf8.h"

namespace nullbox::ctxgraph {

const Json* Json::find(std::string_view name) const {
    for (const auto& member : members)
        if (member.name == name) return &member.value;
    return nullptr;
}

// Where a code point stands among UTF-16 texts: those beyond the first plane are written with surrogates
// (0xd800 to 0xdfff), which come before 0xe000.
static uint32_t utf16_rank(uint32_t point) {
    return point >= 0xe000 && point < 0x10000 ? point + 0x110000 : point;
}

bool less_utf16(std::string_view left, std::string_view right) {
    while (!left.empty() && !right.empty()) {
        auto a = take_code_point(left), b = take_code_point(right);
        if (a != b) return utf16_rank(a) < utf16_rank(b);
    }
    return left.empty() && !right.empty();
}

bool valid_utf8(std::string_view text) {
    while (!text.empty())
        if (take_code_point(text) == kNoCodePoint) return false;
    return true;
}

std::string number_text(double value) {
    CHECK(std::isfinite(value));
    if (value == 0) return "0"; // minus zero too
    char buffer[32];
    auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
    std::string_view shortest(buffer,
                              static_cast<size_t>(end - buffer)); // "-1.25e-07": shortest that is exact
    std::string out;
    if (shortest.front() == '-') {
        out += '-';
        shortest.remove_prefix(1);
    }
    size_t mark = shortest.find('e');
    std::string digits(shortest.substr(0, 1));
    if (mark > 2) digits += shortest.substr(2, mark - 2);
    auto exponent = shortest.substr(mark + (shortest[mark + 1] == '+' ? 2 : 1));
    int point = 0; // the decimal point stands behind this many digits
    std::from_chars(exponent.data(), exponent.data() + exponent.size(), point);
    point++;
    int count = static_cast<int>(digits.size());
    if (count <= point && point <= 21)
        return out + digits + std::string(static_cast<size_t>(point - count), '0');
    if (0 < point && point <= 21)
        return cat(out, digits.substr(0, static_cast<size_t>(point)), ".",
                   digits.substr(static_cast<size_t>(point)));
    if (-6 < point && point <= 0)
        return cat(out, "0.", std::string(static_cast<size_t>(-point), '0'), digits);
    out += digits.front();
    if (count > 1) out += cat(".", digits.substr(1));
    return cat(out, "e", point > 0 ? "+" : "", point - 1);
}

void append_quoted(std::string& out, std::string_view text) {
    static constexpr std::string_view kHex = "0123456789abcdef";
    static constexpr std::string_view kNamed = "\b\t\n\f\r\"\\", kNames = "btnfr\"\\";
    out += '"';
    for (char c : text) {
        if (auto named = kNamed.find(c); named != std::string_view::npos) {
            out += '\\';
            out += kNames[named];
        } else if (static_cast<unsigned char>(c) < 0x20) {
            out += "\\u00";
            out += kHex[static_cast<unsigned char>(c) >> 4];
            out += kHex[static_cast<unsigned char>(c) & 15];
        } else {
            out += c;
        }
    }
    out += '"';
}

std::string quoted(std::string_view text) {
    std::string out;
    append_quoted(out, text);
    return out;
}

void append_canonical(std::string& out, const Json& value) {
    switch (value.kind) {
    case Json::Kind::Null:
        out += "null";
        return;
    case Json::Kind::Bool:
        out += value.boolean ? "true" : "false";
        return;
    case Json::Kind::Number:
        out += value.text;
        return;
    case Json::Kind::Text:
        return append_quoted(out, value.text);
    case Json::Kind::List:
        out += '[';
        for (const auto& item : value.items) {
            if (&item != value.items.data()) out += ',';
            append_canonical(out, item);
        }
        out += ']';
        return;
    case Json::Kind::Object:
        out += '{';
        for (const auto& member : value.members) {
            if (&member != value.members.data()) out += ',';
            append_quoted(out, member.name);
            out += ':';
            append_canonical(out, member.value);
        }
        out += '}';
        return;
    }
}

std::string canonical(const Json& value) {
    std::string out;
    append_canonical(out, value);
    return out;
}

size_t nesting_of(const Json& value) {
    if (!value.is(Json::Kind::List) && !value.is(Json::Kind::Object)) return 0;
    size_t deepest = 0;
    for (const auto& item : value.items) deepest = std::max(deepest, nesting_of(item));
    for (const auto& member : value.members) deepest = std::max(deepest, nesting_of(member.value));
    return deepest + 1;
}

} // namespace nullbox::ctxgraph
