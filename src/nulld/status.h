// The machine's state in one struct, for the console's status block and the control socket's answer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nulld/supervisor.h"

namespace nullbox::nulld {

constexpr const char* kVersion = "0.1.0";

struct ServiceStatus {
    std::string name;
    Actual actual = Actual::Down;
    bool wanted_up = false;
    bool crash_loop = false;
    bool failed = false; // down for good, or about to be tried again
    std::string description, last_exit, last_error, status_text;
    std::optional<int64_t> uptime_ms;
    pid_t pid = 0;
    uint64_t restarts = 0;
    uint32_t failures = 0;
};

struct SystemStatus {
    std::string hostname;
    int64_t uptime_ms = 0;
    int64_t stage1_ms = 0, stage2_ms = 0;
    std::optional<int64_t> ready_ms, settled_ms;
    bool shutting_down = false;
    std::string data_device; // empty: memory
    uint64_t data_total_bytes = 0, data_free_bytes = 0;
    std::vector<std::string> addresses;
    std::vector<ServiceStatus> services;
    std::vector<std::string> problems;
};

} // namespace nullbox::nulld
