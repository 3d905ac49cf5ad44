#include "cage/agent.h"

#include <algorithm>
#include <cstring>
#include <ctime>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "cage/host_facts.h"

namespace nullbox::cage {

static uint64_t wall_clock_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

static LifeCycle life_of(const CatalogueEntry& entry, const LifeCycleLimits& limits) {
    if (!entry.manifest) { // the first mistake; all of them are in the entry's diagnostics
        auto mistakes = split(entry.diagnostics, '\n');
        auto more = mistakes.size() > 1 ? cat(" (and ", mistakes.size() - 1, " more)") : "";
        return LifeCycle::invalid(cat(mistakes.front(), more));
    }
    return LifeCycle(entry.manifest->restart, limits);
}

// It may hold exposed secrets.
static void wipe(guest_link::Start& start) {
    for (auto& variable : start.environment) ::explicit_bzero(variable.data(), variable.size());
    start.environment.clear();
}

Agent::Agent(AgentContext context, CatalogueEntry entry)
    : context_(std::move(context)), entry_(std::move(entry)), life_(life_of(entry_, context_.host.limits)),
      console_(entry_.name),
      needs_(context_.loop, context_.host.sockets, context_.vault, context_.egress,
             {.waits_for = [this](std::string what) { handle(event::WaitsFor{std::move(what)}); },
              .ready =
                  [this](Granted granted) {
                      if (!life_.waits_for().empty()) requested_at_ = Clock::now();
                      granted_ = std::move(granted);
                      context_.turns.enter(this, [this] { handle(event::Prepared{}); });
                      if (granted_) handle(event::WaitsFor{}); // nothing but its turn
                  }}),
      memory_(context_.loop, context_.host.sockets.ctxgraph,
              [this](std::string_view line) { say(LogStream::Cage, line); }),
      exec_(context_.loop, [this](std::string_view line) { say(LogStream::Cage, line); }),
      grace_(context_.host.limits.stop_grace), last_described_(life_.describe()) {}

Agent::~Agent() {
    context_.turns.leave(this);
    if (start_) wipe(*start_);
}

uint64_t Agent::promised_bytes() const {
    if (!life_.alive() || !entry_.manifest) return 0;
    uint64_t whole = vm_memory_limit(*entry_.manifest);
    return whole - std::min(whole, vm_memory_bytes());
}

int64_t Agent::since_request_ms() const {
    return (Clock::now() - requested_at_) / std::chrono::milliseconds(1);
}

// Start says the time itself, and comes first.
void Agent::clock_set() {
    if (session_ && !start_) (void)session_->send(guest_link::SetClock{.clock_ns = wall_clock_ns()});
}

void Agent::start(std::function<void(Result<>)> done, std::string because) {
    if (life_.state() == State::Stopping)
        return done(error(cat("agent ", entry_.name, " is stopping: try again")));
    adopt_next_entry();
    if (life_.state() == State::Invalid) return done(error(cat("its manifest is wrong: ", life_.failure())));
    start_waiters_.push_back(std::move(done));
    handle(event::StartRequested{std::move(because)});
}

void Agent::restart(std::function<void(Result<>)> done) {
    stop([this, done = std::move(done)] { start(done); });
}

void Agent::pause(std::function<void(Result<>)> done) {
    if (life_.state() != State::Running && life_.state() != State::Paused)
        return done(error(
            cat("agent ", entry_.name, " is ", life_.describe(), ": only one that runs can be paused")));
    pause_waiters_.push_back(std::move(done));
    handle(event::PauseRequested{});
}

Result<> Agent::resume() {
    if (life_.state() == State::Running) return {};
    if (life_.state() != State::Paused)
        return error(cat("agent ", entry_.name, " is ", life_.describe(), ", not paused"));
    handle(event::ResumeRequested{});
    return {};
}

std::optional<Agent::Span> Agent::last_run() const {
    if (!began_at_) return std::nullopt;
    return Span{.began = *began_at_, .ended = ended_at_.value_or(Clock::now())};
}

std::optional<Clock::time_point> Agent::next_try() const {
    return life_.restart_pending() ? next_try_ : std::nullopt;
}

std::string Agent::health() const {
    if (health_) return health_->describe();
    return !entry_.manifest || entry_.manifest->health_check.empty() ? "none" : "unknown";
}

// What egress can change under an agent that runs, and the version, which is for people.
static void take_network(const manifest::AgentManifest& from, manifest::AgentManifest& to) {
    to.version = from.version;
    to.network_allow = from.network_allow;
    to.network_allow_private = from.network_allow_private;
    to.network_rules = from.network_rules;
    to.network_budget = from.network_budget;
}

static bool same_but_network(const CatalogueEntry& one, const CatalogueEntry& other) {
    if (!one.manifest || !other.manifest || one.manifest_path != other.manifest_path ||
        one.app_image_path != other.app_image_path || one.app_image != other.app_image)
        return false;
    auto like = *other.manifest;
    take_network(*one.manifest, like);
    return like == *one.manifest;
}

void Agent::update(CatalogueEntry entry, std::function<void(bool in_effect)> done) {
    next_entry_ = std::move(entry);
    adopt_next_entry();
    context_.changed();
    if (!next_entry_ || !needs_.has_network() || !same_but_network(entry_, *next_entry_)) return done(false);
    needs_.update_network(*next_entry_->manifest,
                          [this, text = next_entry_->text, done = std::move(done)](
                              const Result<uint64_t>& ended) { done(adopt_network(text, ended)); });
}

// text: of the manifest whose rules egress was told; another may have come meanwhile.
bool Agent::adopt_network(const std::string& text, const Result<uint64_t>& ended) {
    if (!next_entry_ || next_entry_->text != text) return ended.has_value() && entry_.text == text;
    if (!ended) {
        say(LogStream::Cage, cat("network: the new rules are not in effect before the next start: ",
                                 printable(ended.error().message, 512)));
        return false;
    }
    // In place: what runs holds on to the rest.
    take_network(*next_entry_->manifest, *entry_.manifest);
    entry_.text = next_entry_->text;
    entry_.diagnostics = next_entry_->diagnostics;
    next_entry_.reset();
    say(LogStream::Cage, cat("network: the new rules are in effect; ", *ended,
                             *ended == 1 ? " connection" : " connections", " ended"));
    context_.changed();
    return true;
}

void Agent::adopt_next_entry() {
    if (!next_entry_ || life_.alive()) return;
    bool waiting = life_.state() == State::Waiting;
    if (waiting) cancel_prepare(); // it reads the manifest that goes now
    entry_ = *std::exchange(next_entry_, std::nullopt);
    if (!entry_.manifest || life_.state() == State::Invalid) {
        restart_timer_.drop();
        life_ = life_of(entry_, context_.host.limits);
    } else {
        life_.set_restart(entry_.manifest->restart);
        if (waiting) needs_.get(*entry_.manifest);
    }
    tell_changes();
}

void Agent::network_lost(const std::string& why) {
    if (!needs_.network_lost()) return;
    if (!granted_) return handle(event::NeedLost{why});
    cancel_prepare(); // nothing runs with it yet
    needs_.get(*entry_.manifest);
}

void Agent::stop(std::function<void()> done, std::optional<std::chrono::milliseconds> grace) {
    grace_ = grace.value_or(context_.host.limits.stop_grace);
    stop_waiters_.push_back(std::move(done));
    handle(event::StopRequested{});
}

Result<ExecDoor::Opened> Agent::exec(ExecOrder order) {
    if (life_.state() != State::Running || !vm_)
        return error(cat("agent ", entry_.name, " is not running: ", life_.describe()));
    return exec_.open(std::move(order), [this](uint32_t port, Fd stream) {
        return vm_->connect_guest(port, std::move(stream));
    });
}

uint64_t Agent::follow(Follower follower) {
    followers_.emplace(next_follower_, std::move(follower));
    return next_follower_++;
}

// Events that arise while one is handled (a launch that fails at once) wait their turn.
void Agent::handle(const Event& event) {
    pending_.push_back(event);
    if (handling_) return;
    handling_ = true;
    while (!pending_.empty()) {
        auto next = std::move(pending_.front());
        pending_.erase(pending_.begin());
        auto before = life_.state();
        auto actions = life_.handle(next, Clock::now());
        note_times(before);
        for (const auto& action : actions) carry_out(action);
    }
    handling_ = false;
    tell_changes();
}

void Agent::note_times(State before) {
    auto now = life_.state();
    bool ran = before == State::Running || before == State::Paused || before == State::Stopping;
    if (before == State::Starting && now == State::Running) {
        began_at_ = Clock::now();
        ended_at_.reset();
        watch_health();
    }
    if (before == State::Starting && now != State::Starting) context_.turns.leave(this);
    if (now != State::Running && now != State::Paused) health_.reset();
    if (ran && !life_.alive() && began_at_ && !ended_at_) ended_at_ = Clock::now();
}

void Agent::watch_health() {
    if (entry_.manifest->health_check.empty()) return;
    health_ = std::make_unique<HealthWatch>(
        context_.loop, entry_.manifest->health_check.front(),
        HealthWatch::Hooks{.ask = [this](const guest_link::CheckHealth& check) -> Result<> {
                               return session_ ? session_->send(check) : error("no link");
                           },
                           .changed = [this] { say(LogStream::Cage, cat("health: ", health_->describe())); },
                           .failing = [this](std::string why) { handle(event::Unhealthy{std::move(why)}); }},
        context_.host.health);
}

void Agent::tell_changes() {
    if (auto now = life_.describe(); now != last_described_) {
        say(LogStream::Cage, now);
        last_described_ = std::move(now);
        context_.changed();
    }
    answer_waiters();
}

void Agent::carry_out(const Action& action) {
    if (std::holds_alternative<action::Prepare>(action)) {
        prepare();
    } else if (std::holds_alternative<action::CancelPrepare>(action)) {
        cancel_prepare();
    } else if (std::holds_alternative<action::Launch>(action)) {
        if (auto launched = launch(); !launched) {
            give_back();
            handle(event::LaunchFailed{launched.error().message});
        }
    } else if (std::holds_alternative<action::AskGuestToStop>(action)) {
        auto grace_ms = static_cast<uint32_t>(grace_.count());
        auto sent =
            session_ ? session_->send(guest_link::Stop{.grace_ms = grace_ms}) : Result<>(error("no link"));
        if (!sent && vm_) vm_->kill();
    } else if (std::holds_alternative<action::KillVm>(action)) {
        if (vm_) vm_->kill();
    } else if (std::holds_alternative<action::PauseVm>(action)) {
        if (health_) health_->pause();
        if (vm_) vm_->pause();
    } else if (std::holds_alternative<action::ResumeVm>(action)) {
        if (vm_) vm_->resume();
        clock_set(); // its clock went on; where it could not, this sets it
        if (health_) health_->resume();
    } else if (const auto* arm = std::get_if<action::ArmTimer>(&action)) {
        timer_ = context_.loop.after(arm->after, [this] { handle(event::TimedOut{}); });
    } else if (std::holds_alternative<action::CancelTimer>(action)) {
        timer_.drop();
    } else if (const auto* restart = std::get_if<action::RestartAfter>(&action)) {
        next_try_ = Clock::now() + restart->delay;
        restart_timer_ = context_.loop.after(restart->delay, [this] { handle(event::RestartDue{}); });
    } else {
        restart_timer_.drop();
    }
}

void Agent::cancel_prepare() {
    context_.turns.leave(this);
    needs_.release();
    granted_.reset();
}

void Agent::prepare() {
    if (next_entry_) { // life_ stays: it is in the middle of this
        entry_ = *std::exchange(next_entry_, std::nullopt);
        if (entry_.manifest) life_.set_restart(entry_.manifest->restart);
    }
    if (!entry_.manifest)
        return handle(event::LaunchFailed{cat("its manifest is wrong: ", entry_.diagnostics)});
    requested_at_ = Clock::now();
    needs_.get(*entry_.manifest);
}

Result<> Agent::launch() {
    times_ = {};
    auto plan = TRY(plan_launch(entry_, context_.host,
                                {.number = context_.number, .promised_bytes = context_.promised_bytes()},
                                *std::exchange(granted_, std::nullopt)));
    address_ = plan.start.network ? plan.start.network->address : "";
    start_ = std::move(plan.start);
    vm_ = TRY(VmProcess::spawn(
        context_.loop, plan.vm,
        {.started = [this] { times_.vm_started_ms = since_request_ms(); },
         .connected = [this](uint32_t port, Fd stream) { meet_guest(port, std::move(stream)); },
         .printed = [this](std::string_view line) { say(LogStream::Vm, line); },
         .gone = [this](EndCause cause) { on_gone(std::move(cause)); },
         .paused = [this] { handle(event::VmPaused{}); }}));
    times_.vm_spawned_ms = since_request_ms();
    return {};
}

// Two services: agent-init's link, to which a second connection would be the agent's and is closed, and the
// memory, once the link is there. A connection to any other port is closed.
void Agent::meet_guest(uint32_t port, Fd stream) {
    if (port == guest_link::kMemoryPort && session_ && MemoryDoor::is_wanted(*entry_.manifest))
        return memory_.hand_over(*entry_.manifest, std::move(stream));
    if (port != kGuestLinkPort || session_) return;
    auto session = GuestSession::make(context_.loop, std::move(stream), guest_events());
    if (!session) return handle(event::GuestFailed{session.error().message});
    session_ = *std::move(session);
}

GuestEvents Agent::guest_events() {
    return {.hello =
                [this](const guest_link::Hello&) {
                    times_.guest_hello_ms = since_request_ms();
                    CHECK(start_); // a session takes one Hello
                    start_->clock_ns = wall_clock_ns();
                    guest_link::HostFrame frame(*std::exchange(start_, std::nullopt));
                    auto sent = session_->send(frame);
                    wipe(std::get<guest_link::Start>(frame));
                    if (!sent) handle(event::GuestFailed{sent.error().message});
                },
            .started =
                [this](const guest_link::Started&) {
                    times_.command_started_ms = since_request_ms();
                    handle(event::CommandStarted{});
                },
            .output = [this](const guest_link::Output& output) { on_output(output); },
            .health =
                [this](const guest_link::Health& health) {
                    if (health_) health_->on_answer(health);
                },
            .exited =
                [this](const guest_link::Exited& exited) {
                    handle(event::CommandEnded{{.by_signal = exited.by_signal,
                                                .value = exited.value,
                                                .out_of_memory = exited.out_of_memory,
                                                .reason = exited.out_of_memory ? out_of_memory() : ""}});
                },
            .failed =
                [this](const guest_link::Failure& failure) {
                    bool command = failure.stage == "start";
                    handle(event::GuestFailed{
                        printable(command ? failure.message
                                          : cat("guest set-up, ", failure.stage, ": ", failure.message)),
                        command ? EndReason::CannotStart : EndReason::GuestFailed});
                },
            .exec_ended = [this](const guest_link::ExecEnded& ended) { exec_.ended(ended); },
            .nonsense = [this](std::string message) { handle(event::GuestFailed{std::move(message)}); },
            .closed = [this] { handle(event::LinkClosed{}); }};
}

void Agent::on_output(const guest_link::Output& output) {
    if (times_.first_output_ms < 0) times_.first_output_ms = since_request_ms();
    say(output.stream == guest_link::Stream::Stdout ? LogStream::Stdout : LogStream::Stderr, output.text,
        output.partial);
}

std::string Agent::out_of_memory() const {
    return cat("out of memory in the guest: max_memory_mb = ", entry_.manifest->max_memory_mb);
}

void Agent::on_gone(EndCause cause) {
    last_cpu_time_ = vm_->cpu_time();
    // What the guest said before it went counts, and may still be in the socket.
    if (session_) session_->drain();
    session_.reset();
    give_back();
    auto gone = std::move(vm_); // it is calling us; it goes when we return
    if (cause.reason == EndReason::GuestOutOfMemory) cause.text = cat(out_of_memory(), " (", cause.text, ")");
    handle(event::VmGone{std::move(cause.text), cause.reason});
}

void Agent::give_back() {
    memory_.close_all();
    exec_.close_all();
    needs_.release();
    address_.clear();
    if (start_) wipe(*start_);
    start_.reset();
}

void Agent::answer_waiters() {
    bool waits = life_.state() == State::Waiting && !life_.waits_for().empty();
    if (life_.state() != State::Starting && (life_.state() != State::Waiting || waits)) {
        bool ran = waits || life_.state() == State::Running || life_.state() == State::Paused ||
                   life_.state() == State::Exited;
        for (auto& done : std::exchange(start_waiters_, {}))
            done(ran ? Result<>()
                     : Result<>(error(life_.failure().empty() ? life_.describe() : life_.failure())));
    }
    if (life_.state() != State::Paused || life_.vm_paused())
        for (auto& done : std::exchange(pause_waiters_, {}))
            done(life_.vm_paused() && life_.state() == State::Paused
                     ? Result<>()
                     : Result<>(error(cat("it was not paused: it is ", life_.describe()))));
    if (!life_.alive())
        for (auto& done : std::exchange(stop_waiters_, {})) done();
}

void Agent::say(LogStream stream, std::string_view text, bool partial) {
    const auto& line = log_.append({.time_ms = static_cast<int64_t>(wall_clock_ns() / 1'000'000),
                                    .stream = stream,
                                    .partial = partial,
                                    .text = std::string(text)});
    console_.line(stream == LogStream::Stdout || stream == LogStream::Stderr
                      ? line.text
                      : cat("[", log_stream_name(stream), "] ", line.text));
    // A follower may leave while it is called.
    auto followers = followers_;
    for (const auto& [number, follower] : followers)
        if (followers_.contains(number)) follower(line);
}

} // namespace nullbox::cage
