#include "manifest/network.h"

#include <algorithm>

#include "base/text.h"
#include "manifest/credentials.h"
#include "manifest/forms.h"
#include "manifest/public_suffix.h"
#include "manifest/request_path.h"

namespace nullbox::manifest {

constexpr size_t kMostRules = 64;
constexpr std::string_view kRuleExample =
    "[[capabilities.network.rule]] with host = \"api.example.org\" and paths = [\"/v1/*\"]";

namespace {
struct Split {
    std::string_view name, port; // name without "*."; port empty: 80 and 443 in allow, all in a rule
    bool wildcard = false;
};
} // namespace

static Split split_entry(std::string_view entry) {
    size_t colon = entry.rfind(':');
    Split out{.name = entry.substr(0, colon)};
    if (colon != std::string_view::npos) out.port = entry.substr(colon + 1);
    out.wildcard = out.name.starts_with("*.");
    if (out.wildcard) out.name.remove_prefix(2);
    return out;
}

static bool is_below(std::string_view name, std::string_view suffix) {
    return name.size() > suffix.size() + 1 && name.ends_with(suffix) &&
           name[name.size() - suffix.size() - 1] == '.';
}

// Whether some name with some port is meant by both.
static bool meet(const Split& entry, const Split& rule) {
    bool name = entry.name == rule.name && entry.wildcard == rule.wildcard;
    if (entry.wildcard) name |= is_below(rule.name, entry.name);
    if (rule.wildcard) name |= is_below(entry.name, rule.name);
    bool usual = rule.port == "80" || rule.port == "443";
    return name && (rule.port.empty() || entry.port == rule.port || (entry.port.empty() && usual));
}

static void read_rule(Report& report, const Value& table, const std::string& path, AgentManifest& manifest,
                      std::span<const Section::Home> homes) {
    Section section(report, table, path);
    RequestRule rule;
    bool right = section.text(
        "host",
        {.example = "\"api.example.org\"", .most_bytes = 300, .wrong = wrong_request_host, .required = true},
        rule.host);
    auto met = [&](const std::string& entry) { return meet(split_entry(entry), split_entry(rule.host)); };
    if (right && std::ranges::none_of(manifest.network_allow, met))
        section.wrong("host", cat("names \"", rule.host, "\", which allow does not name; add it there"));
    section.list("methods",
                 {.example = "[\"GET\", \"HEAD\"]",
                  .most_items = 16,
                  .most_bytes = 32,
                  .wrong = wrong_request_method,
                  .filled = true},
                 rule.methods);
    section.list("paths",
                 {.example = "[\"/v1/models\", \"/v1/chat/*\"]",
                  .most_items = 64,
                  .most_bytes = 512,
                  .wrong = wrong_request_path_pattern,
                  .filled = true},
                 rule.paths);
    if (!section.has("methods") && !section.has("paths"))
        section.wrong("host", "has a rule that says nothing; add methods, paths or both");
    section.finish(homes);
    manifest.network_rules.push_back(std::move(rule));
}

static void read_rules(Report& report, Section& network, AgentManifest& manifest,
                       std::span<const Section::Home> homes) {
    const Entry* found = network.entry("rule");
    if (!found) return;
    const Value& value = found->value;
    if (value.kind != Value::Kind::List)
        return network.wrong(
            "rule", cat("must be a list of tables, is ", kind_name(value.kind), "; write ", kRuleExample));
    if (value.items.size() > kMostRules)
        return network.wrong("rule",
                             cat("must have at most ", kMostRules, " entries, has ", value.items.size()));
    for (size_t i = 0; i < value.items.size(); i++) {
        const Value& item = value.items[i];
        auto path = cat(network.path_of("rule"), "[", i, "]");
        if (item.kind == Value::Kind::Table)
            read_rule(report, item, path, manifest, homes);
        else
            report.add(item.at, path,
                       cat("must be a table, is ", kind_name(item.kind), "; write ", kRuleExample));
    }
}

// "*.co.uk" is half the world, and nobody means it.
static std::string wrong_entry(std::string_view text) {
    if (auto wrong = wrong_network_destination(text); !wrong.empty()) return wrong;
    auto entry = split_entry(text);
    if (!entry.wildcard || !is_public_suffix(entry.name)) return {};
    return cat("must not be all of ", entry.name, ", below which anybody may have a name; write \"*.example.",
               entry.name, "\"");
}

static void read_budget(Report& report, const Value& table, AgentManifest& manifest,
                        std::span<const Section::Home> homes) {
    Section section(report, table, "capabilities.network.budget");
    auto& budget = manifest.network_budget;
    uint64_t megabytes = 0;
    section.number("mb_per_hour", {.least = 1, .most = 1 << 24}, megabytes);
    budget.bytes = megabytes << 20;
    section.number("connections_per_hour", {.least = 1, .most = 100'000'000}, budget.connections);
    section.number("requests_per_hour", {.least = 1, .most = 100'000'000}, budget.requests);
    section.finish(homes);
}

void read_network(Report& report, const Value& table, AgentManifest& manifest,
                  std::span<const Section::Home> homes) {
    Section section(report, table, "capabilities.network");
    section.list(
        "allow",
        {.example = "[\"api.example.org\"]", .most_items = 256, .most_bytes = 300, .wrong = wrong_entry},
        manifest.network_allow);
    std::vector<std::string> names;
    section.list(
        "allow_private",
        {.example = "[\"nas.example.org\"]", .most_items = 64, .most_bytes = 253, .wrong = wrong_host_name},
        names);
    for (size_t i = 0; i < names.size(); i++)
        if (!is_allowed(manifest.network_allow, names[i]))
            section.wrong("allow_private",
                          cat("names \"", names[i], "\", which allow does not name; add it there"));
    manifest.network_allow_private = std::move(names);
    read_rules(report, section, manifest, homes);
    if (const Value* budget = section.table("budget", false, "[capabilities.network.budget]"))
        read_budget(report, *budget, manifest, homes);
    section.finish(homes);
}

} // namespace nullbox::manifest
