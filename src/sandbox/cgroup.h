// One control group (cgroup v2): a service's or a VM's processes with their limits, countable and killable
// as a whole, forked children included. Owned by whoever made it; dropping the object leaves the group.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <sys/types.h>

#include "base/fd.h"

namespace nullbox::sandbox {

struct CgroupLimits {
    uint64_t memory_max_bytes = 0; // 0: none. At the limit the whole group is killed, not one process of it
    uint64_t pids_max = 0;         // 0: none
    uint32_t cpu_max_percent = 0;  // 100 = one core; 0: none
};

class Cgroup {
public:
    // Makes the folder if it is not there (a group of that name that is left over is used again).
    static Result<Cgroup> create(std::string path);
    Cgroup child(std::string_view name) const; // not made, only named

    // Writes every limit, "max" for those that are 0: a group that is used again keeps nothing old.
    Result<> limit(const CgroupLimits& limits);
    // Lets groups below have limits: hands the cpu, io, memory and pids controllers down.
    Result<> enable_controllers_below();
    // The user may make groups below and move its own processes among them; the limits of this one stay ours.
    Result<> delegate_to(uid_t uid, gid_t gid);

    Result<> add(pid_t pid);
    // SIGKILL to every process in it and below, at once and without a race against fork (cgroup.kill, 5.14).
    Result<> kill();
    // No live process in it or below. A group that cannot be read counts as empty.
    bool populated() const;
    Result<> remove(); // with the groups below; all must be empty

    // For epoll: EPOLLPRI on it says that populated() may have changed; read it from the start to rearm.
    Result<Fd> open_events() const;
    uint64_t memory_current_bytes() const;      // 0 when unknown
    std::chrono::microseconds cpu_time() const; // used by all processes that ever were in it; 0: unknown
    uint64_t oom_kills() const;
    uint64_t processes() const;
    int directory_fd() const { return directory_.get(); } // for clone3's CLONE_INTO_CGROUP
    const std::string& path() const { return path_; }

private:
    explicit Cgroup(std::string path) : path_(std::move(path)) {}
    uint64_t number_in(const char* file, std::string_view key) const;
    std::string path_;
    Fd directory_;
};

} // namespace nullbox::sandbox
