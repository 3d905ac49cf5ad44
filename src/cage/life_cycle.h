// An agent's life cycle as a pure state machine: events in, actions out, no system call, no clock. The runner
// (agent.h) carries the actions out.
//
//   state     | may go to                   | a VM process exists
//   ----------+-----------------------------+--------------------
//   Invalid   | -                           | no    the manifest is wrong
//   Stopped   | Waiting                     | no    never started, or stopped on request
//   Waiting   | Starting, Stopped, Failed   | no    asked to start; what it needs is not there yet
//   Starting  | Running, Stopping, an end   | yes   until the command executes in the guest
//   Running   | Paused, Stopping, an end    | yes
//   Paused    | Running, Stopping, an end   | yes   its vCPUs stand still, or are about to
//   Stopping  | Waiting, an end             | yes   to Waiting: something that it needs was lost
//   Exited    | Waiting                     | no    the command ended: code or signal
//   Failed    | Waiting                     | no    anything else: could not start, VM lost, unhealthy
//
// Invariants: an end is only reached through VmGone (or LaunchFailed), so an agent is never there twice; what
// the guest reported before that is kept as the outcome. Launch is only asked for once everything that the
// manifest needs is there (Prepared), so an agent never runs with something else than its manifest says.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cage/end_reason.h"
#include "manifest/services.h" // RestartPolicy

