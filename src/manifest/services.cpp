#include "manifest/services.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "manifest/forms.h"
#include "manifest/section.h"
#include "manifest/start_order.h"

namespace nullbox::manifest {

constexpr size_t kMostDocumentBytes = size_t{256} << 10;
constexpr size_t kMostServices = 64;
constexpr int64_t kMostId = 4'294'967'294; // the last value means "none" to the kernel
constexpr int64_t kMostMemoryMb = int64_t{1} << 20;
constexpr int64_t kMostCpuPercent = 6400;
constexpr int64_t kTenMinutesMs = 600'000;
constexpr int64_t kOneHourMs = 3'600'000;

static constexpr std::array<std::pair<std::string_view, RestartPolicy>, 3> kRestartPolicies = {{
    {"always", RestartPolicy::Always},
    {"on-failure", RestartPolicy::OnFailure},
    {"never", RestartPolicy::Never},
}};

static void read_command(Section& section, ServiceConfig& service) {
    bool present = section.list(
        "exec",
        {.example = "[\"/system/bin/cage\"]", .wrong = wrong_argument, .required = true, .distinct = false},
        service.exec);
    if (present)
        if (auto wrong = wrong_path(service.exec[0]); !wrong.empty())
            section.wrong("exec", cat("its first entry ", wrong));
    section.list("after", {.example = "[\"egress\"]", .most_bytes = 32, .wrong = wrong_name}, service.after);
    section.environment("environment", service.environment);
    section.text("working_directory", {.example = "\"/\"", .wrong = wrong_path}, service.working_directory);
}

// syscalls = ["@basic", "openat"], or the text "all"; one of them must be said.
static void read_syscalls(Section& section, ServiceConfig& service) {
    const Entry* found = section.entry("syscalls");
    if (found && found->value.kind == Value::Kind::Text) {
        if (found->value.text == "all")
            service.syscalls_unrestricted = true;
        else
            section.wrong("syscalls", cat("must be a list such as [\"@basic\"] or the text \"all\", is \"",
                                          printable(found->value.text, 64), "\""));
        return;
    }
    section.list("syscalls",
                 {.example = "[\"@basic\"]",
                  .most_items = 512,
                  .most_bytes = 64,
                  .wrong = wrong_syscall,
                  .required = true},
                 service.syscalls);
}

// files = "all" switches Landlock off, for a service whose children must mount: Landlock forbids that.
static void read_files(Section& section, ServiceConfig& service) {
    static constexpr std::array<std::pair<std::string_view, bool>, 2> kChoices = {
        {{"all", true}, {"listed", false}}};
    section.choice<bool>("files", kChoices, service.files_unrestricted);
    section.list("read_paths", {.example = "[\"/system\"]", .wrong = wrong_path}, service.read_paths);
    section.list("write_paths", {.example = "[\"/run/cage\"]", .wrong = wrong_path}, service.write_paths);
    section.list("execute_paths", {.example = "[\"/system/bin/cage\"]", .wrong = wrong_path},
                 service.execute_paths);
}

static void read_sandbox(Section& section, ServiceConfig& service) {
    section.number("user", {.least = 0, .most = kMostId, .required = true}, service.uid);
    service.gid = service.uid;
    section.number("group", {.least = 0, .most = kMostId}, service.gid);
    section.list("capabilities", {.example = "[\"CAP_NET_ADMIN\"]", .wrong = wrong_capability},
                 service.capabilities);
    section.list("namespaces", {.example = "[\"mount\", \"net\"]", .wrong = wrong_namespace},
                 service.namespaces);
    read_syscalls(section, service);
    read_files(section, service);
    section.list("devices", {.example = "[\"/dev/kvm\"]", .wrong = wrong_device_path}, service.devices);
    section.boolean("delegate_cgroup", service.delegate_cgroup);
}

static void read_limits(Section& section, ServiceConfig& service) {
    uint64_t memory_max_mb = 0;
    section.number("memory_max_mb", {.least = 0, .most = kMostMemoryMb}, memory_max_mb);
    service.memory_max_bytes = memory_max_mb << 20;
    section.number("pids_max", {.least = 1, .most = 32'768}, service.pids_max);
    section.number("cpu_max_percent", {.least = 0, .most = kMostCpuPercent}, service.cpu_max_percent);
    section.number("nofile_max", {.least = 16, .most = 1'048'576}, service.nofile_max);
}

static void read_supervision(Section& section, ServiceConfig& service) {
    section.choice<RestartPolicy>("restart", kRestartPolicies, service.restart);
    section.milliseconds("restart_delay_ms", {.least = 1, .most = kTenMinutesMs}, service.restart_delay);
    // A long first delay alone must not need restart_delay_max_ms as well.
    service.restart_delay_max = std::max(service.restart_delay_max, service.restart_delay);
    section.milliseconds("restart_delay_max_ms", {.least = 1, .most = kOneHourMs}, service.restart_delay_max);
    if (service.restart_delay_max < service.restart_delay)
        section.wrong("restart_delay_max_ms",
                      cat("must be at least restart_delay_ms, which is ", service.restart_delay.count()));
    section.milliseconds("stable_after_ms", {.least = 0, .most = kOneHourMs}, service.stable_after);
    section.milliseconds("ready_timeout_ms", {.least = 1, .most = kTenMinutesMs}, service.ready_timeout);
    section.milliseconds("stop_timeout_ms", {.least = 1, .most = kTenMinutesMs}, service.stop_timeout);
    section.boolean("readiness", service.readiness);
}

// Whether the service may run: nothing in its table was wrong.
static bool read_service(Report& report, const Entry& entry, ServiceConfig& service) {
    size_t before = report.count();
    std::string path = cat("service.", entry.key);
    if (auto wrong = wrong_name(entry.key); !wrong.empty() || entry.key.size() > 32)
        report.add(entry.at, path, wrong.empty() ? "its name must be at most 32 bytes long" : wrong);
    if (entry.value.kind != Value::Kind::Table) {
        report.add(entry.value.at, path,
                   cat("must be a table, is ", kind_name(entry.value.kind), "; write [", path, "]"));
        return false;
    }
    service.name = entry.key;
    service.line = entry.at.line;
    Section section(report, entry.value, path);
    read_command(section, service);
    read_sandbox(section, service);
    read_limits(section, service);
    read_supervision(section, service);
    section.finish();
    return report.count() == before;
}

static std::vector<ParsedService> read_services(Report& report, const Value& root) {
    std::vector<ParsedService> parsed;
    Section top(report, root, "");
    const Value* table = top.table("service", true, "[service.NAME] for each service");
    top.finish();
    if (!table) return parsed;
    if (table->entries.size() > kMostServices) {
        report.add(table->at, "service",
                   cat("has ", table->entries.size(), " services; at most ", kMostServices, " are allowed"));
        return parsed;
    }
    if (table->entries.empty()) report.add(table->at, "service", "has no service; write [service.NAME]");
    for (const auto& entry : table->entries) {
        ParsedService service{.at = entry.at};
        service.right = read_service(report, entry, service.config);
        service.config.name = entry.key;
        if (const Entry* after = entry.value.find("after")) service.after_at = after->value.at;
        parsed.push_back(std::move(service));
    }
    return parsed;
}

ServicesConfig parse_services(std::string_view text, std::string_view file_name) {
    Report report(file_name);
    ServicesConfig config;
    if (auto root = parse_document(text, kMostDocumentBytes, report))
        config.services = in_start_order(read_services(report, *root), report);
    config.diagnostics = std::move(report).take();
    return config;
}

} // namespace nullbox::manifest
