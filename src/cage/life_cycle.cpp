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
    return state_ == State::Starting || state_ == State::Running || state_ == State::Stopping;
}

std::string LifeCycle::describe() const {
    if (state_ == State::Waiting && !waits_for_.empty()) return cat("waits for ", waits_for_);
    std::string text(state_name(state_));
    if (state_ == State::Stopping && start_anew_) text += cat(" to start anew: ", lost_);
    if (state_ == State::Exited && command_end_) {
        text += cat(command_end_->by_signal ? " by signal " : " ", command_end_->value);
        if (!command_end_->reason.empty()) text += cat(" (", command_end_->reason, ")");
    }
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
    if ((state_ != State::Starting && state_ != State::Running) || command_end_ || !failure_.empty())
        return {};
    auto actions = request_stop();
    stop_requested_ = false;
    start_anew_ = true;
    lost_ = std::move(what);
    return actions;
}

std::vector<Action> LifeCycle::fail_and_kill(std::string message) {
    if (failure_.empty()) failure_ = std::move(message); // the first cause counts
    return {action::ArmTimer{limits_.end_timeout}, action::KillVm{}};
}

bool LifeCycle::wants_restart() const {
    if (stop_requested_ || restart_ == RestartPolicy::Never) return false;
    if (restart_ == RestartPolicy::Always) return true;
    return state_ == State::Failed || (command_end_ && (command_end_->by_signal || command_end_->value != 0));
}

std::vector<Action> LifeCycle::end(State state, Time now) {
    state_ = state;
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
        lost_.clear();
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
        return end(stop_requested_ ? State::Stopped : State::Failed, now);
    }
    if (!alive()) return {}; // a late word of a VM that is gone
    if (std::holds_alternative<event::CommandStarted>(what)) {
        if (state_ != State::Starting) return {};
        state_ = State::Running;
        running_since_ = now;
        return {action::CancelTimer{}};
    }
    if (const auto* ended = std::get_if<event::CommandEnded>(&what)) {
        command_end_ = ended->end;
        return {action::ArmTimer{limits_.end_timeout}};
    }
    if (const auto* failed = std::get_if<event::GuestFailed>(&what)) return fail_and_kill(failed->message);
    // The VM process usually follows with the cause, for example a kernel panic.
    if (std::holds_alternative<event::LinkClosed>(what)) return {action::ArmTimer{limits_.end_timeout}};
    if (std::holds_alternative<event::TimedOut>(what)) {
        if (state_ == State::Starting)
            return fail_and_kill(cat("did not start within ", limits_.start_timeout.count() / 1000,
                                     " s: see the agent's log for its kernel's messages"));
        return {action::ArmTimer{limits_.end_timeout}, action::KillVm{}};
    }
    const auto& gone = std::get<event::VmGone>(what);
    if (stop_requested_) return end(State::Stopped, now);
    if (start_anew_) {
        restarts_++;
        auto actions = start();
        actions.push_back(action::CancelTimer{});
        return actions;
    }
    if (command_end_ && failure_.empty()) return end(State::Exited, now);
    if (failure_.empty()) failure_ = gone.message;
    return end(State::Failed, now);
}

} // namespace nullbox::cage
