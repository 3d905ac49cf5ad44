#include "egress/policy.h"

#include <algorithm>

#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::egress {

constexpr std::string_view kSecretMark = "{secret}";

std::string host_text(const Host& host) {
    if (const auto* name = std::get_if<HostName>(&host)) return name->text();
    return std::get<IpAddress>(host).text();
}

std::string Destination::text() const {
    const auto* address = std::get_if<IpAddress>(&host);
    if (address && address->v6) return cat("[", address->text(), "]:", port);
    return cat(host_text(host), ":", port);
}

static std::optional<uint16_t> parse_port(std::string_view text) {
    if (text.starts_with('0')) return std::nullopt;
    auto number = parse_number(text, 1, 65535);
    return number ? std::optional(static_cast<uint16_t>(*number)) : std::nullopt;
}

Result<Destination> Destination::parse(std::string_view text) {
    std::string_view host = text, port = "443";
    if (text.starts_with('[')) {
        size_t end = text.find("]:");
        if (end == std::string_view::npos)
            return error("an IPv6 destination is written with its port, such as [2001:db8::7]:443");
        host = text.substr(1, end - 1);
        port = text.substr(end + 2);
    } else if (size_t colon = text.rfind(':'); colon != std::string_view::npos) {
        host = text.substr(0, colon);
        port = text.substr(colon + 1);
    }
    auto number = parse_port(port);
    if (!number) return error(cat("the port must be from 1 to 65535, is \"", printable(port, 16), "\""));
    if (auto address = IpAddress::parse(host)) return Destination{*address, *number};
    return Destination{TRY(HostName::parse(host)), *number};
}

std::string_view mode_name(Mode mode) {
    switch (mode) {
    case Mode::Tls:
        return "splice";
    case Mode::Terminate:
        return "terminate";
    case Mode::Http:
        return "http";
    case Mode::Relay:
        return "relay";
    }
    return "?";
}

bool Policy::Rule::holds_for(uint16_t wanted) const {
    return port ? *port == wanted : wanted == kHttpPort || wanted == kTlsPort;
}

Result<Policy::Rule> Policy::compile_rule(const std::string& text) {
    if (auto wrong = manifest::wrong_network_destination(text); !wrong.empty())
        return error(cat("allow entry \"", printable(text, 80), "\" ", wrong));
    Rule rule{.text = text};
    std::string_view host = text;
    if (text.starts_with('[') || text.contains(':')) {
        size_t colon = text.rfind(':'); // the form has been checked: brackets around IPv6, one port
        rule.port = parse_port(host.substr(colon + 1));
        if (!rule.port) return error(cat("allow entry \"", printable(text, 80), "\" has no port after ':'"));
        host = host.substr(0, colon);
        if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
        rule.address = IpAddress::parse(host);
        if (rule.address) return rule;
    }
    rule.wildcard = host.starts_with("*.");
    rule.name = TRY(HostName::parse(rule.wildcard ? host.substr(2) : host));
    return rule;
}

static Result<> check_binding(const Binding& binding) {
    auto token = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view("!#$%&'*+-.^_`|~").contains(c);
    };
    auto visible = [](char c) { return c >= ' ' && c < 0x7f; };
    auto what = cat("binding of ", printable(binding.secret, 64), " to ", binding.host.text(), ": ");
    if (binding.header.empty() || !std::ranges::all_of(binding.header, token))
        return error(cat(what, "\"", printable(binding.header, 64), "\" is no name of a header"));
    // These decide where a request ends and whom it is for.
    std::string lower;
    for (char c : binding.header) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    for (std::string_view framing : {"host", "content-length", "transfer-encoding", "connection", "upgrade"})
        if (lower == framing) return error(cat(what, "a secret cannot go into ", binding.header));
    size_t mark = binding.format.find(kSecretMark);
    if (mark == std::string::npos || binding.format.find(kSecretMark, mark + 1) != std::string::npos ||
        !std::ranges::all_of(binding.format, visible))
        return error(
            cat(what, "the format must be one line with {secret} in it once, such as \"Bearer {secret}\""));
    return {};
}

