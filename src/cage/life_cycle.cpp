#include "cage/life_cycle.h"

#include <algorithm>

#include "base/text.h"

namespace nullbox::cage {

using manifest::RestartPolicy;

std::string_view state_name(State state) {
    switch (state) {
    case State::Invalid:
        return "invalid";
    case State::Stopped:
        return "stopped";
    case State::Waiting:
        return "waiting";
    case State::Starting:
        return "starting";
    case State::Running:
        return "running";
    case State::Paused:
        return "paused";
    case State::Stopping:
        return "stopping";
    case State::Exited:
        return "exited";
    case State::Failed:
        return "failed";
    }
    return "unknown";
}

LifeCycle LifeCycle::invalid(std::string why) {
    LifeCycle life(RestartPolicy::Never);
    life.state_ = State::Invalid;
    life.failure_ = std::move(why);
    return life;
}

bool LifeCycle::alive() const {
    return state_ == State::Starting || state_ == State::Running || state_ == State::Paused ||
           state_ == State::Stopping;
}

bool LifeCycle::wanted() const {
    return alive() || state_ == State::Waiting ? !stop_requested_ : restart_pending_;
}

std::string LifeCycle::command_end_text() const {
    auto text = cat("exited", command_end_->by_signal ? " by signal " : " ", command_end_->value);
    return command_end_->reason.empty() ? text : cat(text, " (", command_end_->reason, ")");
}

std::string LifeCycle::describe() const {
    if (state_ == State::Waiting && !waits_for_.empty()) return cat("waits for ", waits_for_);
    std::string text(state_name(state_));
    if (state_ == State::Stopping && start_anew_) text += cat(" to start anew: ", lost_);
    if (state_ == State::Stopping && !start_anew_ && !failure_.empty()) text += cat(": ", failure_);
    if (state_ == State::Exited && command_end_) text = command_end_text();
    if (state_ == State::Failed || state_ == State::Invalid) text += cat(": ", failure_);
    if (restart_pending_) text += cat(", restarts in ", (delay_.count() + 999) / 1000, " s");
    return text;
}

std::vector<Action> LifeCycle::start() {
    state_ = State::Waiting;
    stop_requested_ = restart_pending_ = start_anew_ = false;
    running_since_.reset();
    command_end_.reset();
    failure_.clear();
    waits_for_.clear();
    lost_in_pause_.reset();
    return {action::CancelRestart{}, action::Prepare{}};
}

std::vector<Action> LifeCycle::launch() {
    state_ = State::Starting;
    waits_for_.clear();
    return {action::ArmTimer{limits_.start_timeout}, action::Launch{}};
}

std::vector<Action> LifeCycle::request_stop() {
    restart_pending_ = start_anew_ = false;
    stop_requested_ = true;
    switch (state_) {
    case State::Waiting:
        state_ = State::Stopped;
        return {action::CancelPrepare{}};
    case State::Starting: // nothing runs yet that could end in order
        state_ = State::Stopping;
        return {action::CancelRestart{}, action::ArmTimer{limits_.end_timeout}, action::KillVm{}};
    case State::Running:
        state_ = State::Stopping;
        return {action::ArmTimer{limits_.stop_grace + limits_.end_timeout}, action::AskGuestToStop{}};
    case State::Paused: // only a guest that runs can end in order
        state_ = State::Stopping;
        return {action::ArmTimer{limits_.stop_grace + limits_.end_timeout}, action::ResumeVm{},
                action::AskGuestToStop{}};
    case State::Exited:
    case State::Failed:
        return {action::CancelRestart{}};
    case State::Stopping:
    case State::Stopped:
    case State::Invalid:
        return {};
    }
    return {};
}

// As a stop, but what it needs is got again once its VM is gone. While it waits, whoever prepares it knows;
// when it stops or its command has ended, it needs nothing any more.
std::vector<Action> LifeCycle::lose(std::string what) {
    if (state_ == State::Paused) { // it stays as it was put
        lost_in_pause_ = std::move(what);
        return {};
    }
    if ((state_ != State::Starting && state_ != State::Running) || command_end_ || !failure_.empty())
        return {};
    auto actions = request_stop();
    stop_requested_ = false;
    start_anew_ = true;
    lost_ = std::move(what);
    return actions;
}

std::vector<Action> LifeCycle::fail_and_kill(std::string message, EndReason reason) {
    if (failure_.empty()) { // the first cause counts
        failure_ = std::move(message);
        failure_reason_ = reason;
    }
    return {action::ArmTimer{limits_.end_timeout}, action::KillVm{}};
}

// As a stop, for the agent's sake: it may still write down what it has.
std::vector<Action> LifeCycle::fail_and_stop(std::string message, EndReason reason) {
    if (state_ != State::Running || command_end_ || !failure_.empty()) return {};
    state_ = State::Stopping;
    failure_ = std::move(message);
    failure_reason_ = reason;
    return {action::ArmTimer{limits_.stop_grace + limits_.end_timeout}, action::AskGuestToStop{}};
}

// No time-out runs while it is paused, but the one for the pause itself.
std::vector<Action> LifeCycle::pause(Time now) {
    if (state_ != State::Running || command_end_ || !failure_.empty()) return {};
    state_ = State::Paused;
    paused_at_ = now;
    vm_paused_ = false;
    return {action::ArmTimer{limits_.pause_timeout}, action::PauseVm{}};
}

std::vector<Action> LifeCycle::resume(Time now) {
    if (state_ != State::Paused) return {};
    state_ = State::Running;
    if (running_since_) *running_since_ += now - paused_at_;
    std::vector<Action> actions{action::ResumeVm{}};
    if (!command_end_) actions.emplace_back(action::CancelTimer{});
    if (auto lost = std::exchange(lost_in_pause_, std::nullopt)) {
        auto more = lose(*std::move(lost));
        actions.insert(actions.end(), more.begin(), more.end());
    }
    return actions;
}

std::vector<Action> LifeCycle::time_out() {
    if (state_ == State::Starting)
        return fail_and_kill(cat("did not start within ", limits_.start_timeout.count() / 1000,
                                 " s: see the agent's log for its kernel's messages"),
                             EndReason::StartTimeout);
    if (state_ == State::Paused && !vm_paused_ && !command_end_)
        return fail_and_kill(cat("its VM did not pause within ", limits_.pause_timeout.count() / 1000, " s"),
                             EndReason::VmFault);
    return {action::ArmTimer{limits_.end_timeout}, action::KillVm{}};
}

bool LifeCycle::wants_restart() const {
    if (stop_requested_ || restart_ == RestartPolicy::Never) return false;
    if (restart_ == RestartPolicy::Always) return true;
    return state_ == State::Failed || (command_end_ && (command_end_->by_signal || command_end_->value != 0));
}

void LifeCycle::remember_end() {
    if (stop_requested_)
        last_end_ = {EndReason::Stopped, "stopped"};
    else if (start_anew_)
        last_end_ = {EndReason::NeedLost, lost_};
    else if (state_ == State::Failed)
        last_end_ = {failure_reason_, failure_};
    else if (command_end_)
        last_end_ = {command_end_->out_of_memory ? EndReason::GuestOutOfMemory
                     : command_end_->by_signal   ? EndReason::Signal
                                                 : EndReason::Exited,
                     command_end_text()};
}

std::vector<Action> LifeCycle::end(State state, Time now) {
    state_ = state;
    remember_end();
    std::vector<Action> actions{action::CancelTimer{}};
    if (!wants_restart()) return actions;
    bool was_stable = running_since_ && now - *running_since_ >= limits_.stable_after;
    delay_ = delay_.count() == 0 || was_stable ? limits_.restart_delay
                                               : std::min(delay_ * 2, limits_.restart_delay_max);
    restart_pending_ = true;
    actions.push_back(action::RestartAfter{delay_});
    return actions;
}

std::vector<Action> LifeCycle::handle(const Event& what, Time now) {
    if (std::holds_alternative<event::StartRequested>(what)) {
        if (alive() || state_ == State::Invalid || state_ == State::Waiting) return {};
        delay_ = {};
        lost_ = std::get<event::StartRequested>(what).because;
        if (!lost_.empty()) {
            last_end_ = {EndReason::VmEnded, lost_};
            restarts_++;
        }
        return start();
    }
    if (std::holds_alternative<event::StopRequested>(what)) return request_stop();
    if (std::holds_alternative<event::RestartDue>(what)) {
        if (!restart_pending_ || alive()) return {};
        restarts_++;
        return start();
    }
    if (const auto* waits = std::get_if<event::WaitsFor>(&what)) {
        if (state_ == State::Waiting) waits_for_ = waits->what;
        return {};
    }
    if (std::holds_alternative<event::Prepared>(what))
        return state_ == State::Waiting ? launch() : std::vector<Action>();
    if (const auto* lost = std::get_if<event::NeedLost>(&what)) return lose(lost->what);
    if (const auto* failed = std::get_if<event::LaunchFailed>(&what)) {
        if (!alive() && state_ != State::Waiting) return {};
        failure_ = failed->message;
        failure_reason_ = EndReason::CannotStart;
        return end(stop_requested_ ? State::Stopped : State::Failed, now);
    }
    if (!alive()) return {}; // a late word of a VM that is gone
    if (std::holds_alternative<event::CommandStarted>(what)) {
        if (state_ != State::Starting) return {};
        state_ = State::Running;
        running_since_ = now;
        return {action::CancelTimer{}};
    }
    if (std::holds_alternative<event::PauseRequested>(what)) return pause(now);
    if (std::holds_alternative<event::ResumeRequested>(what)) return resume(now);
    if (std::holds_alternative<event::VmPaused>(what)) {
        if (state_ != State::Paused || vm_paused_) return {};
        vm_paused_ = true;
        return command_end_ || !failure_.empty() ? std::vector<Action>()
                                                 : std::vector<Action>{action::CancelTimer{}};
    }
    if (const auto* ended = std::get_if<event::CommandEnded>(&what)) {
        command_end_ = ended->end;
        return {action::ArmTimer{limits_.end_timeout}};
    }
    if (const auto* failed = std::get_if<event::GuestFailed>(&what))
        return fail_and_kill(failed->message, failed->reason);
    if (const auto* sick = std::get_if<event::Unhealthy>(&what))
        return fail_and_stop(sick->message, EndReason::Health);
    // The VM process usually follows with the cause, for example a kernel panic.
    if (std::holds_alternative<event::LinkClosed>(what)) return {action::ArmTimer{limits_.end_timeout}};
    if (std::holds_alternative<event::TimedOut>(what)) return time_out();
    return vm_gone(std::get<event::VmGone>(what), now);
}

std::vector<Action> LifeCycle::vm_gone(const event::VmGone& gone, Time now) {
    if (stop_requested_) return end(State::Stopped, now);
    if (start_anew_) {
        restarts_++;
        remember_end();
        auto actions = start();
        actions.emplace_back(action::CancelTimer{});
        return actions;
    }
    if (command_end_ && failure_.empty()) return end(State::Exited, now);
    if (failure_.empty()) {
        failure_ = gone.message;
        failure_reason_ = gone.reason;
    }
    return end(State::Failed, now);
}

} // namespace nullbox::cage
