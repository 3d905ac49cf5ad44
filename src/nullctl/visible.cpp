#include "nullctl/visible.h"

#include <cstdint>

namespace nullbox::nullctl {

namespace {

struct Character {
    char32_t code = 0;
    size_t bytes = 0; // 0: not UTF-8 (RFC 3629)
};

Character first_of(std::string_view text) {
    auto at = [&](size_t index) { return static_cast<unsigned char>(text[index]); };
    unsigned char lead = at(0);
    if (lead < 0x80) return {lead, 1};
    size_t bytes = lead >= 0xc2 && lead < 0xe0   ? 2
                   : lead >= 0xe0 && lead < 0xf0 ? 3
                   : lead >= 0xf0 && lead < 0xf5 ? 4
                                                 : 0;
    if (bytes == 0 || text.size() < bytes) return {};
    char32_t code = lead & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        if ((at(i) & 0xc0) != 0x80) return {};
        code = code << 6 | (at(i) & 0x3fu);
    }
    bool wrong = (bytes == 3 && code < 0x800) || (code >= 0xd800 && code < 0xe000) ||
                 (bytes == 4 && code < 0x10000) || code > 0x10ffff;
    return wrong ? Character{} : Character{code, bytes};
}

bool harmful(char32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0xad || code == 0x61c ||
           (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2060 && code <= 0x206f) || code == 0xfeff || (code >= 0xfff9 && code <= 0xfffb) ||
           (code >= 0xe0000 && code <= 0xe0fff);
}

std::string hexadecimal(char32_t code, size_t digits) {
    std::string text;
    for (size_t i = digits; i-- > 0;) text += "0123456789abcdef"[code >> (4 * i) & 15];
    return text;
}

bool wide(char32_t code) {
    return (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) ||
           (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff) ||
           (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
           (code >= 0xffe0 && code <= 0xffe6) || (code >= 0x1f300 && code <= 0x1faff) ||
           (code >= 0x20000 && code <= 0x3fffd);
}

} // namespace

std::string visible(std::string_view text, Lines lines) {
    std::string out;
    while (!text.empty()) {
        auto [code, bytes] = first_of(text);
        if (bytes == 0)
            out += "\\x" + hexadecimal(static_cast<unsigned char>(text[0]), 2);
        else if (lines == Lines::Several && (code == '\n' || code == '\t'))
            out += static_cast<char>(code);
        else if (harmful(code))
            out += code < 0x100     ? "\\x" + hexadecimal(code, 2)
                   : code < 0x10000 ? "\\u" + hexadecimal(code, 4)
                                    : "\\U" + hexadecimal(code, 8);
        else
            out += text.substr(0, bytes);
        text.remove_prefix(bytes ? bytes : 1);
    }
    return out;
}

std::string visible_json(std::string_view json) {
    std::string out;
    while (!json.empty()) {
        auto [code, bytes] = first_of(json);
        if (bytes == 0) {
            out += "\\ufffd";
        } else if (code >= 0x10000 && harmful(code)) {
            out += "\\u" + hexadecimal(0xd800 + ((code - 0x10000) >> 10), 4);
            out += "\\u" + hexadecimal(0xdc00 + ((code - 0x10000) & 0x3ff), 4);
        } else if (code != '\n' && harmful(code)) {
            out += "\\u" + hexadecimal(code, 4);
        } else {
            out += json.substr(0, bytes);
        }
        json.remove_prefix(bytes ? bytes : 1);
    }
    return out;
}

size_t width_of(std::string_view text) {
    size_t columns = 0;
    while (!text.empty()) {
        auto [code, bytes] = first_of(text);
        bool combining = code >= 0x300 && code <= 0x36f;
        columns += combining ? 0 : wide(code) ? 2 : 1;
        text.remove_prefix(bytes ? bytes : 1);
    }
    return columns;
}

std::string cut_to(std::string_view text, size_t columns) {
    if (width_of(text) <= columns) return std::string(text);
    std::string out;
    size_t used = 0;
    while (!text.empty()) {
        auto [code, bytes] = first_of(text);
        size_t takes = wide(code) ? 2 : 1;
        if (used + takes + 1 > columns) break;
        out += text.substr(0, bytes ? bytes : 1);
        used += takes;
        text.remove_prefix(bytes ? bytes : 1);
    }
    return columns ? out + "…" : out;
}

} // namespace nullbox::nullctl
