// A service's configuration made ready to run: names looked up, the seccomp filter compiled, argv and
// environment laid out. All that can be wrong with a sandbox is found here, at image build too
// (nulld --check-config), and nothing is left to allocate between fork and exec.
#pragma once

#include <memory>
#include <optional>

#include "manifest/services.h"
#include "sandbox/capabilities.h"
#include "sandbox/landlock.h"
#include "sandbox/rlimits.h"
#include "sandbox/seccomp.h"

namespace nullbox::nulld {

constexpr int kNotifyFd = 3; // NULLBOX_NOTIFY_FD

struct ServicePlan {
    static Result<ServicePlan> make(const manifest::ServiceConfig& config);

    std::string program, working_directory;
    std::vector<std::string> argument_texts, environment_texts; // own the bytes of the next two
    std::vector<char*> arguments, environment;                  // null-terminated, for execve
    sandbox::User user{};
    sandbox::CapabilitySet capabilities;
    uint64_t namespaces = 0; // CLONE_NEW*
    sandbox::ProcessLimits limits;
    std::optional<sandbox::LandlockPolicy> files;   // none: unrestricted, as the configuration says in words
    std::optional<sandbox::SyscallFilter> syscalls; // none: the same

    ServicePlan() = default;
    ServicePlan(ServicePlan&&) = default; // the vectors' buffers move along, so the pointers stay right
    ServicePlan& operator=(ServicePlan&&) = default;
    ServicePlan(const ServicePlan&) = delete;
    ServicePlan& operator=(const ServicePlan&) = delete;
};

} // namespace nullbox::nulld
