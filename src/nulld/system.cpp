#include "nulld/system.h"

#include <algorithm>
#include <csignal>
#include <ctime>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "nulld/control.h"
#include "nulld/fatal.h"
#include "nulld/process_facts.h"
#include "nulld/status_screen.h"
#include "sandbox/namespaces.h"

namespace nullbox::nulld {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kConsole = "/dev/console";
constexpr const char* kCgroupRoot = "/sys/fs/cgroup";
constexpr const char* kSeed = "/var/random-seed";
// All services together, from the order to stop to cgroup.kill; each has its own stop_timeout within it.
constexpr seconds kShutdownLimit{20};
constexpr seconds kAfterKill{2}; // for what SIGKILL does not end at once
// A block is printed this long after the last change, and no more often than that.
constexpr milliseconds kQuietBeforeBlock{400};
constexpr seconds kBetweenBlocks{5};

static std::unique_ptr<Loop> loop_or_end() {
    auto loop = Loop::make();
    if (!loop) fatal(loop.error().message);
    return std::move(*loop);
}

System::System(BootReport boot)
    : boot_(std::move(boot)), loop_(loop_or_end()), console_(*loop_, kConsole, [this] { print_status(); }),
      log_(console_, !boot_.options.plain_console) {}

System::~System() = default;

void System::run() {
    start();
    for (int failures = 0; failures < 10; failures++) {
        auto result = loop_->run();
        if (!result) log_.add("nulld", result.error().message, Tone::Bad);
        ::usleep(100'000);
    }
    fatal("the event loop keeps failing");
}

void System::take_log() {
    set_log_sink([this](LogLevel level, std::string_view text) {
        auto tone = level == LogLevel::Error     ? Tone::Bad
                    : level == LogLevel::Warning ? Tone::Warning
                                                 : Tone::Plain;
        log_.add("nulld", text, tone, level != LogLevel::Debug);
    });
    log_.add("nulld", cat("NullBox ", kVersion, " on ", boot_.hostname));
    for (const auto& note : boot_.notes) log_.add("nulld", note, Tone::Quiet, false);
    for (const auto& problem : boot_.problems) log_.add("nulld", problem, Tone::Bad);
}

void System::start_reaper() {
    auto reaper =
        Reaper::make(*loop_, {.ended = [this](pid_t pid, Exit exit) { return runner_->ended(pid, exit); },
                              .all_reaped = [this] { runner_->pump(); },
                              .signaled = [this](int signal, pid_t from) { on_signal(signal, from); }});
    if (!reaper) fatal(reaper.error().message); // without it nothing here can work
    reaper_ = std::move(*reaper);
}

void System::start() {
    take_log();
    runner_ = std::make_unique<Runner>(
        *loop_, log_, std::move(boot_.services),
        Runner::Options{.cgroup_root = boot_.cgroups ? kCgroupRoot : "", .changed = [this] { on_change(); }});
    for (auto& problem : runner_->plan_problems()) {
        log_.add("nulld", problem, Tone::Bad);
        boot_.problems.push_back(std::move(problem));
    }
    start_reaper();
    auto control = Control::listen(*loop_, *this);
    if (control)
        control_ = std::move(*control);
    else
        boot_.problems.push_back(cat("no control socket: ", control.error().message));
    watchdog_ = Watchdog::open(*loop_);
    // Before the services: a machine that hangs while it starts must still hear its button.
    power_button_ = std::make_unique<PowerButton>(
        *loop_, [this] { begin_shutdown(PowerAction::PowerOff, "the power button"); });
    runner_->start_all();
    // While the services load: an address can be bound before its link is up.
    if (int failed = sandbox::loopback_up())
        boot_.problems.push_back(errno_error(failed, "bring up loopback").message);
    on_change();
}

// What can wait until the services run.
void System::after_boot() {
    kernel_log_ = std::make_unique<KernelLog>(*loop_, log_);
    if (boot_.data_device.empty()) return;
    // The old seed went into the pool at boot; from now on it is never used again.
    if (auto saved = save_random_seed(kSeed); !saved) log_warning(saved.error().message);
}

std::optional<int> System::watchdog_s() const {
    return watchdog_ ? std::optional(watchdog_->timeout_s()) : std::nullopt;
}

void System::on_signal(int signal, pid_t sender) {
    std::string who = sender ? cat("pid ", sender) : "the kernel";
    switch (signal) {
    case SIGINT: // reboot(RB_DISABLE_CAD) makes it of Ctrl-Alt-Del
        return begin_shutdown(PowerAction::Reboot, sender ? who : "Ctrl-Alt-Del");
    case SIGTERM:
    case SIGPWR:
        return begin_shutdown(PowerAction::PowerOff, cat("SIG", ::sigabbrev_np(signal), " from ", who));
    default:
        return;
    }
}

void System::on_change() {
    if (shutdown_) return check_shutdown();
    auto now = Clock::now();
    if (!settled_ms_) {
        if (runner_->supervisor().settled(now)) on_settled();
        return;
    }
    auto states = runner_->supervisor().states();
    if (!ready_ms_ && std::ranges::all_of(states, [](auto& state) {
            return state.actual == Actual::Up || state.outcome == Outcome::Finished;
        }))
        ready_ms_ = uptime_ms();
    // Wait until it is quiet, so that one event prints one block.
    auto due = std::max(now + kQuietBeforeBlock, last_block_ + kBetweenBlocks);
    settle_timer_ = loop_->at(due, [this] {
        if (!runner_->supervisor().settled(Clock::now())) return; // the next change comes here again
        if (status_key(status()) != last_key_) print_status();
    });
}

// The first time that nothing is on its way any more: the machine has booted, well or not.
void System::on_settled() {
    settled_ms_ = uptime_ms();
    auto states = runner_->supervisor().states();
    if (!states.empty() && std::ranges::all_of(states, [](auto& state) {
            return state.actual == Actual::Up || state.outcome == Outcome::Finished;
        }))
        ready_ms_ = settled_ms_;
    boot_timer_ = loop_->after(milliseconds(0), [this] {
        after_boot();
        print_status();
    });
}

void System::print_status() {
    auto now = status();
    last_key_ = status_key(now);
    last_block_ = Clock::now();
    console_.print(render_status(now, {.plain = boot_.options.plain_console}));
}

SystemStatus System::status() const {
    SystemStatus out;
    out.hostname = boot_.hostname;
    out.uptime_ms = uptime_ms();
    out.stage1_ms = boot_.stage1_ms;
    out.stage2_ms = boot_.stage2_ms;
    out.ready_ms = ready_ms_;
    out.settled_ms = settled_ms_;
    out.shutting_down = shutting_down();
    out.data_device = boot_.data_device;
    struct statvfs space{};
    if (::statvfs("/var", &space) == 0) {
        out.data_total_bytes = space.f_blocks * space.f_frsize;
        out.data_free_bytes = space.f_bavail * space.f_frsize;
    }
    out.addresses = host_addresses();
    out.problems = boot_.problems;
    auto now = Clock::now();
    const auto& supervisor = runner_->supervisor();
    for (ServiceId id = 0; id < supervisor.size(); id++) {
        const auto& state = supervisor.states()[id];
        ServiceStatus service;
        service.name = supervisor.config(id).name;
        service.actual = state.actual;
        service.wanted_up = state.wanted == Wanted::Up;
        service.crash_loop = supervisor.crash_loop(id, now);
        service.failed = state.outcome == Outcome::Failed || state.actual == Actual::Delayed;
        service.description = supervisor.describe(id, now);
        service.last_exit = state.last_exit;
        service.last_error = state.last_error;
        service.status_text = runner_->status_text(id);
        service.pid = state.pid;
        if (state.pid)
            service.uptime_ms = std::chrono::duration_cast<milliseconds>(now - state.started).count();
        service.restarts = state.restarts;
        service.failures = state.failures;
        out.services.push_back(std::move(service));
    }
    return out;
}

void System::begin_shutdown(PowerAction action, const std::string& why) {
    if (shutdown_) return;
    shutdown_ = action;
    log_.add("nulld", cat(name_of(action), ", asked for by ", why), Tone::Warning);
    settle_timer_.drop();
    shutdown_deadline_ = Clock::now() + kShutdownLimit;
    runner_->shut_down(shutdown_deadline_);
    check_shutdown();
}

void System::check_shutdown() {
    auto now = Clock::now();
    bool over = now >= shutdown_deadline_ + kAfterKill;
    if (runner_->supervisor().all_down() || over) {
        // In a round of its own: this may have been called from inside the runner.
        shutdown_timer_ = loop_->after(milliseconds(0), [this] { finish_shutdown(); });
        return;
    }
    shutdown_timer_ = loop_->at(shutdown_deadline_ + kAfterKill, [this] { check_shutdown(); });
}

void System::finish_shutdown() {
    if (!boot_.data_device.empty())
        if (auto saved = save_random_seed(kSeed); !saved) log_warning(saved.error().message);
    auto action = *shutdown_;
    end_machine(
        action, [this](std::string_view text) { log_.add("nulld", text); },
        [&] {
            if (watchdog_ && action != PowerAction::Reboot) watchdog_->disarm();
            log_.add("nulld", cat(name_of(action), " now"));
            console_.drain(milliseconds(500));
        });
}

} // namespace nullbox::nulld
