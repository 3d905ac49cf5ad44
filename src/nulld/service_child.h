// The child's side of starting a service: between clone and exec. No allocation, no TRY, no return: a failure
// is one SetupFailure on the status pipe and _exit, because a child that returned would run PID 1's loop.
#pragma once

#include <cstdint>
#include <string>

#include "nulld/service_plan.h"

namespace nullbox::nulld {

enum class Stage : uint32_t {
    Session,
    Descriptors,
    OomScore,
    Mounts,
    Limits,
    WorkingDirectory,
    NoNewPrivileges,
    BoundingSet,
    User,
    Landlock,
    Seccomp,
    Execute,
};

struct SetupFailure { // what travels over the status pipe
    Stage stage;
    int32_t code;  // errno
    uint32_t rule; // Landlock: which of the plan's paths, or kNoRule
};
constexpr uint32_t kNoRule = UINT32_MAX;

// "cannot execute /system/bin/x: No such file or directory".
std::string to_text(const SetupFailure& failure, const ServicePlan& plan);

struct ChildDescriptors { // all above kNotifyFd, all CLOEXEC
    int null, output, notify, status;
};
[[noreturn]] void become_service(const ServicePlan& plan, ChildDescriptors descriptors) noexcept;

} // namespace nullbox::nulld
