#include "ctxgraph/entry.h"

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "ctxgraph/sha256.h"

namespace nullbox::ctxgraph {

constexpr std::string_view kLinkPrefix = "link:";
constexpr size_t kIdDigits = 64;

std::string_view kind_name(Kind kind) {
    switch (kind) {
    case Kind::Value:
        return "value";
    case Kind::Tombstone:
        return "tombstone";
    case Kind::Link:
        return "link";
    }
    return "";
}

std::optional<Kind> kind_of(std::string_view name) {
    for (auto kind : {Kind::Value, Kind::Tombstone, Kind::Link})
        if (kind_name(kind) == name) return kind;
    return std::nullopt;
}

std::string canonical(const Entry& entry) {
    std::string out = R"({"author":)"; // the names are in canonical order
    append_quoted(out, entry.author);
    out += R"(,"key":)";
    append_quoted(out, entry.key);
    out += cat(R"(,"kind":")", kind_name(entry.kind), R"(","namespace":)");
    append_quoted(out, entry.space);
    out += R"(,"parents":[)";
    for (const auto& parent : entry.parents) {
        if (&parent != entry.parents.data()) out += ',';
        append_quoted(out, parent);
    }
    return cat(out, R"(],"value":)", entry.value, "}");
}

std::string entry_id(const Entry& entry) { return sha256_hex(canonical(entry)); }

static bool all_of(std::string_view text, std::string_view allowed) {
    return text.find_first_not_of(allowed) == std::string_view::npos;
}

constexpr std::string_view kLowerAndDigits = "abcdefghijklmnopqrstuvwxyz0123456789";

std::string wrong_namespace(std::string_view text) {
    bool right = !text.empty() && text.size() <= kMaxNamespaceBytes &&
                 all_of(text, cat(kLowerAndDigits, "-")) && text.front() != '-' && text.back() != '-';
    return right ? "" : cat("must be 1 to ", kMaxNamespaceBytes, " lower-case letters, digits and inner -");
}

std::string wrong_key(std::string_view text) {
    bool control =
        std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
    if (text.empty() || text.size() > kMaxKeyBytes || control || !valid_utf8(text))
        return cat("must be 1 to ", kMaxKeyBytes, " bytes of UTF-8 without control characters");
    if (text.starts_with(kLinkPrefix)) return "must not begin with \"link:\", which is for links";
    return "";
}

std::string wrong_id(std::string_view text) {
    bool right = text.size() == kIdDigits && all_of(text, "0123456789abcdef");
    return right ? "" : "must be an entry's id: 64 lower-case hexadecimal digits";
}

std::string wrong_relation(std::string_view text) {
    bool right =
        !text.empty() && text.size() <= kMaxRelationBytes && all_of(text, cat(kLowerAndDigits, "-_"));
    return right ? "" : cat("must be 1 to ", kMaxRelationBytes, " lower-case letters, digits, - and _");
}

Result<std::string> canonical_value(const Json& value) {
    if (nesting_of(value) > kMaxValueNesting)
        return Error{.code = EINVAL, .message = cat("the value is nested deeper than ", kMaxValueNesting)};
    auto text = canonical(value);
    if (text.size() > kMaxValueBytes)
        return Error{.code = E2BIG,
                     .message = cat("the value is ", text.size(), " bytes; at most ", kMaxValueBytes,
                                    " go into one entry: split it, and link the parts")};
    return text;
}

Result<std::string> canonical_value(std::string_view text) {
    auto value = parse_json(text, {.nesting = kMaxValueNesting});
    if (!value.has_value())
        return Error{.code = EINVAL, .message = cat("the value: ", value.error().message)};
    return canonical_value(*value);
}

std::string link_key(std::string_view from, std::string_view relation, std::string_view to) {
    return cat(kLinkPrefix, from, ":", relation, ":", to);
}

std::string link_value(std::string_view from, std::string_view relation, std::string_view to) {
    return cat(R"({"from":")", from, R"(","relation":")", relation, R"(","to":")", to, R"("})");
}

std::optional<LinkEnds> parse_link_key(std::string_view key) {
    if (!key.starts_with(kLinkPrefix)) return std::nullopt;
    auto parts = split(key.substr(kLinkPrefix.size()), ':');
    if (parts.size() != 3 || !wrong_id(parts[0]).empty() || !wrong_relation(parts[1]).empty() ||
        !wrong_id(parts[2]).empty())
        return std::nullopt;
    return LinkEnds{std::string(parts[0]), std::string(parts[1]), std::string(parts[2])};
}

} // namespace nullbox::ctxgraph
