// The services' life cycle as a pure state machine: events in, actions out, time as a parameter. It makes no
// system call; system.cpp executes the actions and feeds back what happened.
//
// Each service has a wanted state (an operator, the boot, or the restart policy sets it) and an actual one.
// decide() moves every service as far as it can and returns what is to be done; nothing recurses.
//
//   actual    | wanted Up                                      | wanted Down
//   ----------+------------------------------------------------+-----------------------------------------
//   Down      | -> Waiting                                     | stays
//   Waiting   | all of `after` satisfied: Spawn, -> Starting   | -> Down
//   Starting  | ready: -> Up; too late: Kill, -> Clearing      | Terminate, -> Stopping
//   Up        | stays; a restart is asked: as wanted Down      | dependants that also stop are Down:
//             |                                                | Terminate, -> Stopping
//   Stopping  | process ends: Kill, -> Clearing; stop_timeout or the shutdown's limit: Kill, -> Clearing
//   Clearing  | process reaped and group empty: restart asked  | the same: -> Down
//             | -> Waiting; policy: -> Delayed, or Down for    |
//             | good with an outcome                           |
//   Delayed   | delay over: -> Waiting                         | -> Down
//
// The process of a Starting or Up service ending by itself: Kill (what it forked goes with it), -> Clearing.
// A new process is never started while one of the old group lives. A dependency is satisfied when it is Up,
// or has finished with success; one that fails later does not take its dependants down.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/loop.h"
#include "manifest/services.h"

namespace nullbox::nulld {

using ServiceId = size_t;
using TimePoint = Clock::time_point;

enum class Actual { Down, Waiting, Starting, Up, Stopping, Clearing, Delayed };
enum class Wanted { Up, Down };
// Why a service is Down although nobody stopped it.
enum class Outcome { None, Finished, Failed };

struct Exit {
    bool by_signal = false;
    int value = 0; // exit status, or signal
};
std::string to_text(Exit exit);

struct Action {
    enum class Kind {
        Spawn,     // start the process; answer with spawned() or spawn_failed()
        Terminate, // SIGTERM to the main process
        Kill,      // SIGKILL to the whole control group; answer with group_empty() once it is
    };
    Kind kind;
    ServiceId service;
    bool operator==(const Action&) const = default;
};

struct ServiceState {
    Actual actual = Actual::Down;
    Wanted wanted = Wanted::Down;
    Outcome outcome = Outcome::None;
    pid_t pid = 0;          // of the main process, 0 when there is none
    TimePoint since{};      // when `actual` was entered
    TimePoint started{};    // the last Spawn
    TimePoint next_try{};   // in Delayed
    uint64_t restarts = 0;  // by the policy; an operator's are not counted
    uint32_t failures = 0;  // in a row, without a stable run between
    std::string last_error; // the last end that was a failure, for people; kept after a restart
    std::string last_exit;  // the last end of any kind
};

class Supervisor {
public:
    explicit Supervisor(std::vector<manifest::ServiceConfig> services);

    // What is wanted. Each is an error during shutdown, except stop.
    Result<> start(ServiceId id);
    Result<> restart(ServiceId id);
    void stop(ServiceId id);
    void start_all();
    // Everything down in reverse order of dependence; what still lives at the deadline is killed.
    void shut_down(TimePoint deadline);

    // What happened.
    void spawned(ServiceId id, pid_t pid);
    void spawn_failed(ServiceId id, std::string why, TimePoint now);
    void ready(ServiceId id, TimePoint now);
    // why: what is known beyond the exit itself: it never became the service's program, it ran out of memory.
    void exited(ServiceId id, Exit exit, std::string why, TimePoint now);
    void group_empty(ServiceId id);

    // Call after events, and at next_deadline().
    std::vector<Action> decide(TimePoint now);
    std::optional<TimePoint> next_deadline() const;

    std::span<const ServiceState> states() const { return states_; }
    const manifest::ServiceConfig& config(ServiceId id) const { return services_[id].config; }
    size_t size() const { return services_.size(); }
    std::optional<ServiceId> find(std::string_view name) const;
    std::optional<ServiceId> find_pid(pid_t pid) const;
    // A person's word for the state: "running", "waiting for warden (failed)", "restarts in 12 s".
    std::string describe(ServiceId id, TimePoint now) const;
    bool crash_loop(ServiceId id, TimePoint now) const;
    bool unkillable(ServiceId id, TimePoint now) const; // killed, and still not gone
    bool all_down() const;
    // Nothing is on its way to another state: each service is Up, Down, waits for a failed one, or crash
    // loops.
    bool settled(TimePoint now) const;

private:
    struct Service {
        manifest::ServiceConfig config;
        std::vector<ServiceId> after;
        std::vector<std::string> missing; // in `after`, but not configured
        std::chrono::milliseconds delay;  // before the next restart
        bool restart_asked = false;
        bool process_gone = true, group_gone = true;
        bool failing = false; // the run that is being cleared away ended as a failure
    };
    bool satisfied(ServiceId dependency) const;
    bool may_start(ServiceId id) const;
    bool dependants_down(ServiceId id) const;
    void enter(ServiceId id, Actual actual, TimePoint now);
    void fail(ServiceId id, std::string why, TimePoint now);
    void clear(ServiceId id, TimePoint now, std::vector<Action>& actions);
    void after_clearing(ServiceId id, TimePoint now);
    bool step(ServiceId id, TimePoint now, std::vector<Action>& actions);
    bool step_running(ServiceId id, TimePoint now, std::vector<Action>& actions);
    std::optional<TimePoint> deadline(ServiceId id) const;

    std::vector<Service> services_;
    std::vector<ServiceState> states_; // the same index
    std::optional<TimePoint> shutdown_deadline_;
};

} // namespace nullbox::nulld
