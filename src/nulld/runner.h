// The edge of the supervisor: executes its actions on real processes, and turns what the kernel says about
// them into its events. Owns each service's process, pipes and control group.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nulld/log_book.h"
#include "nulld/pipe_reader.h"
#include "nulld/spawn.h"
#include "nulld/supervisor.h"

namespace nullbox::nulld {

class Runner {
public:
    struct Options {
        std::string cgroup_root;       // empty: no control groups (a test); groups are process groups then
        std::function<void()> changed; // a state or a status text is new
    };
    Runner(Loop& loop, LogBook& log, std::vector<manifest::ServiceConfig> services, Options options);

    const Supervisor& supervisor() const { return supervisor_; }
    void start_all();
    Result<> start(ServiceId id);
    Result<> restart(ServiceId id);
    void stop(ServiceId id);
    void shut_down(TimePoint deadline);

    // From the reaper: is it one of ours? The supervisor acts on it at the next pump().
    bool ended(pid_t pid, Exit exit);
    void pump();

    // What is wrong with a service's sandbox: it cannot be started with it. "nulld.toml:12: service.x...".
    std::vector<std::string> plan_problems() const;
    const std::string& status_text(ServiceId id) const { return units_[id]->status_text; }
    const sandbox::Cgroup* group(ServiceId id) const;

private:
    struct Unit {
        Result<ServicePlan> plan = error("");
        std::optional<sandbox::Cgroup> group;
        Fd group_events;
        Watch group_watch;
        Fd pidfd;
        uint64_t oom_kills_before = 0;
        pid_t pid = 0; // kept until the group is cleared: the process group's id
        std::unique_ptr<PipeReader> output, notify, setup;
        LineSplitter output_lines, notify_lines;
        std::string setup_bytes, setup_error, status_text;
        std::vector<std::string> folder_problems; // said once
        std::string said;                         // the state that the log was told last
    };
    void execute(const Action& action);
    void spawn(ServiceId id);
    void connect(ServiceId id, ServiceProcess process);
    void terminate(ServiceId id);
    void kill(ServiceId id);
    void check_empty(ServiceId id);
    void watch_group(ServiceId id);
    void on_setup_end(ServiceId id);
    void on_notify_line(ServiceId id, std::string_view line);
    void tell_changes();
    void set_timer();

    Loop& loop_;
    LogBook& log_;
    Options options_;
    Supervisor supervisor_;
    std::vector<std::unique_ptr<Unit>> units_; // their addresses stay: callbacks hold them
    Watch timer_;
    bool pumping_ = false;
};

} // namespace nullbox::nulld
