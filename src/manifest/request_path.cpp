#include "manifest/request_path.h"

#include <algorithm>
#include <optional>

#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::manifest {

constexpr size_t kMostMethodBytes = 32;

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_unreserved(char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}
// Of RFC 3986's pchar, besides the unreserved ones and ';', which has a check of its own.
static bool is_plain_in_path(char c) { return std::string_view("/:@!$&'()*+,=").contains(c); }

static std::optional<unsigned> hex_value(char c) {
    if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
    if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
    return std::nullopt;
}

namespace {
struct Reading {
    std::string normal;
    std::string decoded; // what the bytes mean, for the check of their coding
};
} // namespace

static Result<> read_encoded(std::string_view text, Reading& out) {
    auto high = text.size() > 1 ? hex_value(text[1]) : std::nullopt;
    auto low = text.size() > 2 ? hex_value(text[2]) : std::nullopt;
    if (!high || !low) return error("the path has a '%' without two hexadecimal digits after it");
    auto c = static_cast<char>(*high << 4 | *low);
    // A server that decodes these before it takes the path apart, or decodes twice, sees another path.
    bool control = (c >= 0 && c < 0x20) || c == 0x7f;
    if (control || std::string_view("/\\%?#;").contains(c))
        return error(cat("the path holds ", text.substr(0, 3), ", which not all servers read in one way"));
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    if (is_unreserved(c))
        out.normal += c;
    else
        out.normal += cat('%', kDigits[*high], kDigits[*low]);
    out.decoded += c;
    return {};
}

static Result<Reading> read(std::string_view path) {
    Reading out;
    for (size_t i = 0; i < path.size(); i++) {
        char c = path[i];
        if (c == '%') {
            TRY(read_encoded(path.substr(i, 3), out));
            i += 2;
        } else if (is_unreserved(c) || is_plain_in_path(c)) {
            out.normal += c;
            out.decoded += c;
        } else if (c == ';') {
            return error("the path holds ';', at which some servers cut a segment off and others do not");
        } else if (c == '\\') {
            return error("the path holds a backslash, which some servers read as '/'");
        } else {
            return error("the path holds a character that must be encoded with '%'");
        }
    }
    return out;
}

// ".", "..", and what a server that drops dots and blanks at a name's end would make of "..%20".
static bool is_dots(std::string_view segment) {
    if (segment.empty()) return false;
    while (!segment.empty()) {
        size_t size = segment.starts_with('.') ? 1 : segment.starts_with("%20") ? 3 : 0;
        if (size == 0) return false;
        segment.remove_prefix(size);
    }
    return true;
}

Result<std::string> normal_request_path(std::string_view path) {
    if (!path.starts_with('/')) return error("the path does not begin with '/'");
    auto reading = TRY(read(path));
    // Bytes that are no UTF-8 may be another spelling of '/' or '.'; controls are no part of a name.
    if (printable(reading.decoded, reading.decoded.size()) != reading.decoded)
        return error("the path's encoded bytes are no text in UTF-8");
    auto segments = split(std::string_view(reading.normal).substr(1), '/');
    for (size_t i = 0; i < segments.size(); i++) {
        if (segments[i].empty() && i + 1 < segments.size())
            return error("the path holds \"//\", which some servers read as '/'");
        if (is_dots(segments[i])) return error("the path holds a segment of dots (\".\", \"..\")");
    }
    return std::move(reading.normal);
}

Result<RequestPathPattern> RequestPathPattern::parse(std::string_view text) {
    if (!text.starts_with('/')) return error("the path does not begin with '/'");
    RequestPathPattern pattern;
    std::string literal; // all but the wildcards, which are checked as what they may stand for
    for (auto segment : split(text.substr(1), '/')) {
        bool any = segment == "*";
        if (!any && segment.contains('*')) return error("'*' must be a whole segment, as in \"/v1/*\"");
        literal += cat('/', any ? std::string_view("x") : segment);
        pattern.segments_.emplace_back(any ? "*" : "");
    }
    auto normal = TRY(normal_request_path(literal));
    auto parts = split(std::string_view(normal).substr(1), '/');
    for (size_t i = 0; i < parts.size(); i++)
        if (pattern.segments_[i].empty()) pattern.segments_[i] = parts[i];
    pattern.below_ = pattern.segments_.back() == "*";
    if (pattern.below_) pattern.segments_.pop_back();
    return pattern;
}

bool RequestPathPattern::matches(std::string_view normal_path) const {
    if (!normal_path.starts_with('/')) return false;
    auto segments = split(normal_path.substr(1), '/');
    if (below_ ? segments.size() <= segments_.size() : segments.size() != segments_.size()) return false;
    for (size_t i = 0; i < segments_.size(); i++)
        if (segments_[i] == "*" ? segments[i].empty() : segments[i] != segments_[i]) return false;
    return true;
}

std::string wrong_request_path_pattern(std::string_view text) {
    auto pattern = RequestPathPattern::parse(text);
    if (pattern) return {};
    std::string_view hint = text.contains('?') ? " (the query is no part of it)" : "";
    return cat("must be a path such as \"/v1/models\" or \"/v1/*\"", hint, ", is \"", printable(text, 80),
               "\": ", pattern.error().message);
}

std::string wrong_request_method(std::string_view text) {
    if (text == "CONNECT" || text == "TRACE") return cat("must not be \"", text, "\", which nobody gets");
    std::string upper;
    for (char c : text) upper += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    auto allowed = [](char c) { return (c >= 'A' && c <= 'Z') || c == '-' || c == '_'; };
    bool method = !upper.empty() && upper.size() <= kMostMethodBytes && std::ranges::all_of(upper, allowed);
    if (method && upper == text) return {};
    if (method) return cat("must be in upper case, \"", upper, "\"; methods are compared letter by letter");
    return cat("must be a method such as \"GET\" or \"POST\", is \"", printable(text, 40), "\"");
}

std::string wrong_request_host(std::string_view text) {
    size_t colon = text.rfind(':');
    bool address = text.starts_with('[') || wrong_address(text).empty() ||
                   (colon != std::string_view::npos && wrong_address(text.substr(0, colon)).empty());
    if (address) return "must be a name; requests to a bare address are not looked into";
    return wrong_network_destination(text);
}

} // namespace nullbox::manifest
