#include "ctxgraph/http_target.h"

#include "base/text.h"
#include "ctxgraph/json.h"

namespace nullbox::ctxgraph {

constexpr size_t kMaxParts = 32; // path segments, and query parameters

std::optional<std::string_view> Target::find(std::string_view name) const {
    for (const auto& [each, value] : query)
        if (each == name) return value;
    return std::nullopt;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    auto lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static Result<std::string> decode(std::string_view text, bool in_query) {
    std::string out;
    for (size_t i = 0; i < text.size(); i++) {
        if (text[i] != '%') {
            out += in_query && text[i] == '+' ? ' ' : text[i];
            continue;
        }
        int high = text.size() - i > 2 ? hex_digit(text[i + 1]) : -1,
            low = high < 0 ? -1 : hex_digit(text[i + 2]);
        if (low < 0) return error("a % in the target is not followed by two hexadecimal digits");
        out += static_cast<char>(high << 4 | low);
        i += 2;
    }
    if (!valid_utf8(out)) return error("the target is not valid UTF-8");
    return out;
}

Result<Target> parse_target(std::string_view target) {
    if (!target.starts_with('/')) return error("the target does not begin with /");
    size_t mark = target.find('?');
    auto segments = split(target.substr(1, mark == std::string_view::npos ? mark : mark - 1), '/');
    auto pairs = mark == std::string_view::npos ? std::vector<std::string_view>()
                                                : split(target.substr(mark + 1), '&');
    if (segments.size() > kMaxParts || pairs.size() > kMaxParts)
        return error("the target has too many parts");
    Target parsed;
    for (auto segment : segments) parsed.path.push_back(TRY(decode(segment, false)));
    for (auto pair : pairs) {
        if (pair.empty()) continue;
        size_t equals = pair.find('=');
        auto value = equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1);
        parsed.query.emplace_back(TRY(decode(pair.substr(0, equals), true)), TRY(decode(value, true)));
    }
    return parsed;
}

} // namespace nullbox::ctxgraph
