#include "gate/request_target.h"

#include <algorithm>

#include "base/text.h"
#include "net/identity.h"

namespace nullbox::gate {

constexpr size_t kMostNameBytes = 64;

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

// As varlink.org/Interface-Definition has them.
static bool is_interface(std::string_view text) {
    auto parts = split(text, '.');
    return text.size() <= kMostNameBytes && parts.size() >= 2 && std::ranges::all_of(parts, [](auto part) {
               return !part.empty() && std::ranges::all_of(part, [](char c) {
                   return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-';
               });
           });
}

static bool is_method(std::string_view text) {
    return !text.empty() && text.size() <= kMostNameBytes && text[0] >= 'A' && text[0] <= 'Z' &&
           std::ranges::all_of(text, [](char c) { return is_letter(c) || is_digit(c); });
}

// The form of agents' and images' names; the service checks them for itself.
static bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= kMostNameBytes && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-';
    });
}

static Target for_verb(std::string_view verb, std::string_view right, Target target) {
    if (verb == right) return target;
    return {.kind = Target::Kind::WrongVerb, .first = std::string(right)};
}

Target parse_target(std::string_view verb, std::string_view target) {
    constexpr std::string_view kPrefix = "/v1/";
    if (!target.starts_with(kPrefix)) return {};
    target.remove_prefix(kPrefix.size());
    if (target == "openapi.json") return for_verb(verb, "GET", {.kind = Target::Kind::Description});
    std::string_view query;
    if (auto mark = target.find('?'); mark != std::string_view::npos) {
        query = target.substr(mark + 1);
        target = target.substr(0, mark);
        if (query != "more=1" && query != "more=0") return {};
    }
    auto parts = split(target, '/');
    if (parts.size() == 3 && parts[0] == "upload" && query.empty() && is_name(parts[1]) && is_name(parts[2]))
        return for_verb(
            verb, "PUT",
            {.kind = Target::Kind::Upload, .first = std::string(parts[1]), .second = std::string(parts[2])});
    if (parts.size() == 2 && (parts[0] == "exec" || parts[0] == "copy") && query.empty() && is_name(parts[1]))
        return for_verb(
            verb, "POST",
            {.kind = Target::Kind::Exec, .first = std::string(parts[0]), .second = std::string(parts[1])});
    if (parts.size() != 2 || !is_interface(parts[0]) || !is_method(parts[1])) return {};
    return for_verb(verb, "POST",
                    {.kind = Target::Kind::Call,
                     .first = std::string(parts[0]),
                     .second = std::string(parts[1]),
                     .more = query == "more=1"});
}

std::optional<std::string> parse_digest(std::string_view header) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    constexpr size_t kMostMembers = 8;
    auto members = split(header, ',');
    if (members.size() > kMostMembers) return std::nullopt;
    for (auto member : members) {
        member = trim(member);
        constexpr std::string_view kBefore = "sha-256=:";
        if (!member.starts_with(kBefore) || !member.ends_with(':') || member.size() <= kBefore.size())
            continue;
        auto bytes = net::from_base64(member.substr(kBefore.size(), member.size() - kBefore.size() - 1));
        if (!bytes.has_value() || bytes->size() != 32) return std::nullopt;
        std::string hex;
        for (char c : *bytes) {
            auto byte = static_cast<unsigned char>(c);
            (hex += kDigits[byte >> 4]) += kDigits[byte & 15];
        }
        return hex;
    }
    return std::nullopt;
}

} // namespace nullbox::gate