Result<Policy> Policy::compile(const Source& source) {
    Policy policy;
    for (const auto& text : source.allow) {
        auto rule = TRY(compile_rule(text));
        auto key = rule.name ? rule.name->text() : rule.address->text();
        auto& index = rule.wildcard ? policy.below_ : policy.exact_;
        index[key].push_back(static_cast<uint32_t>(policy.rules_.size()));
        policy.rules_.push_back(std::move(rule));
    }
    for (const auto& text : source.allow_private)
        policy.private_.push_back(
            TRY(HostName::parse(text).context(cat("allow_private entry \"", printable(text, 80), "\""))));
    std::ranges::sort(policy.private_);
    for (const auto& binding : source.inject) {
        TRY(check_binding(binding));
        if (!policy.decide_name(binding.host).allowed)
            return error(cat("secret ", printable(binding.secret, 64), " is bound to ", binding.host.text(),
                             ", which the list of allowed hosts does not name"));
        policy.bindings_.push_back(binding);
    }
    policy.request_rules_ = TRY(RequestRules::compile(source.rules));
    policy.budget_ = source.budget;
    return policy;
}

NameDecision Policy::decide_name(const HostName& name) const {
    if (const Rule* rule = find(name, std::nullopt))
        return {.allowed = true, .by_wildcard = rule->wildcard, .rule = rule->text};
    return {.reason = cat("no entry of the manifest names ", name.text()),
            .add = cat("allow = [\"", name.text(), "\"]")};
}

const Policy::Rule* Policy::first(const std::vector<uint32_t>* places, std::optional<uint16_t> port) const {
    if (places)
        for (auto place : *places)
            if (!port || rules_[place].holds_for(*port)) return &rules_[place];
    return nullptr;
}

// An exact entry before a wildcard, and of those the one that the manifest has first. No port: any.
const Policy::Rule* Policy::find(const Host& host, std::optional<uint16_t> port) const {
    auto places = [](const Index& index, std::string_view key) {
        auto found = index.find(key);
        return found == index.end() ? nullptr : &found->second;
    };
    const auto text = host_text(host);
    if (const Rule* rule = first(places(exact_, text), port)) return rule;
    if (!std::holds_alternative<HostName>(host)) return nullptr;
    const Rule* found = nullptr;
    std::string_view suffix = text;
    for (size_t dot; (dot = suffix.find('.')) != suffix.npos;) {
        suffix.remove_prefix(dot + 1);
        const Rule* rule = first(places(below_, suffix), port);
        if (rule && (!found || rule < found)) found = rule;
    }
    return found;
}

bool Policy::private_allowed(const Host& host) const {
    // An address in the manifest is its own permission: whoever wrote 10.0.0.7:5432 meant that machine.
    const auto* name = std::get_if<HostName>(&host);
    return !name || std::ranges::binary_search(private_, *name);
}

Decision Policy::allow(const Rule& rule, const Destination& destination) const {
    Decision decision{.allowed = true, .rule = rule.text};
    decision.private_allowed = private_allowed(destination.host);
    const auto* name = std::get_if<HostName>(&destination.host);
    if (!name)
        decision.mode = Mode::Relay;
    else if (!bindings(*name).empty())
        decision.mode = Mode::Terminate;
    else if (request_rules_.hold(*name, destination.port))
        decision.mode = destination.port == kHttpPort ? Mode::Http : Mode::Terminate;
    else if (destination.port == kTlsPort)
        decision.mode = Mode::Tls;
    else if (destination.port == kHttpPort)
        decision.mode = Mode::Http;
    else
        decision.mode = Mode::Relay;
    return decision;
}

Decision Policy::deny(const Destination& destination) const {
    const auto* name = std::get_if<HostName>(&destination.host);
    bool usual = destination.port == kHttpPort || destination.port == kTlsPort;
    Decision decision;
    decision.add = cat("allow = [\"", name && usual ? name->text() : destination.text(), "\"]");
    decision.reason = name && decide_name(*name).allowed
                          ? cat("the manifest names ", name->text(), ", but not its port ", destination.port)
                          : cat("no entry of the manifest names ", destination.text());
    return decision;
}

Decision Policy::decide(const Destination& destination) const {
    if (const Rule* rule = find(destination.host, destination.port)) return allow(*rule, destination);
    return deny(destination);
}

std::vector<Endpoint4> Policy::literals() const {
    std::vector<Endpoint4> found;
    for (const auto& rule : rules_)
        if (rule.address && !rule.address->v6 && rule.port)
            found.push_back({*Ip4::parse(rule.address->text()), *rule.port});
    return found;
}

std::vector<const Binding*> Policy::bindings(const HostName& host) const {
    std::vector<const Binding*> found;
    for (const auto& binding : bindings_)
        if (binding.host == host) found.push_back(&binding);
    return found;
}

} // namespace nullbox::egress
