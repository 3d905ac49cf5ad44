#include "cage/manifest_words.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/text.h"
#include "cage/shares.h"

namespace nullbox::cage {

namespace json = boost::json;

static json::array texts(const std::vector<std::string>& list) {
    return json::array(list.begin(), list.end());
}

static std::string joined(const std::vector<std::string>& list, std::string_view if_none) {
    std::string out;
    for (const auto& item : list) out += cat(out.empty() ? "" : ", ", item);
    return out.empty() ? std::string(if_none) : out;
}

static json::array credentials(const manifest::AgentManifest& manifest) {
    json::array list;
    for (const auto& credential : manifest.credentials) {
        json::array inject;
        for (const auto& one : credential.inject)
            inject.push_back(
                json::object{{"host", one.host}, {"header", one.header}, {"format", one.format}});
        list.push_back(json::object{{"name", credential.name},
                                    {"variable", credential.variable},
                                    {"exposed", credential.exposed},
                                    {"inject", std::move(inject)}});
    }
    return list;
}

static json::value health_check(const manifest::AgentManifest& manifest) {
    if (manifest.health_check.empty()) return nullptr;
    const auto& check = manifest.health_check.front();
    return json::object{{"kind", check.kind},         {"port", check.port},
                        {"path", check.path},         {"interval_ms", check.interval.count()},
                        {"failures", check.failures}, {"grace_ms", check.grace.count()}};
}

static std::string_view restart_name(manifest::RestartPolicy policy) {
    switch (policy) {
    case manifest::RestartPolicy::Always:
        return "always";
    case manifest::RestartPolicy::OnFailure:
        return "on-failure";
    case manifest::RestartPolicy::Never:
        return "never";
    }
    return "never";
}

static json::value if_said(bool said, json::value value) {
    return said ? std::move(value) : json::value(nullptr);
}

json::array request_rules_as_json(const std::vector<manifest::RequestRule>& rules) {
    json::array out;
    for (const auto& rule : rules)
        out.push_back(json::object{
            {"host", rule.host}, {"methods", texts(rule.methods)}, {"paths", texts(rule.paths)}});
    return out;
}

json::object network_budget_as_json(const manifest::NetworkBudget& budget) {
    return {{"bytes", budget.bytes}, {"connections", budget.connections}, {"requests", budget.requests}};
}

json::object manifest_as_json(const manifest::AgentManifest& manifest) {
    // The variables' names only: what people put into an environment is not for every reader.
    json::array variables;
    for (const auto& [name, value] : manifest.environment) variables.emplace_back(name);
    return {
        {"name", manifest.name},
        {"version", manifest.version},
        {"image", manifest.image},
        {"command", texts(manifest.command)},
        {"variables", std::move(variables)},
        {"working_directory", if_said(manifest.has_working_directory, manifest.working_directory.c_str())},
        {"user", if_said(manifest.has_user, manifest.uid)},
        {"group", if_said(manifest.has_user || manifest.has_group, manifest.gid)},
        {"start_at_boot", manifest.start_at_boot},
        {"restart", restart_name(manifest.restart)},
        {"max_cpu_percent", manifest.max_cpu_percent},
        {"max_memory_mb", manifest.max_memory_mb},
        {"network_allow", texts(manifest.network_allow)},
        {"network_allow_private", texts(manifest.network_allow_private)},
        {"network_rules", request_rules_as_json(manifest.network_rules)},
        {"network_budget", network_budget_as_json(manifest.network_budget)},
        {"filesystem_read", texts(manifest.read_paths)},
        {"filesystem_write", texts(manifest.write_paths)},
        {"credentials", credentials(manifest)},
        {"memory_read", texts(manifest.memory_read)},
        {"memory_write", texts(manifest.memory_write)},
        {"memory_max_entries", manifest.memory_max_entries},
        {"memory_max_bytes", manifest.memory_max_bytes},
        {"health_check", health_check(manifest)}};
}

static std::string about(const manifest::Credential& credential) {
    if (credential.exposed)
        return cat("see the exposed secret ", credential.name, " itself, in its variable ",
                   credential.variable);
    if (credential.inject.empty())
        return cat("hold a stand-in for the secret ", credential.name, ", which nobody gets");
    std::string hosts;
    for (const auto& one : credential.inject)
        hosts += cat(hosts.empty() ? "" : ", ", one.host, " in the header ", one.header);
    return cat("use the secret ", credential.name, " without seeing it: only for ", hosts);
}

std::vector<std::string> may_do(const manifest::AgentManifest& manifest) {
    std::vector<std::string> lines;
    for (const auto& destination : manifest.network_allow) {
        bool is_private = std::ranges::contains(manifest.network_allow_private, destination);
        lines.push_back(cat("reach ", destination, is_private ? ", also at a private address" : ""));
    }
    if (manifest.network_allow.empty()) lines.emplace_back("reach nothing: it has no network");
    for (const auto& rule : manifest.network_rules)
        lines.push_back(cat("of ", rule.host, " ask only: ", joined(rule.methods, "any method"), " ",
                            joined(rule.paths, "any path")));
    const auto& budget = manifest.network_budget;
    if (budget.bytes)
        lines.push_back(cat("move at most ", budget.bytes >> 20, " MiB an hour over the network"));
    if (budget.connections) lines.push_back(cat("make at most ", budget.connections, " connections an hour"));
    if (budget.requests) lines.push_back(cat("make at most ", budget.requests, " requests an hour"));
    for (const auto& credential : manifest.credentials) lines.push_back(about(credential));
    for (const auto& space : manifest.memory_read) lines.push_back(cat("read the memory ", space));
    for (const auto& space : manifest.memory_write) lines.push_back(cat("write the memory ", space));
    for (const auto& folder : shared_folders(manifest))
        lines.push_back(
            cat(folder.read_only ? "read" : "read and write", " the shared folder ", folder.path));
    lines.push_back(cat("use ", manifest.max_memory_mb, " MB of memory and ", manifest.max_cpu_percent,
                        " % of a processor"));
    return lines;
}

} // namespace nullbox::cage
