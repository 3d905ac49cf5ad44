// PID 1's side of starting a service: its folders and control group, the pipes, clone3 straight into the
// group. What happens in the child is service_child.cpp.
#pragma once

#include <optional>

#include "manifest/services.h"
#include "nulld/service_plan.h"
#include "sandbox/cgroup.h"

namespace nullbox::nulld {

struct ServiceProcess {
    pid_t pid = 0;
    Fd pidfd;
    Fd output; // its stdout and stderr; nonblocking, like the next two
    Fd notify; // READY and STATUS= lines
    Fd setup;  // a SetupFailure, or the end of file once exec succeeded
};

// Makes (or finds) the control group with the service's limits. cgroup_root: "/sys/fs/cgroup".
Result<sandbox::Cgroup> make_service_group(const manifest::ServiceConfig& config,
                                           const std::string& cgroup_root);
// /run/<name> for its sockets, folders it may write that are missing, owners of its device nodes. What does
// not work out is returned as sentences for the log; the service starts without.
std::vector<std::string> prepare_folders(const manifest::ServiceConfig& config);
// group: null leaves the child in PID 1's group (a kernel without cgroup v2, a test).
Result<ServiceProcess> spawn_service(const ServicePlan& plan, const sandbox::Cgroup* group);

} // namespace nullbox::nulld
