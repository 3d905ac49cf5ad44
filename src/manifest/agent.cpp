#include "manifest/agent.h"

#include <array>

#include "base/text.h"
#include "manifest/credentials.h"
#include "manifest/forms.h"
#include "manifest/network.h"
#include "manifest/section.h"

namespace nullbox::manifest {

constexpr size_t kMostDocumentBytes = size_t{64} << 10;
constexpr int64_t kMostId = 4'294'967'294; // the last value means "none" to the kernel

static constexpr std::array<std::pair<std::string_view, RestartPolicy>, 3> kRestartPolicies = {{
    {"always", RestartPolicy::Always},
    {"on-failure", RestartPolicy::OnFailure},
    {"never", RestartPolicy::Never},
}};
static constexpr std::array<std::pair<std::string_view, bool>, 2> kStarts = {{
    {"boot", true},
    {"manual", false},
}};

// Keys are easily written below the wrong table's header; the message then says where they belong.
static constexpr std::array<Section::Home, 52> kHomes = {{
    {"name", "[agent]"},
    {"version", "[agent]"},
    {"image", "[agent]"},
    {"command", "[agent]"},
    {"environment", "[agent]"},
    {"env", "[agent] as \"environment\""},
    {"working_directory", "[agent]"},
    {"user", "[agent]"},
    {"group", "[agent]"},
    {"start", "[agent]"},
    {"restart", "[agent]"},
    {"max_cpu_percent", "[capabilities]"},
    {"max_memory_mb", "[capabilities]"},
    {"scratch_mb", "[capabilities]"},
    {"disk_mbps", "[capabilities]"},
    {"disk_iops", "[capabilities]"},
    {"credential_refs", "[capabilities]"},
    {"network", "[capabilities] as [capabilities.network]"},
    {"filesystem", "[capabilities] as [capabilities.filesystem]"},
    {"allow", "[capabilities.network]"},
    {"allow_private", "[capabilities.network]"},
    {"rule", "[capabilities.network] as [[capabilities.network.rule]]"},
    {"rules", "[capabilities.network] as [[capabilities.network.rule]]"},
    {"host", "[[capabilities.network.rule]], or inject of [capabilities.credentials.NAME]"},
    {"budget", "[capabilities.network] as [capabilities.network.budget]"},
    {"mb_per_hour", "[capabilities.network.budget]"},
    {"connections_per_hour", "[capabilities.network.budget]"},
    {"requests_per_hour", "[capabilities.network.budget]"},
    {"methods", "[[capabilities.network.rule]]"},
    {"paths", "[[capabilities.network.rule]]"},
    {"credentials", "[capabilities] as [capabilities.credentials.NAME]"},
    {"inject", "[capabilities.credentials.NAME]"},
    {"variable", "[capabilities.credentials.NAME]"},
    {"exposed", "[capabilities.credentials.NAME]"},
    {"header", "inject of [capabilities.credentials.NAME]"},
    {"format", "inject of [capabilities.credentials.NAME]"},
    {"read", "[capabilities.filesystem] or [capabilities.memory]"},
    {"write", "[capabilities.filesystem] or [capabilities.memory]"},
    {"memory", "[capabilities] as [capabilities.memory]"},
    {"max_entries", "[capabilities.memory]"},
    {"max_mb", "[capabilities.memory]"},
    {"kind", "[health_check]"},
    {"port", "[health_check]"},
    {"path", "[health_check]"},
    {"interval_seconds", "[health_check]"},
    {"failures", "[health_check]"},
    {"grace_seconds", "[health_check]"},
    {"agent", "the top of the document as [agent]"},
    {"capabilities", "the top of the document as [capabilities]"},
    {"health_check", "the top of the document as [health_check]"},
    {"memory_mb", "[capabilities] as \"max_memory_mb\""},
    {"cpu_percent", "[capabilities] as \"max_cpu_percent\""},
}};

// A folder that the agent asks for is one folder, never the whole tree.
static std::string wrong_shared_path(std::string_view text) {
    if (text == "/") return "must name a folder, not the whole file system";
    return wrong_path(text);
}

static std::string wrong_health_path(std::string_view text) {
    bool right = text.starts_with('/');
    for (char c : text) right &= c > ' ' && c < 0x7f;
    if (right) return {};
    return cat("must be a path of an HTTP request, such as \"/health\", is \"", printable(text, 80), "\"");
}

// "/agent/hello.toml" holds the agent "hello". A document named AGENT.toml, or not .toml at all, is not yet
// at its place, so its name says nothing.
static void check_file_name(Section& section, std::string_view file_name, const std::string& name) {
    auto base = file_name.substr(file_name.find_last_of('/') + 1);
    if (base == "AGENT.toml" || !base.ends_with(".toml")) return;
    base.remove_suffix(5);
    if (base != name)
        section.wrong("name", cat("must be the file's name, \"", printable(base, 64), "\", is \"", name,
                                  "\"; rename one of them"));
}

static void read_agent(Report& report, const Value& table, std::string_view file_name,
                       AgentManifest& manifest) {
    Section section(report, table, "agent");
    if (section.text("name",
                     {.example = "\"hello\"", .most_bytes = 32, .wrong = wrong_name, .required = true},
                     manifest.name))
        check_file_name(section, file_name, manifest.name);
    section.text("version", {.example = "\"1.0.0\"", .most_bytes = 64, .wrong = wrong_line, .required = true},
                 manifest.version);
    section.text("image", {.example = "\"python\"", .most_bytes = 64, .wrong = wrong_name, .required = true},
                 manifest.image);
    section.list("command",
                 {.example = "[\"/usr/bin/python3\", \"/app/main.py\"]",
                  .wrong = wrong_argument,
                  .filled = true,
                  .distinct = false},
                 manifest.command);
    section.environment("environment", manifest.environment);
    section.text("working_directory", {.example = "\"/app\"", .wrong = wrong_path},
                 manifest.working_directory);
    section.number("user", {.least = 0, .most = kMostId}, manifest.uid);
    if (section.has("user")) manifest.gid = manifest.uid;
    manifest.has_user = section.has("user");
    manifest.has_group = section.has("group");
    manifest.has_working_directory = section.has("working_directory");
    section.number("group", {.least = 0, .most = kMostId}, manifest.gid);
    section.choice<bool>("start", kStarts, manifest.start_at_boot);
    section.choice<RestartPolicy>("restart", kRestartPolicies, manifest.restart);
    section.finish(kHomes);
}

static void read_filesystem(Report& report, const Value& table, AgentManifest& manifest) {
    Section section(report, table, "capabilities.filesystem");
    ListRule rule{.example = "[\"/data\"]", .most_items = 32, .most_bytes = 1024, .wrong = wrong_shared_path};
    section.list("read", rule, manifest.read_paths);
    section.list("write", rule, manifest.write_paths);
    section.finish(kHomes);
}

static void read_memory(Report& report, const Value& table, AgentManifest& manifest) {
    Section section(report, table, "capabilities.memory");
    ListRule rule{.example = "[\"research\"]", .most_items = 32, .most_bytes = 64, .wrong = wrong_name};
    section.list("read", rule, manifest.memory_read);
    section.list("write", rule, manifest.memory_write);
    section.number("max_entries", {.least = 1, .most = 1'000'000}, manifest.memory_max_entries);
    uint64_t megabytes = manifest.memory_max_bytes >> 20;
    section.number("max_mb", {.least = 1, .most = 4096}, megabytes);
    manifest.memory_max_bytes = megabytes << 20;
    section.finish(kHomes);
}

static void read_capabilities(Report& report, const Value& table, AgentManifest& manifest) {
    Section section(report, table, "capabilities");
    section.number("max_cpu_percent", {.least = 1, .most = 3200}, manifest.max_cpu_percent);
    section.number("max_memory_mb", {.least = 64, .most = 65'536}, manifest.max_memory_mb);
    section.number("scratch_mb", {.least = 16, .most = 1 << 20}, manifest.scratch_mb);
    section.number("disk_mbps", {.least = 1, .most = 100'000}, manifest.disk_mbps);
    section.number("disk_iops", {.least = 10, .most = 1'000'000}, manifest.disk_iops);
    if (const Value* network = section.table("network", false, "[capabilities.network]"))
        read_network(report, *network, manifest, kHomes);
    if (const Value* files = section.table("filesystem", false, "[capabilities.filesystem]"))
        read_filesystem(report, *files, manifest);
    if (const Value* memory = section.table("memory", false, "[capabilities.memory]"))
        read_memory(report, *memory, manifest);
    read_credential_refs(section, manifest); // after network and environment, which credentials refer to
    read_credentials(report, section, manifest, kHomes);
    section.finish(kHomes);
}

static void read_health_check(Report& report, const Value& table, AgentManifest& manifest) {
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kKinds = {{
        {"http", "http"},
        {"tcp", "tcp"},
    }};
    Section section(report, table, "health_check");
    AgentManifest::HealthCheck check;
    std::string_view kind;
    if (section.choice<std::string_view>("kind", kKinds, kind, true)) check.kind = kind;
    section.number("port", {.least = 1, .most = 65'535, .required = true}, check.port);
    section.text("path", {.example = "\"/health\"", .most_bytes = 256, .wrong = wrong_health_path},
                 check.path);
    if (check.kind == "tcp" && section.has("path"))
        section.wrong("path", "means nothing for kind = \"tcp\"; remove it");
    int64_t seconds = 10;
    section.number("interval_seconds", {.least = 1, .most = 3600}, seconds);
    check.interval = std::chrono::seconds(seconds);
    section.number("failures", {.least = 1, .most = 100}, check.failures);
    int64_t grace_seconds = 30;
    section.number("grace_seconds", {.least = 0, .most = 3600}, grace_seconds);
    check.grace = std::chrono::seconds(grace_seconds);
    section.finish(kHomes);
    manifest.health_check.push_back(std::move(check));
}

static void read_manifest(Report& report, const Value& root, std::string_view file_name,
                          AgentManifest& manifest) {
    Section top(report, root, "");
    if (const Value* agent = top.table("agent", true, "[agent] with name, version and image"))
        read_agent(report, *agent, file_name, manifest);
    const Value* capabilities = top.table("capabilities", false, "[capabilities]");
    // Also taken at the top, where older manifests have it.
    if (top.entry("credential_refs") && capabilities && capabilities->find("credential_refs"))
        top.wrong("credential_refs", "is in [capabilities] as well; keep that one");
    else
        read_credential_refs(top, manifest);
    if (capabilities) read_capabilities(report, *capabilities, manifest);
    if (const Value* check = top.table("health_check", false, "[health_check]"))
        read_health_check(report, *check, manifest);
    top.finish(kHomes);
}

std::variant<AgentManifest, std::vector<Diagnostic>> parse_agent(std::string_view text,
                                                                 std::string_view file_name) {
    Report report(file_name);
    AgentManifest manifest;
    if (auto root = parse_document(text, kMostDocumentBytes, report))
        read_manifest(report, *root, file_name, manifest);
    if (report.count() > 0) return std::move(report).take();
    return manifest;
}

} // namespace nullbox::manifest
