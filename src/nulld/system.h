// The running machine: PID 1's loop and all that lives on it. Made once by stage 2, never destroyed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nulld/boot_options.h"
#include "nulld/host_setup.h"
#include "nulld/kernel_log.h"
#include "nulld/power.h"
#include "nulld/power_button.h"
#include "nulld/reaper.h"
#include "nulld/runner.h"
#include "nulld/status.h"

namespace nullbox::nulld {

class Control; // control.h

// What the boot found out before the loop ran.
struct BootReport {
    BootOptions options;
    int64_t stage1_ms = 0, stage2_ms = 0;
    std::string hostname, data_device;
    bool cgroups = true;
    std::vector<manifest::ServiceConfig> services;
    std::vector<std::string> problems; // for status
    std::vector<std::string> notes;    // for the log only
};

class System {
public:
    explicit System(BootReport boot);
    ~System();
    [[noreturn]] void run();

    // For the control socket.
    SystemStatus status() const;
    Runner& runner() { return *runner_; }
    const Runner& runner() const { return *runner_; }
    LogBook& log() { return log_; }
    const ReapCounts& reaped() const { return reaper_->counts(); }
    uint64_t console_lines_dropped() const { return console_.dropped_lines(); }
    std::optional<int> watchdog_s() const;
    // why: for the console: "the power button", "uid 105: update". The first one counts.
    void begin_shutdown(PowerAction action, const std::string& why);
    bool shutting_down() const { return shutdown_.has_value(); }

private:
    void start();
    void start_reaper();
    void take_log();
    void after_boot();
    void on_signal(int signal, pid_t sender);
    void on_change();
    void on_settled();
    void print_status();
    void finish_shutdown();
    void check_shutdown();

    BootReport boot_;
    std::unique_ptr<Loop> loop_;
    Console console_;
    LogBook log_;
    std::unique_ptr<Reaper> reaper_;
    std::unique_ptr<Runner> runner_;
    std::unique_ptr<Control> control_;
    std::unique_ptr<Watchdog> watchdog_;
    std::unique_ptr<KernelLog> kernel_log_;
    std::unique_ptr<PowerButton> power_button_;
    std::optional<int64_t> ready_ms_, settled_ms_;
    std::optional<PowerAction> shutdown_;
    TimePoint shutdown_deadline_{}, last_block_{};
    std::string last_key_;
    Watch settle_timer_, shutdown_timer_, boot_timer_;
};

} // namespace nullbox::nulld
