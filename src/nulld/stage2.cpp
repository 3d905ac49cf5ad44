#include "nulld/stage2.h"

#include <cstdlib>
#include <fcntl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "nulld/check_config.h"
#include "nulld/data_partition.h"
#include "nulld/fatal.h"
#include "nulld/machine_sources.h"
#include "nulld/mounts.h"
#include "nulld/stage1.h"
#include "nulld/sysctls.h"
#include "nulld/system.h"

namespace nullbox::nulld {

constexpr const char* kServices = "/system/config/nulld.toml";
constexpr const char* kSeed = "/var/random-seed";

static void append(std::vector<std::string>& to, std::vector<std::string> from) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

static void note(BootReport& boot, const Result<>& result) {
    if (!result) boot.problems.push_back(result.error().message);
}

static int64_t stage1_ms() {
    const char* text = std::getenv(kStage1Variable);
    int64_t us = text ? parse_number(text, 0, INT64_MAX).value_or(0) : 0;
    ::unsetenv(kStage1Variable);
    return us / 1000;
}

// What PID 1 itself needs before anything can go wrong.
static void prepare_self() {
    install_fatal_handlers();
    ::umask(022);
    ::setsid();
    ::reboot(RB_DISABLE_CAD); // Ctrl-Alt-Del sends SIGINT
}

// Control groups, mounts and namespaces wait for the kernel's grace periods, at boot and at every agent's
// start: at once, for the price of a few interrupts, instead of when it suits.
static void expedite_grace_periods(BootReport& boot) {
    note(boot, write_existing("/sys/kernel/rcu_expedited", "1"));
}

static void prepare_cgroups(BootReport& boot) {
    auto root = sandbox::Cgroup::create("/sys/fs/cgroup");
    auto enabled = root ? root->enable_controllers_below() : Result<>(root.error());
    boot.cgroups = enabled.has_value();
    note(boot, std::move(enabled).context("services run without limits"));
}

static void find_data(BootReport& boot) {
    DataPartition data = mount_var();
    for (uint32_t waited = 0; data.device.empty() && waited < boot.options.wait_for_data_s * 10; waited++) {
        ::usleep(100'000);
        data = mount_var();
    }
    boot.data_device = data.device;
    append(boot.problems, std::move(data.problems));
}

static void apply_machine_config(BootReport& boot) {
    auto machine = load_machine_config();
    for (const auto& diagnostic : machine.diagnostics) boot.problems.push_back(to_text(diagnostic));
    boot.hostname = machine.hostname.value_or("nullbox");
    note(boot, set_hostname(boot.hostname));
    note(boot, publish_machine_config(machine).context("services run without the machine configuration"));
}

static void harden_kernel(BootReport& boot) {
    auto report = apply_sysctls();
    append(boot.problems, std::move(report.failed));
    std::string absent;
    for (const auto& name : report.absent) absent += cat(absent.empty() ? "" : ", ", name);
    if (!absent.empty()) boot.notes.push_back(cat("this kernel has no sysctl ", absent));
}

static void feed_randomness(BootReport& boot) {
    if (boot.data_device.empty()) return;
    if (auto loaded = load_random_seed(kSeed); !loaded)
        boot.notes.push_back(cat("no random seed of an earlier run: ", loaded.error().message));
}

static void set_clock_floor(BootReport& boot) {
    if (auto said = raise_clock(image_build_time())) boot.notes.push_back(*said);
}

static void read_services(BootReport& boot) {
    auto text = read_file(kServices);
    if (!text) {
        boot.problems.push_back(cat("no service can be started: ", text.error().message));
        return;
    }
    auto config = manifest::parse_services(*text, "nulld.toml");
    for (const auto& diagnostic : config.diagnostics) boot.problems.push_back(to_text(diagnostic));
    boot.services = std::move(config.services);
}

// Killing PID 1 for memory would take the machine with it; services set theirs back to 0.
static void protect_from_oom(BootReport& boot) {
    note(boot, write_existing("/proc/self/oom_score_adj", "-1000"));
}

void run_stage2() {
    BootReport boot{.stage1_ms = stage1_ms(), .stage2_ms = uptime_ms()};
    prepare_self();
    append(boot.problems, mount_all());
    expedite_grace_periods(boot);
    boot.options = parse_boot_options(read_file("/proc/cmdline").value_or(""));
    if (!boot.options.cpus.empty()) note(boot, keep_to_cpus(boot.options.cpus));
    protect_from_oom(boot);
    prepare_cgroups(boot);
    find_data(boot);
    apply_machine_config(boot);
    harden_kernel(boot);
    feed_randomness(boot);
    set_clock_floor(boot);
    read_services(boot);
    System(std::move(boot)).run();
}

} // namespace nullbox::nulld
