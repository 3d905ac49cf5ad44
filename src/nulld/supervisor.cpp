#include "nulld/supervisor.h"

#include <algorithm>
#include <csignal>
#include <cstring>

#include "base/check.h"
#include "base/text.h"

namespace nullbox::nulld {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint32_t kCrashLoopFailures = 5;
// A killed process that is in the kernel's uninterruptible sleep can outlive SIGKILL; past this it is
// reported.
constexpr seconds kKillTakesAtMost{5};

static std::string text_of(milliseconds time) {
    if (time < seconds(10) && time.count() % 1000) return cat(time.count(), " ms");
    return cat(time.count() / 1000, " s");
}

std::string to_text(Exit exit) {
    if (!exit.by_signal) return cat("exited with status ", exit.value);
    const char* name = ::sigabbrev_np(exit.value);
    std::string text = cat("killed by SIG", name ? name : "?");
    if (exit.value == SIGSYS) text += " (made a system call that its configuration does not allow)";
    if (exit.value == SIGSEGV || exit.value == SIGBUS || exit.value == SIGABRT || exit.value == SIGILL)
        text += " (crashed)";
    return text;
}

Supervisor::Supervisor(std::vector<manifest::ServiceConfig> services) : states_(services.size()) {
    for (auto& config : services) {
        auto delay = config.restart_delay;
        services_.push_back({.config = std::move(config), .after = {}, .missing = {}, .delay = delay});
    }
    for (auto& service : services_)
        for (const auto& name : service.config.after) {
            auto dependency = find(name);
            if (dependency)
                service.after.push_back(*dependency);
            else
                service.missing.push_back(name);
        }
}

std::optional<ServiceId> Supervisor::find(std::string_view name) const {
    for (ServiceId id = 0; id < services_.size(); id++)
        if (services_[id].config.name == name) return id;
    return std::nullopt;
}

std::optional<ServiceId> Supervisor::find_pid(pid_t pid) const {
    for (ServiceId id = 0; id < states_.size(); id++)
        if (pid > 0 && states_[id].pid == pid) return id;
    return std::nullopt;
}

Result<> Supervisor::start(ServiceId id) {
    if (shutdown_deadline_) return error("the machine is shutting down");
    auto& state = states_[id];
    state.wanted = Wanted::Up;
    // An operator's start forgives the past: no delay left over, no outcome.
    services_[id].delay = services_[id].config.restart_delay;
    state.failures = 0;
    state.outcome = Outcome::None;
    if (state.actual == Actual::Delayed) state.next_try = {};
    // On its way down: up again as soon as it is gone.
    if (state.actual == Actual::Stopping || state.actual == Actual::Clearing)
        services_[id].restart_asked = true;
    return {};
}

Result<> Supervisor::restart(ServiceId id) {
    Actual actual = states_[id].actual;
    if (auto started = start(id); !started) return started;
    if (actual == Actual::Starting || actual == Actual::Up) services_[id].restart_asked = true;
    return {};
}

void Supervisor::stop(ServiceId id) {
    states_[id].wanted = Wanted::Down;
    states_[id].outcome = Outcome::None;
    services_[id].restart_asked = false;
}

void Supervisor::start_all() {
    for (ServiceId id = 0; id < services_.size(); id++) (void)start(id);
}

void Supervisor::shut_down(TimePoint deadline) {
    shutdown_deadline_ = deadline;
    for (ServiceId id = 0; id < services_.size(); id++) stop(id);
}

void Supervisor::spawned(ServiceId id, pid_t pid) {
    states_[id].pid = pid;
    services_[id].process_gone = services_[id].group_gone = false;
}

void Supervisor::spawn_failed(ServiceId id, std::string why, TimePoint now) {
    CHECK(states_[id].actual == Actual::Starting);
    states_[id].pid = 0;
    services_[id].process_gone = services_[id].group_gone = true;
    fail(id, std::move(why), now);
    enter(id, Actual::Clearing, now);
}

void Supervisor::ready(ServiceId id, TimePoint now) {
    if (states_[id].actual == Actual::Starting) enter(id, Actual::Up, now);
}

void Supervisor::exited(ServiceId id, Exit exit, std::string why, TimePoint now) {
    auto& state = states_[id];
    auto& service = services_[id];
    service.process_gone = true;
    state.pid = 0;
    state.last_exit = why.empty() ? to_text(exit) : why;
    if (state.actual == Actual::Stopping) return; // asked for, however it ended; decide() clears
    if (state.actual != Actual::Starting && state.actual != Actual::Up) return;
    if (!why.empty())
        fail(id, std::move(why), now);
    else if (exit.by_signal || exit.value != 0)
        fail(id, to_text(exit), now);
    else if (state.actual == Actual::Starting)
        fail(id, "exited with status 0 before it was ready", now);
}

void Supervisor::group_empty(ServiceId id) { services_[id].group_gone = true; }

void Supervisor::enter(ServiceId id, Actual actual, TimePoint now) {
    states_[id].actual = actual;
    states_[id].since = now;
}

void Supervisor::fail(ServiceId id, std::string why, TimePoint now) {
    auto& state = states_[id];
    if (state.actual == Actual::Up && now - state.started >= services_[id].config.stable_after)
        state.failures = 0;
    services_[id].failing = true;
    state.failures++;
    state.last_error = std::move(why);
}

void Supervisor::clear(ServiceId id, TimePoint now, std::vector<Action>& actions) {
    // Also when the group looks empty: the process may have forked a moment before it ended.
    actions.push_back({Action::Kind::Kill, id});
    if (states_[id].actual == Actual::Up && now - states_[id].started >= services_[id].config.stable_after)
        services_[id].delay = services_[id].config.restart_delay;
    enter(id, Actual::Clearing, now);
}

void Supervisor::after_clearing(ServiceId id, TimePoint now) {
    using manifest::RestartPolicy;
    auto& state = states_[id];
    auto& service = services_[id];
    bool failed = std::exchange(service.failing, false);
    bool asked = std::exchange(service.restart_asked, false);
    if (state.wanted == Wanted::Down) return enter(id, Actual::Down, now);
    if (asked) return enter(id, Actual::Waiting, now);
    bool again = service.config.restart == RestartPolicy::Always ||
                 (service.config.restart == RestartPolicy::OnFailure && failed);
    if (!again) {
        state.wanted = Wanted::Down;
        state.outcome = failed ? Outcome::Failed : Outcome::Finished;
        return enter(id, Actual::Down, now);
    }
    state.restarts++;
    state.next_try = now + service.delay;
    service.delay = std::min(service.delay * 2, std::max(service.config.restart_delay_max, service.delay));
    enter(id, Actual::Delayed, now);
}

bool Supervisor::satisfied(ServiceId dependency) const {
    const auto& state = states_[dependency];
    return state.actual == Actual::Up || (state.actual == Actual::Down && state.outcome == Outcome::Finished);
}

bool Supervisor::may_start(ServiceId id) const {
    return services_[id].missing.empty() &&
           std::ranges::all_of(services_[id].after, [&](ServiceId other) { return satisfied(other); });
}

// A dependant that keeps running (the operator stops only this one) does not hold it.
bool Supervisor::dependants_down(ServiceId id) const {
    for (ServiceId other = 0; other < services_.size(); other++)
        if (std::ranges::contains(services_[other].after, id) && states_[other].wanted == Wanted::Down &&
            states_[other].actual != Actual::Down)
            return false;
    return true;
}

// Starting, Up and Stopping: a process is there, or was a moment ago.
bool Supervisor::step_running(ServiceId id, TimePoint now, std::vector<Action>& actions) {
    auto& state = states_[id];
    auto& service = services_[id];
    if (service.process_gone || (shutdown_deadline_ && now >= *shutdown_deadline_)) {
        clear(id, now, actions);
        return true;
    }
    if (state.actual == Actual::Stopping) {
        if (now - state.since < service.config.stop_timeout) return false;
        clear(id, now, actions);
        return true;
    }
    if (service.restart_asked || (state.wanted == Wanted::Down && dependants_down(id))) {
        actions.push_back({Action::Kind::Terminate, id});
        enter(id, Actual::Stopping, now);
        return true;
    }
    if (state.actual == Actual::Starting && state.wanted == Wanted::Up &&
        now - state.since >= service.config.ready_timeout) {
        fail(id, cat("not ready within ", text_of(service.config.ready_timeout)), now);
        clear(id, now, actions);
        return true;
    }
    return false;
}

// One transition, or none.
bool Supervisor::step(ServiceId id, TimePoint now, std::vector<Action>& actions) {
    auto& state = states_[id];
    auto& service = services_[id];
    bool up = state.wanted == Wanted::Up;
    switch (state.actual) {
    case Actual::Down:
        if (up) enter(id, Actual::Waiting, now);
        return up;
    case Actual::Waiting:
        if (up && !may_start(id)) return false;
        if (up) {
            actions.push_back({Action::Kind::Spawn, id});
            state.started = now;
            service.process_gone = false; // until the answer to Spawn says otherwise
        }
        enter(id, up ? Actual::Starting : Actual::Down, now);
        return true;
    case Actual::Starting:
    case Actual::Up:
    case Actual::Stopping:
        return step_running(id, now, actions);
    case Actual::Clearing:
        if (!service.process_gone || !service.group_gone) return false;
        after_clearing(id, now);
        return true;
    case Actual::Delayed:
        if (up && now < state.next_try) return false;
        enter(id, up ? Actual::Waiting : Actual::Down, now);
        return true;
    }
    return false;
}

std::vector<Action> Supervisor::decide(TimePoint now) {
    std::vector<Action> actions;
    // A service makes at most a few transitions without an event between them, so this ends; the bound is
    // there for a mistake of ours.
    for (size_t round = 0, changed = 1; changed; round++) {
        CHECK(round <= 8 * (services_.size() + 1));
        changed = 0;
        for (ServiceId id = 0; id < services_.size(); id++) changed += step(id, now, actions);
    }
    return actions;
}

std::optional<TimePoint> Supervisor::deadline(ServiceId id) const {
    const auto& state = states_[id];
    const auto& config = services_[id].config;
    std::optional<TimePoint> due;
    if (state.actual == Actual::Starting) due = state.since + config.ready_timeout;
    if (state.actual == Actual::Stopping) due = state.since + config.stop_timeout;
    if (state.actual == Actual::Delayed) due = state.next_try;
    bool lives =
        state.actual == Actual::Starting || state.actual == Actual::Up || state.actual == Actual::Stopping;
    if (shutdown_deadline_ && lives) due = due ? std::min(*due, *shutdown_deadline_) : *shutdown_deadline_;
    return due;
}

std::optional<TimePoint> Supervisor::next_deadline() const {
    std::optional<TimePoint> first;
    for (ServiceId id = 0; id < services_.size(); id++)
        if (auto due = deadline(id)) first = first ? std::min(*first, *due) : *due;
    return first;
}

bool Supervisor::crash_loop(ServiceId id, TimePoint now) const {
    const auto& state = states_[id];
    bool stable = state.actual == Actual::Up && now - state.started >= services_[id].config.stable_after;
    return state.failures >= kCrashLoopFailures && !stable;
}

bool Supervisor::unkillable(ServiceId id, TimePoint now) const {
    return states_[id].actual == Actual::Clearing && now - states_[id].since > kKillTakesAtMost;
}

std::string Supervisor::describe(ServiceId id, TimePoint now) const {
    const auto& state = states_[id];
    auto wait = std::max(std::chrono::ceil<seconds>(state.next_try - now), seconds(0));
    switch (state.actual) {
    case Actual::Down:
        if (state.outcome == Outcome::Finished) return "finished";
        return state.outcome == Outcome::Failed ? "failed" : "stopped";
    case Actual::Waiting:
        for (const auto& name : services_[id].missing)
            return cat("waits for ", name, ", which is not configured");
        for (auto other : services_[id].after)
            if (!satisfied(other)) return cat("waits for ", services_[other].config.name);
        return "starting";
    case Actual::Starting:
        return "starting";
    case Actual::Up:
        return "running";
    case Actual::Stopping:
        return "stopping";
    case Actual::Clearing:
        return unkillable(id, now) ? "cannot be killed" : "stopping";
    case Actual::Delayed:
        return cat(crash_loop(id, now) ? "keeps failing, next try in " : "restarts in ", wait.count(), " s");
    }
    return "?";
}

bool Supervisor::all_down() const {
    return std::ranges::all_of(states_, [](auto& state) { return state.actual == Actual::Down; });
}

bool Supervisor::settled(TimePoint now) const {
    for (ServiceId id = 0; id < services_.size(); id++) {
        switch (states_[id].actual) {
        case Actual::Down:
            if (states_[id].wanted == Wanted::Up) return false;
            break;
        case Actual::Up:
            break;
        case Actual::Waiting:
            if (may_start(id)) return false;
            break;
        case Actual::Starting:
        case Actual::Stopping:
            return false;
        case Actual::Clearing:
            if (!unkillable(id, now)) return false;
            break;
        case Actual::Delayed:
            break; // it has failed, and that is the news
        }
    }
    return true;
}

} // namespace nullbox::nulld
