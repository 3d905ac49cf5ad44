#include "nulld/service_plan.h"

#include <linux/sched.h>
#include <sys/syscall.h>

#include "base/text.h"
#include "sandbox/namespaces.h"

namespace nullbox::nulld {

static std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> out;
    for (auto& text : texts) out.push_back(text.data());
    out.push_back(nullptr);
    return out;
}

// A path that is not there is not granted, and is no reason not to start: a folder of the data partition, or
// a device this machine lacks. The service itself says what it misses.
static sandbox::LandlockPolicy file_policy(const manifest::ServiceConfig& config, uint64_t namespaces) {
    sandbox::LandlockPolicy files;
    files.execute(config.exec[0]).optional(); // a missing one fails at exec, with the plainer message
    files.device("/dev/null");
    files.write(cat("/run/", config.name)).optional();
    for (const auto& path : config.read_paths) files.read(path).optional();
    for (const auto& path : config.write_paths) files.write(path).optional();
    for (const auto& path : config.execute_paths) files.execute(path).optional();
    for (const auto& path : config.devices) files.device(path).optional();
    if (config.delegate_cgroup) files.write(cat("/sys/fs/cgroup/", config.name)).optional();
    // In a network namespace of its own it has nobody to reach by TCP either.
    if (!(namespaces & CLONE_NEWNET)) files.allow_tcp();
    return files;
}

static Result<sandbox::SyscallFilter> syscall_filter(const manifest::ServiceConfig& config) {
    auto rules = TRY(sandbox::resolve_syscalls(config.syscalls));
    // The filter is in place before the program is; Landlock lets it execute nothing but itself.
    rules.push_back({.syscall = SYS_execve, .arguments = {}, .reason = "becoming its program"});
    return sandbox::SyscallFilter::compile(rules);
}

Result<ServicePlan> ServicePlan::make(const manifest::ServiceConfig& config) {
    auto key = [&](const char* name) { return cat("service.", config.name, ".", name); };
    if (config.exec.empty()) return error(cat(key("exec"), ": is empty"));
    ServicePlan plan;
    plan.program = config.exec[0];
    plan.working_directory = config.working_directory;
    plan.argument_texts = config.exec;
    for (const auto& [name, value] : config.environment)
        plan.environment_texts.push_back(cat(name, "=", value));
    plan.environment_texts.push_back(cat("NULLBOX_NOTIFY_FD=", kNotifyFd));
    plan.arguments = pointers(plan.argument_texts);
    plan.environment = pointers(plan.environment_texts);
    plan.user = {.uid = config.uid, .gid = config.gid};
    plan.capabilities = TRY(sandbox::CapabilitySet::parse(config.capabilities).context(key("capabilities")));
    plan.namespaces = TRY(sandbox::namespace_flags(config.namespaces).context(key("namespaces")));
    if (plan.namespaces & CLONE_NEWUSER)
        return error(cat(key("namespaces"),
                         ": \"user\" is not for services: they have a uid of their own; remove it"));
    plan.limits.open_files = config.nofile_max;
    if (!config.files_unrestricted) plan.files = file_policy(config, plan.namespaces);
    if (!config.syscalls_unrestricted) plan.syscalls = TRY(syscall_filter(config).context(key("syscalls")));
    return plan;
}

} // namespace nullbox::nulld
