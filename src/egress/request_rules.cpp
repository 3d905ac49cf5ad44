#include "egress/request_rules.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::egress {

constexpr size_t kMostShownPathBytes = 256;
constexpr size_t kMostPatternBytes = 512;
// Servers and frameworks that know these take the request for one of another method or path.
constexpr std::array<std::string_view, 6> kReplacing = {"X-HTTP-Method-Override", "X-HTTP-Method",
                                                        "X-Method-Override",      "X-Original-URL",
                                                        "X-Rewrite-URL",          "X-Original-URI"};

static bool may_use(const std::vector<std::string>& methods, const std::string& method) {
    return methods.empty() || std::ranges::find(methods, method) != methods.end();
}

static std::string joined(const std::vector<std::string>& list, std::string_view if_none) {
    std::string out;
    for (const auto& item : list) out += cat(out.empty() ? "" : ", ", item);
    return out.empty() ? std::string(if_none) : out;
}

bool RequestRules::Rule::covers(const HostName& host, uint16_t to) const {
    return (wildcard ? host.below(name) : host == name) && (port == 0 || port == to);
}

std::optional<std::string> RequestRules::Rule::match(const std::string& method,
                                                     const Result<std::string>& path) const {
    if (!may_use(source.methods, method)) return std::nullopt;
    auto text = [&](std::string_view pattern) {
        return cat(source.host, " ", source.methods.empty() ? "any method" : std::string_view(method), " ",
                   pattern);
    };
    if (patterns.empty()) return text("any path");
    if (!path) return std::nullopt;
    for (size_t i = 0; i < patterns.size(); i++)
        if (patterns[i].matches(*path)) return text(source.paths[i]);
    return std::nullopt;
}

Result<RequestRules::Rule> RequestRules::compile_rule(const manifest::RequestRule& source) {
    auto what = cat("rule for \"", printable(source.host, 80), "\": ");
    if (auto wrong = manifest::wrong_request_host(source.host); !wrong.empty())
        return error(cat(what, "its host ", wrong));
    for (const auto& method : source.methods)
        if (auto wrong = manifest::wrong_request_method(method); !wrong.empty())
            return error(cat(what, "a method ", wrong));
    if (source.methods.empty() && source.paths.empty()) return error(cat(what, "it says nothing"));
    std::string_view host = source.host;
    size_t colon = host.find(':');
    bool wildcard = host.starts_with("*.");
    Rule rule{.source = source,
              .name = TRY(HostName::parse(host.substr(0, colon).substr(wildcard ? 2 : 0))),
              .wildcard = wildcard};
    if (colon != std::string_view::npos) // the form has been checked
        rule.port = static_cast<uint16_t>(parse_number(host.substr(colon + 1), 1, 65535).value_or(0));
    for (const auto& path : source.paths)
        rule.patterns.push_back(TRY(manifest::RequestPathPattern::parse(path).context(
            cat(what, "path \"", printable(path, 80), "\""))));
    return rule;
}

Result<RequestRules> RequestRules::compile(const std::vector<manifest::RequestRule>& rules) {
    RequestRules compiled;
    for (const auto& rule : rules) compiled.rules_.push_back(TRY(compile_rule(rule)));
    return compiled;
}

bool RequestRules::hold(const HostName& host, uint16_t port) const {
    return std::ranges::any_of(rules_, [&](const Rule& rule) { return rule.covers(host, port); });
}

// CGI and what is like it read '-' and '_' in a header's name as the same.
static std::string_view replacing_header(const http::Fields& fields) {
    for (const auto& field : fields.all()) {
        auto name = field.name;
        std::ranges::replace(name, '_', '-');
        for (auto known : kReplacing)
            if (http::same_name(name, known)) return known;
    }
    return {};
}

// The line for a manifest; nothing if a manifest cannot say it.
static std::string line_for(const HostName& host, const std::string& method, const std::string& path) {
    if (!manifest::wrong_request_method(method).empty() || path.size() > kMostPatternBytes ||
        path.contains('*'))
        return {};
    return cat("rule = [{ host = \"", host.text(), "\", methods = [\"", method, "\"], paths = [\"", path,
               "\"] }]");
}

RequestDecision RequestRules::decide(const HostName& host, uint16_t port,
                                     const http::RequestHead& request) const {
    size_t end = std::min(request.target.find('?'), request.target.size());
    auto raw = std::string_view(request.target).substr(0, end);
    RequestDecision out{.target = request.target, .path = printable(raw, kMostShownPathBytes)};
    if (!hold(host, port)) {
        out.allowed = true;
        return out;
    }
    if (auto name = replacing_header(request.fields); !name.empty()) {
        out.reason = cat("the header ", name, " may make the server take this for another request");
        return out;
    }
    auto path = manifest::normal_request_path(raw);
    for (const auto& rule : rules_) {
        auto text = rule.covers(host, port) ? rule.match(request.method, path) : std::nullopt;
        if (!text) continue;
        out.allowed = true;
        out.rule = *std::move(text);
        if (path) out.target = *path + request.target.substr(end);
        return out;
    }
    if (!path)
        out.reason = cat(path.error().message, "; no rule covers a path that can be read in two ways");
    else
        out.reason = cat("no rule of the manifest covers such a request to ", host.text());
    if (path) out.add = line_for(host, request.method, *path);
    return out;
}

std::vector<std::string> RequestRules::texts(const HostName& host, uint16_t port) const {
    std::vector<std::string> out;
    for (const auto& rule : rules_)
        if (rule.covers(host, port))
            out.push_back(
                cat(joined(rule.source.methods, "any method"), " ", joined(rule.source.paths, "any path")));
    return out;
}

bool RequestRules::same(const RequestRules& other, const HostName& host, uint16_t port) const {
    std::vector<manifest::RequestRule> mine, its;
    for (const auto& rule : rules_)
        if (rule.covers(host, port)) mine.push_back(rule.source);
    for (const auto& rule : other.rules_)
        if (rule.covers(host, port)) its.push_back(rule.source);
    return mine == its;
}

} // namespace nullbox::egress
