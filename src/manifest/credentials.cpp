#include "manifest/credentials.h"

#include <algorithm>

#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::manifest {

constexpr size_t kMostCredentials = 32;
constexpr size_t kMostInjects = 16; // of one secret
constexpr size_t kMostNameBytes = 64;
constexpr std::string_view kTable = "[capabilities.credentials.NAME]";

bool is_allowed(const std::vector<std::string>& network_allow, std::string_view host) {
    return std::ranges::any_of(network_allow, [host](std::string_view entry) {
        size_t colon = entry.find(':');
        if (colon != std::string_view::npos && entry.substr(colon) == ":80") return false;
        auto name = entry.substr(0, colon);
        if (name.starts_with("*.")) return host.size() > name.size() - 1 && host.ends_with(name.substr(1));
        return name == host;
    });
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// A secret's name may have characters that a variable's may not.
static std::string variable_of(std::string_view name) {
    std::string variable(name);
    for (char& c : variable)
        if (c == '-' || c == '.') c = '_';
    if (variable[0] >= '0' && variable[0] <= '9') variable.insert(0, "_");
    return variable;
}

static void read_inject(Report& report, const Value& table, const std::string& path, AgentManifest& manifest,
                        Credential& credential, std::span<const Section::Home> homes) {
    Section section(report, table, path);
    Credential::Inject inject{.format = std::string(kSecretMark)};
    bool right = section.text(
        "host",
        {.example = "\"api.example.org\"", .most_bytes = 253, .wrong = wrong_host_name, .required = true},
        inject.host);
    if (right && !is_allowed(manifest.network_allow, inject.host)) {
        section.wrong("host", cat("must be a name that the agent may reach over TLS; add \"", inject.host,
                                  "\" to allow in [capabilities.network]"));
        right = false;
    }
    right &= section.text("header",
                          {.example = "\"Authorization\"",
                           .most_bytes = kMostNameBytes,
                           .wrong = wrong_secret_header,
                           .required = true},
                          inject.header);
    section.text("format",
                 {.example = "\"Bearer {secret}\"", .most_bytes = 256, .wrong = wrong_secret_format},
                 inject.format);
    section.finish(homes);
    auto same_place = [&](const Credential::Inject& other) {
        return other.host == inject.host && std::ranges::equal(other.header, inject.header, {}, lower, lower);
    };
    auto taken = [&](const Credential& other) { return std::ranges::any_of(other.inject, same_place); };
    if (right && (taken(credential) || std::ranges::any_of(manifest.credentials, taken)))
        section.wrong("header", cat("is given a secret for ", inject.host, " already; a header holds one"));
    credential.inject.push_back(std::move(inject));
}

// One table, or a list of them.
static void read_injects(Report& report, Section& section, AgentManifest& manifest, Credential& credential,
                         std::span<const Section::Home> homes) {
    const Entry* found = section.entry("inject");
    if (!found) return;
    constexpr std::string_view kExample =
        "; for example inject = { host = \"api.example.org\", header = \"Authorization\", "
        "format = \"Bearer {secret}\" }";
    auto path = section.path_of("inject");
    const Value& value = found->value;
    if (value.kind == Value::Kind::Table)
        return read_inject(report, value, path, manifest, credential, homes);
    if (value.kind != Value::Kind::List)
        return section.wrong(
            "inject", cat("must be a table or a list of tables, is ", kind_name(value.kind), kExample));
    if (value.items.empty() || value.items.size() > kMostInjects)
        return section.wrong(
            "inject", cat("must have 1 to ", kMostInjects, " entries, has ", value.items.size(), kExample));
    for (size_t i = 0; i < value.items.size(); i++) {
        const Value& item = value.items[i];
        auto item_path = cat(path, "[", i, "]");
        if (item.kind == Value::Kind::Table)
            read_inject(report, item, item_path, manifest, credential, homes);
        else
            report.add(item.at, item_path, cat("must be a table, is ", kind_name(item.kind), kExample));
    }
}

// The variable must hold one thing.
static std::string wrong_variable(const AgentManifest& manifest, const std::string& variable) {
    if (manifest.environment.contains(variable))
        return cat("is \"", variable, "\", which [agent.environment] sets as well; remove it there");
    auto other = std::ranges::find(manifest.credentials, variable, &Credential::variable);
    if (other == manifest.credentials.end()) return {};
    return cat("is \"", variable, "\", which the credential ", other->name, " has as well");
}

static void read_credential(Report& report, const Entry& entry, const std::string& path,
                            AgentManifest& manifest, std::span<const Section::Home> homes) {
    Section section(report, entry.value, path);
    Credential credential{.name = entry.key, .variable = variable_of(entry.key)};
    section.text(
        "variable",
        {.example = cat("\"", credential.variable, "\""), .most_bytes = 128, .wrong = wrong_environment_name},
        credential.variable);
    section.boolean("exposed", credential.exposed);
    read_injects(report, section, manifest, credential, homes);
    section.finish(homes);
    if (credential.exposed && section.has("inject"))
        section.wrong("exposed", "must not be true beside inject; an exposed secret is the agent's to send");
    if (auto wrong = wrong_variable(manifest, credential.variable); !wrong.empty())
        section.wrong("variable", wrong);
    manifest.credentials.push_back(std::move(credential));
}

void read_credentials(Report& report, Section& capabilities, AgentManifest& manifest,
                      std::span<const Section::Home> homes) {
    const Value* table = capabilities.table("credentials", false, kTable);
    if (!table) return;
    if (table->entries.size() + manifest.credentials.size() > kMostCredentials)
        return capabilities.wrong("credentials", cat("must have at most ", kMostCredentials, " entries, has ",
                                                     table->entries.size() + manifest.credentials.size()));
    for (const Entry& entry : table->entries) {
        auto path = cat(capabilities.path_of("credentials"), ".", entry.key);
        auto wrong = wrong_secret_name(entry.key);
        if (entry.key.size() > kMostNameBytes)
            wrong = cat("must be 1 to ", kMostNameBytes, " bytes long, is ", entry.key.size());
        if (wrong.empty() && entry.value.kind != Value::Kind::Table)
            wrong = cat("must be a table, is ", kind_name(entry.value.kind), "; write ", kTable);
        if (wrong.empty() && std::ranges::find(manifest.credentials, entry.key, &Credential::name) !=
                                 manifest.credentials.end())
            wrong = "is in credential_refs as well; remove it there";
        if (wrong.empty())
            read_credential(report, entry, path, manifest, homes);
        else
            report.add(entry.at, path, wrong);
    }
}

void read_credential_refs(Section& section, AgentManifest& manifest) {
    std::vector<std::string> names;
    ListRule rule{.example = "[\"OPENAI_API_KEY\"]",
                  .most_items = kMostCredentials,
                  .most_bytes = kMostNameBytes,
                  .wrong = wrong_secret_name};
    if (!section.list("credential_refs", rule, names)) return;
    for (const auto& name : names) {
        auto variable = variable_of(name);
        if (auto wrong = wrong_variable(manifest, variable); !wrong.empty())
            section.wrong("credential_refs", cat("names ", name, ", whose variable ", wrong));
        manifest.credentials.push_back({.name = name, .variable = variable});
    }
}

} // namespace nullbox::manifest