namespace nullbox::cage {

enum class State { Invalid, Stopped, Waiting, Starting, Running, Paused, Stopping, Exited, Failed };
std::string_view state_name(State state);

struct CommandEnd {
    bool by_signal = false;
    uint32_t value = 0;
    bool out_of_memory = false; // of the guest
    std::string reason = {};    // more than the number says, or empty
    bool operator==(const CommandEnd&) const = default;
};

namespace event {
struct StartRequested {
    std::string because = {}; // not by a person: why; its last run ended by that
};
struct StopRequested {};
struct WaitsFor {
    std::string what;
}; // why it cannot start now: "the vault: nullctl vault unlock"
struct Prepared {}; // everything it needs is there
struct NeedLost {
    std::string what;
}; // something it needs ended under it, and only a new start gets it again
struct LaunchFailed {
    std::string message;
}; // there is no VM process
struct CommandStarted {}; // in the guest
struct CommandEnded {
    CommandEnd end;
}; // in the guest; the VM follows
struct GuestFailed {
    std::string message;
    EndReason reason = EndReason::GuestFailed;
}; // reported by agent-init, or nonsense from the guest
struct Unhealthy {
    std::string message;
}; // too many of its checks failed
struct PauseRequested {};
struct VmPaused {}; // all vCPUs stand still
struct ResumeRequested {};
struct LinkClosed {}; // with no report before it
struct VmGone {
    std::string message;
    EndReason reason = EndReason::VmEnded;
}; // the process is reaped and its control group is empty
struct TimedOut {}; // what ArmTimer asked for
struct RestartDue {};
} // namespace event
using Event = std::variant<event::StartRequested, event::StopRequested, event::WaitsFor, event::Prepared,
                           event::NeedLost, event::LaunchFailed, event::CommandStarted, event::CommandEnded,
                           event::GuestFailed, event::Unhealthy, event::PauseRequested, event::VmPaused,
                           event::ResumeRequested, event::LinkClosed, event::VmGone, event::TimedOut,
                           event::RestartDue>;

namespace action {
struct Prepare {}; // answered by WaitsFor, as often as the reason changes, and by Prepared in the end
struct CancelPrepare {};
struct Launch {};
struct AskGuestToStop {};
struct KillVm {};
struct PauseVm {}; // answered by VmPaused
struct ResumeVm {};
struct ArmTimer {
    std::chrono::milliseconds after;
}; // replaces the one before
struct CancelTimer {};
struct RestartAfter {
    std::chrono::milliseconds delay;
};
struct CancelRestart {};
} // namespace action
using Action = std::variant<action::Prepare, action::CancelPrepare, action::Launch, action::AskGuestToStop,
                            action::KillVm, action::PauseVm, action::ResumeVm, action::ArmTimer,
                            action::CancelTimer, action::RestartAfter, action::CancelRestart>;

struct LifeCycleLimits {
    std::chrono::milliseconds start_timeout{60'000}; // from launch to the command executing
    std::chrono::milliseconds stop_grace{5'000};     // TERM to KILL, in the guest
    std::chrono::milliseconds end_timeout{5'000};    // from the guest's last word to the VM's end
    std::chrono::milliseconds pause_timeout{10'000}; // until the VM's vCPUs stand still
    std::chrono::milliseconds restart_delay{1'000};  // doubles with each restart
    std::chrono::milliseconds restart_delay_max{60'000};
    std::chrono::milliseconds stable_after{30'000}; // running this long, pauses apart, resets the delay
};

class LifeCycle {
public:
    explicit LifeCycle(manifest::RestartPolicy restart, LifeCycleLimits limits = {})
        : restart_(restart), limits_(limits) {}
    // An agent that can never start, and why.
    static LifeCycle invalid(std::string why);

    using Time = std::chrono::steady_clock::time_point;
    std::vector<Action> handle(const Event& event, Time now);
    // Of a manifest that replaces the one before; counts at the next end.
    void set_restart(manifest::RestartPolicy restart) { restart_ = restart; }

    State state() const { return state_; }
    bool alive() const;  // a VM process exists
    bool wanted() const; // it runs or is to run, until somebody stops it
    // Why it cannot start now; empty while nothing has said no.
    const std::string& waits_for() const { return waits_for_; }
    // Why it is stopped, or was started again, without being asked; of the last time.
    const std::string& lost() const { return lost_; }
    bool restart_pending() const { return restart_pending_; }
    std::chrono::milliseconds next_delay() const { return delay_; }
    uint32_t restarts() const { return restarts_; }
    const std::optional<CommandEnd>& command_end() const { return command_end_; } // of the last run
    const std::string& failure() const { return failure_; } // of the last run, or Invalid
    bool vm_paused() const { return vm_paused_; }           // Paused, and its VM has said so
    // How its last run ended; kept while the next one goes on. Nothing: it has not had one.
    const std::optional<EndCause>& last_end() const { return last_end_; }
    // "running", "waits for the vault: nullctl vault unlock", "exited 0", "exited by signal 9 (out of
    // memory)", "failed: no image", with a pending restart.
    std::string describe() const;

private:
    std::vector<Action> start();
    std::vector<Action> launch();
    std::vector<Action> request_stop();
    std::vector<Action> lose(std::string what);
    std::vector<Action> fail_and_kill(std::string message, EndReason reason);
    std::vector<Action> fail_and_stop(std::string message, EndReason reason);
    std::vector<Action> pause(Time now);
    std::vector<Action> resume(Time now);
    std::vector<Action> time_out();
    std::vector<Action> vm_gone(const event::VmGone& gone, Time now);
    void remember_end();
    std::string command_end_text() const;
    std::vector<Action> end(State state, Time now);
    bool wants_restart() const;

    manifest::RestartPolicy restart_ = manifest::RestartPolicy::Never;
    LifeCycleLimits limits_;
    State state_ = State::Stopped;
    bool stop_requested_ = false, restart_pending_ = false;
    bool start_anew_ = false; // once the VM is gone: something it needs was lost
    bool vm_paused_ = false;
    std::optional<std::string> lost_in_pause_; // counts once it is resumed
    uint32_t restarts_ = 0;
    std::chrono::milliseconds delay_{0};
    std::optional<Time> running_since_; // moved on by the length of each pause
    Time paused_at_{};
    std::optional<CommandEnd> command_end_;
    std::string failure_, waits_for_, lost_;
    EndReason failure_reason_ = EndReason::VmEnded; // of failure_
    std::optional<EndCause> last_end_;
};

} // namespace nullbox::cage
