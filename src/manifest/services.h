// nulld.toml: which services PID 1 runs, and in what sandbox. Text in, validated structs out; no system
// calls. The image build runs the same parser (`nulld --check-config FILE`), so a wrong document normally
// never boots; when one does (a damaged image), every well-formed service is still returned beside the
// diagnostics of the others.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "manifest/diagnostic.h"

namespace nullbox::manifest {

enum class RestartPolicy { Always, OnFailure, Never };

struct ServiceConfig {
    std::string name;               // [service.NAME]: LDH lower case, 1..32
    std::vector<std::string> exec;  // required; exec[0] an absolute path
    std::vector<std::string> after; // must be ready before this one starts; cycles are diagnostics
    uint32_t uid = 0, gid = 0;      // user = N (required), group = N (default: user)
    std::map<std::string, std::string> environment;
    std::string working_directory = "/";
    std::vector<std::string> capabilities; // ["CAP_NET_ADMIN"]; all others are dropped, bounding set included
    std::vector<std::string> namespaces;   // of "mount", "net", "ipc", "uts", "pid", "cgroup", "user"
    std::vector<std::string>
        syscalls; // seccomp allow list: names and groups ("@basic"); empty only with syscalls_unrestricted
    bool syscalls_unrestricted = false;     // must be said: `syscalls = "all"`
    bool files_unrestricted = false;        // no Landlock; must be said: `files = "all"`
    std::vector<std::string> read_paths;    // Landlock: read and list beneath
    std::vector<std::string> write_paths;   // Landlock: read, write, make, remove beneath
    std::vector<std::string> execute_paths; // Landlock: execute; exec[0] is always in
    std::vector<std::string>
        devices;                   // device nodes it may open, e.g. "/dev/kvm": chowned to its gid, mode 0660
    bool delegate_cgroup = false;  // owns the subtree below its cgroup
    uint64_t memory_max_bytes = 0; // memory_max_mb, 0: no limit
    uint32_t pids_max = 64;
    uint32_t cpu_max_percent = 0; // 100 = one core; 0: no limit
    uint32_t nofile_max = 1024;
    RestartPolicy restart = RestartPolicy::Always;
    std::chrono::milliseconds restart_delay{200}; // doubles to restart_delay_max
    std::chrono::milliseconds restart_delay_max{30'000};
    std::chrono::milliseconds stable_after{10'000};  // running this long resets the delay
    std::chrono::milliseconds ready_timeout{10'000}; // no READY by then counts as a failure
    std::chrono::milliseconds stop_timeout{5'000};   // TERM, then cgroup.kill
    bool readiness = true;                           // false: ready once exec succeeded ("readiness = false")
    uint32_t line = 0;                               // where it stands in the file, for messages
};

struct ServicesConfig {
    std::vector<ServiceConfig> services; // in a valid start order (dependencies first)
    std::vector<Diagnostic> diagnostics; // empty: the document is right
};

ServicesConfig parse_services(std::string_view text, std::string_view file_name);

} // namespace nullbox::manifest
