#include "nullctl/powers.h"

#include "base/text.h"

namespace nullbox::nullctl {

using manifest::AgentManifest;
using manifest::Credential;

static std::string joined(const std::vector<std::string>& list, std::string_view between = ", ") {
    std::string out;
    for (const auto& item : list) out += cat(out.empty() ? "" : between, item);
    return out;
}

static void add_program(const AgentManifest& manifest, std::vector<Power>& out) {
    std::string_view ends = manifest.restart == manifest::RestartPolicy::Always ? ", again whenever it ends"
                            : manifest.restart == manifest::RestartPolicy::OnFailure ? ", again when it fails"
                                                                                     : "";
    out.push_back({cat("runs      ",
                       manifest.command.empty() ? "what its image names" : joined(manifest.command, " "))});
    out.push_back({cat("          in its own VM from the image ", manifest.image, ", ",
                       manifest.start_at_boot ? "at every boot" : "when it is started by hand", ends)});
    out.push_back({cat("uses      at most ", manifest.max_memory_mb, " MB of memory and ",
                       manifest.max_cpu_percent, "% of a processor")});
}

static void add_network(const AgentManifest& manifest, std::vector<Power>& out) {
    if (manifest.network_allow.empty()) out.push_back({"network   reaches nothing"});
    bool first = true;
    for (const auto& entry : manifest.network_allow) {
        bool wide = entry.starts_with("*.");
        out.push_back({cat(first ? "network   reaches " : "          and     ", entry,
                           wide ? " (every name below it)" : ""),
                       wide ? Tone::Caution : Tone::Plain});
        first = false;
    }
    for (const auto& rule : manifest.network_rules)
        out.push_back({cat("          of      ", rule.host, " only ",
                           rule.methods.empty() ? "any method" : joined(rule.methods), " ",
                           rule.paths.empty() ? "any path" : joined(rule.paths))});
    const auto& budget = manifest.network_budget;
    auto line = [&](uint64_t limit, std::string_view what) {
        if (limit) out.push_back({cat("          at most ", limit, " ", what, " an hour")});
    };
    line(budget.bytes >> 20, "MiB");
    line(budget.connections, "connections");
    line(budget.requests, "requests");
    for (const auto& entry : manifest.network_allow_private)
        out.push_back(
            {cat("          ", entry, " may be an address inside your own network"), Tone::Caution});
}

static void add_secrets(const AgentManifest& manifest, std::vector<Power>& out) {
    if (manifest.credentials.empty()) out.push_back({"secrets   none"});
    std::string_view title = "secrets   ";
    for (const Credential& credential : manifest.credentials) {
        if (credential.exposed)
            out.push_back({cat(title, credential.name, " is EXPOSED: the agent is told its value in $",
                               credential.variable, " and can pass it on"),
                           Tone::Danger});
        else if (credential.inject.empty())
            out.push_back({cat(title, credential.name, ": a placeholder in $", credential.variable,
                               "; its value goes nowhere")});
        for (const auto& inject : credential.inject) {
            out.push_back({cat(title, credential.name, " goes to ", inject.host, " in the header ",
                               inject.header, "; the agent sees a placeholder in $", credential.variable)});
            title = "          ";
        }
        title = "          ";
    }
}

static void add_memory(const AgentManifest& manifest, std::vector<Power>& out) {
    if (manifest.memory_read.empty() && manifest.memory_write.empty()) {
        out.push_back({"memory    none"});
        return;
    }
    if (!manifest.memory_read.empty()) out.push_back({cat("memory    reads ", joined(manifest.memory_read))});
    if (!manifest.memory_write.empty())
        out.push_back({cat(manifest.memory_read.empty() ? "memory    writes " : "          writes ",
                           joined(manifest.memory_write), ", at most ", manifest.memory_max_entries,
                           " entries and ", manifest.memory_max_bytes >> 20, " MB")});
}

static void add_folders(const AgentManifest& manifest, std::vector<Power>& out) {
    if (manifest.read_paths.empty() && manifest.write_paths.empty())
        out.push_back({"folders   none of the box's; what it writes is gone when it ends"});
    std::string_view title = "folders   ";
    for (const auto& path : manifest.read_paths) {
        out.push_back({cat(title, "reads ", path)});
        title = "          ";
    }
    for (const auto& path : manifest.write_paths) {
        out.push_back({cat(title, "reads and writes ", path)});
        title = "          ";
    }
}

std::vector<Power> powers_of(const AgentManifest& manifest) {
    std::vector<Power> out;
    out.push_back({cat("agent ", manifest.name, " ", manifest.version), Tone::Strong});
    add_program(manifest, out);
    add_network(manifest, out);
    add_secrets(manifest, out);
    add_memory(manifest, out);
    add_folders(manifest, out);
    return out;
}

} // namespace nullbox::nullctl
