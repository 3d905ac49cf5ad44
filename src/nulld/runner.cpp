#include "nulld/runner.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"
#include "nulld/service_child.h"

namespace nullbox::nulld {

constexpr size_t kLastWordsBytes = size_t{256} << 10; // read from a dead service's pipe at once
constexpr size_t kNotifyLineBytes = 512;
constexpr std::chrono::milliseconds kClearingPoll{100};

Runner::Runner(Loop& loop, LogBook& log, std::vector<manifest::ServiceConfig> services, Options options)
    : loop_(loop), log_(log), options_(std::move(options)), supervisor_(std::move(services)) {
    for (ServiceId id = 0; id < supervisor_.size(); id++) {
        auto unit = std::make_unique<Unit>();
        unit->plan = ServicePlan::make(supervisor_.config(id));
        log_.make(supervisor_.config(id).name);
        units_.push_back(std::move(unit));
    }
}

std::vector<std::string> Runner::plan_problems() const {
    std::vector<std::string> problems;
    for (ServiceId id = 0; id < units_.size(); id++)
        if (const auto& plan = units_[id]->plan; !plan)
            problems.push_back(cat("nulld.toml:", supervisor_.config(id).line, ": ", plan.error().message));
    return problems;
}

void Runner::start_all() {
    supervisor_.start_all();
    pump();
}
Result<> Runner::start(ServiceId id) {
    auto result = supervisor_.start(id);
    pump();
    return result;
}
Result<> Runner::restart(ServiceId id) {
    auto result = supervisor_.restart(id);
    pump();
    return result;
}
void Runner::stop(ServiceId id) {
    supervisor_.stop(id);
    pump();
}
void Runner::shut_down(TimePoint deadline) {
    supervisor_.shut_down(deadline);
    pump();
}

const sandbox::Cgroup* Runner::group(ServiceId id) const {
    return units_[id]->group ? &*units_[id]->group : nullptr;
}

void Runner::pump() {
    if (pumping_) return; // an action's callback: the round that is under way sees its event
    pumping_ = true;
    for (;;) {
        auto actions = supervisor_.decide(Clock::now());
        if (actions.empty()) break;
        for (const auto& action : actions) execute(action);
    }
    pumping_ = false;
    set_timer();
    tell_changes();
}

void Runner::execute(const Action& action) {
    switch (action.kind) {
    case Action::Kind::Spawn:
        return spawn(action.service);
    case Action::Kind::Terminate:
        return terminate(action.service);
    case Action::Kind::Kill:
        return kill(action.service);
    }
}

void Runner::spawn(ServiceId id) {
    auto& unit = *units_[id];
    const auto& config = supervisor_.config(id);
    auto fail = [&](const Error& why) { supervisor_.spawn_failed(id, why.message, Clock::now()); };
    if (!unit.plan) return fail(unit.plan.error());
    auto problems = prepare_folders(config);
    if (problems != unit.folder_problems)
        for (const auto& problem : problems)
            log_.add("nulld", cat(config.name, ": ", problem), Tone::Warning);
    unit.folder_problems = std::move(problems);
    if (!options_.cgroup_root.empty()) {
        auto group = make_service_group(config, options_.cgroup_root);
        // Without its group it would run without limits and could not be killed whole.
        if (!group) return fail(group.error());
        unit.group_watch.drop();
        unit.group = std::move(*group);
        unit.oom_kills_before = unit.group->oom_kills();
        watch_group(id);
    }
    auto process = spawn_service(*unit.plan, this->group(id));
    if (!process) return fail(process.error());
    connect(id, std::move(*process));
}

void Runner::connect(ServiceId id, ServiceProcess process) {
    auto* unit = units_[id].get();
    const std::string& name = supervisor_.config(id).name;
    auto show = [this, name](std::string_view line) { log_.add(name, line); };
    unit->pid = process.pid;
    unit->pidfd = std::move(process.pidfd);
    unit->setup_error.clear();
    unit->setup_bytes.clear();
    unit->status_text.clear();
    unit->output = std::make_unique<PipeReader>(
        loop_, std::move(process.output),
        PipeReader::Callbacks{
            .bytes = [unit, show](std::string_view bytes) { unit->output_lines.feed(bytes, show); },
            .end = [unit, show] { unit->output_lines.finish(show); }});
    unit->notify_lines = {};
    unit->notify = std::make_unique<PipeReader>(
        loop_, std::move(process.notify),
        PipeReader::Callbacks{.bytes =
                                  [this, unit, id](std::string_view bytes) {
                                      unit->notify_lines.feed(
                                          bytes, [&](std::string_view line) { on_notify_line(id, line); });
                                  },
                              .end = [] {}});
    unit->setup = std::make_unique<PipeReader>(
        loop_, std::move(process.setup),
        PipeReader::Callbacks{.bytes = [unit](std::string_view bytes) { unit->setup_bytes += bytes; },
                              .end = [this, id] { on_setup_end(id); }});
    supervisor_.spawned(id, unit->pid);
}

// The status pipe closed: by a successful exec, or by a child that failed and said why.
void Runner::on_setup_end(ServiceId id) {
    auto& unit = *units_[id];
    if (unit.setup_bytes.size() == sizeof(SetupFailure) && unit.plan) {
        SetupFailure failure{};
        std::memcpy(&failure, unit.setup_bytes.data(), sizeof failure);
        unit.setup_error = to_text(failure, *unit.plan);
        return; // its exit follows
    }
    if (supervisor_.config(id).readiness) return;
    supervisor_.ready(id, Clock::now());
    pump();
}

void Runner::on_notify_line(ServiceId id, std::string_view line) {
    constexpr std::string_view kStatus = "STATUS=";
    if (line == "READY") {
        supervisor_.ready(id, Clock::now());
        pump();
    } else if (line.starts_with(kStatus)) {
        units_[id]->status_text = printable(line.substr(kStatus.size()), kNotifyLineBytes);
        options_.changed();
    }
}

bool Runner::ended(pid_t pid, Exit exit) {
    auto id = supervisor_.find_pid(pid);
    if (!id) return false;
    auto& unit = *units_[*id];
    // Its last words and the reason it never became the service, before anybody acts on its end.
    bool pumping = std::exchange(pumping_, true);
    if (unit.setup) unit.setup->drain(kLastWordsBytes);
    if (unit.notify) unit.notify->drain(kLastWordsBytes);
    if (unit.output) unit.output->drain(kLastWordsBytes);
    pumping_ = pumping;
    auto why = unit.setup_error;
    if (why.empty() && unit.group && unit.group->oom_kills() > unit.oom_kills_before)
        why = cat("killed: it needed more than its ", supervisor_.config(*id).memory_max_bytes >> 20,
                  " MB of memory (memory_max_mb)");
    supervisor_.exited(*id, exit, std::move(why), Clock::now());
    return true;
}

void Runner::terminate(ServiceId id) {
    if (units_[id]->pidfd) ::syscall(SYS_pidfd_send_signal, units_[id]->pidfd.get(), SIGTERM, nullptr, 0);
}

void Runner::kill(ServiceId id) {
    auto& unit = *units_[id];
    if (unit.group) {
        if (auto killed = unit.group->kill(); !killed)
            log_.add("nulld", cat(supervisor_.config(id).name, ": ", killed.error().message), Tone::Warning);
    } else if (unit.pid > 0) {
        ::kill(-unit.pid, SIGKILL);
    }
    check_empty(id);
}

void Runner::check_empty(ServiceId id) {
    auto& unit = *units_[id];
    if (supervisor_.states()[id].actual != Actual::Clearing) return;
    if (unit.group && unit.group->populated()) return;
    supervisor_.group_empty(id);
}

void Runner::watch_group(ServiceId id) {
    auto& unit = *units_[id];
    auto events = unit.group->open_events();
    if (!events) return; // the poll while clearing finds out as well
    unit.group_events = std::move(*events);
    auto watch = loop_.watch(unit.group_events.get(), EPOLLPRI, [this, id](uint32_t) {
        char rearm[128]; // kernfs reports the next change only after a read
        (void)!::pread(units_[id]->group_events.get(), rearm, sizeof rearm, 0);
        if (supervisor_.states()[id].actual != Actual::Clearing) return;
        check_empty(id);
        pump();
    });
    if (watch) unit.group_watch = std::move(*watch);
}

void Runner::set_timer() {
    auto due = supervisor_.next_deadline();
    for (const auto& state : supervisor_.states())
        if (state.actual == Actual::Clearing) {
            auto poll = Clock::now() + kClearingPoll;
            due = due ? std::min(*due, poll) : poll;
        }
    if (!due) return timer_.drop();
    timer_ = loop_.at(*due, [this] {
        for (ServiceId id = 0; id < units_.size(); id++) check_empty(id);
        pump();
    });
}

// One line in the log for each state a person would want to know of.
void Runner::tell_changes() {
    auto now = Clock::now();
    bool any = false;
    for (ServiceId id = 0; id < units_.size(); id++) {
        const auto& state = supervisor_.states()[id];
        auto text = supervisor_.describe(id, now);
        // Without the seconds that a delayed one still waits.
        std::string key = cat(state.actual == Actual::Delayed ? "delayed" : text, state.restarts);
        if (key == units_[id]->said) continue;
        units_[id]->said = key;
        any = true;
        bool failed = state.actual == Actual::Delayed || state.outcome == Outcome::Failed;
        auto tone = failed                             ? Tone::Bad
                    : state.actual == Actual::Up       ? Tone::Good
                    : state.actual == Actual::Starting ? Tone::Quiet
                                                       : Tone::Plain;
        if (state.actual == Actual::Up)
            text +=
                cat(" after ",
                    std::chrono::ceil<std::chrono::milliseconds>(state.since - state.started).count(), " ms");
        if (failed && !state.last_error.empty()) text = cat(state.last_error, "; ", text);
        log_.add("nulld", cat(supervisor_.config(id).name, ": ", text), tone);
    }
    if (any) options_.changed();
}

} // namespace nullbox::nulld
