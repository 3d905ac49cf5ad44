// AGENT.toml: what one agent is and what it may do. Every field with type, bounds and default is in
// docs/manifest.md. Text in, validated struct or diagnostics out; no system calls. Unknown keys are errors
// with a suggestion.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "manifest/diagnostic.h"
#include "manifest/services.h" // RestartPolicy

namespace nullbox::manifest {

// A secret that the agent may use. In the agent's environment stands a placeholder; egress puts the value
// into the named header on its way to the named host, and nowhere else. An exposed one is the value itself.
struct Credential {
    std::string name;     // of the secret: letters, digits, '_', '-', '.', 1..64
    std::string variable; // of the environment, distinct among credentials and [agent.environment]
    bool exposed = false; // then inject is empty
    struct Inject {
        std::string host;   // one name, reached by network_allow
        std::string header; // a token of RFC 9110 5.6.2 that does not frame or route the request
        std::string format; // printable ASCII with "{secret}" in it once
        bool operator==(const Inject&) const = default;
    };
    std::vector<Inject> inject; // at most 16; none: a placeholder and nothing more
    bool operator==(const Credential&) const = default;
};

// What of HTTP an agent may ask of a host that network_allow names. A host with rules gets no other request.
struct RequestRule {
    std::string host;                 // a name or *.suffix; with a port: on that port only
    std::vector<std::string> methods; // upper case, at most 16; none: any
    std::vector<std::string> paths;   // patterns (request_path.h), at most 64; none: any
    bool operator==(const RequestRule&) const = default;
};

// What an agent may use of the network in any sixty minutes. 0: no limit.
struct NetworkBudget {
    uint64_t bytes = 0;                     // mb_per_hour: 1..16777216 MiB, up and down together
    uint32_t connections = 0, requests = 0; // 1..100'000'000
    bool operator==(const NetworkBudget&) const = default;
};

struct AgentManifest {
    // [agent]
    std::string name;                               // LDH lower case, 1..32; must equal the file's name
    std::string version;                            // 1..64 printable characters
    std::string image;                              // name of a runtime image, LDH 1..64
    std::vector<std::string> command;               // argv, each 1..4096 bytes, at most 64; none: the image's
    std::map<std::string, std::string> environment; // [agent.environment], at most 128 entries
    std::string working_directory = "/";            // absolute, no ".."
    uint32_t uid = 1000, gid = 1000; // user = N; inside the guest, 0 allowed (root in its own VM)
    // Whether the manifest says them. What it does not say the image may (guest_link/image_config.h).
    bool has_user = false, has_group = false, has_working_directory = false;
    bool start_at_boot = true; // start = "boot" | "manual"
    RestartPolicy restart = RestartPolicy::Never;
    // [capabilities]
    uint32_t max_cpu_percent = 100; // 1..3200; 100 = one core; see vcpus()
    uint32_t max_memory_mb = 128;   // 64..65536
    uint32_t scratch_mb = 0;        // 16..1048576; 0: changes to the image are in the guest's memory
    uint32_t disk_mbps = 0;         // MiB/s of all disks together, 1..100000; 0: no limit
    uint32_t disk_iops = 0;         // requests/s likewise, 10..1000000; 0: no limit
    // [capabilities.network]
    std::vector<std::string> network_allow; // host, *.suffix, host:port, address:port: form checked here
    std::vector<std::string> network_allow_private; // names of network_allow whose address may be private
    std::vector<RequestRule> network_rules;         // at most 64
    NetworkBudget network_budget;
    // [capabilities.filesystem]
    std::vector<std::string> read_paths, write_paths; // absolute, normal form, no ".."
    // [capabilities.credentials.NAME], and the old short form credential_refs = ["NAME"]
    std::vector<Credential> credentials; // at most 32, in the document's order
    // [capabilities.memory]
    std::vector<std::string> memory_read, memory_write; // namespaces: LDH 1..64, at most 32 each
    uint32_t memory_max_entries = 10'000;               // 1..1'000'000
    uint64_t memory_max_bytes = uint64_t{64} << 20;     // max_mb: 1..4096

    struct HealthCheck {
        std::string kind; // "http" or "tcp"
        uint16_t port = 0;
        std::string path = "/";
        std::chrono::milliseconds interval{10'000};
        uint32_t failures = 3;
        std::chrono::milliseconds grace{30'000}; // bad checks do not count so long, until the first good one
        bool operator==(const HealthCheck&) const = default;
    };
    std::vector<HealthCheck> health_check; // none or one
    bool operator==(const AgentManifest&) const = default;
    // As many as the time takes, and no more than a guest's kernel knows (NR_CPUS).
    uint32_t vcpus() const { return std::min<uint32_t>((max_cpu_percent + 99) / 100, 16); }
};

// Exactly one of: a manifest in which everything is right, or at least one diagnostic.
std::variant<AgentManifest, std::vector<Diagnostic>> parse_agent(std::string_view text,
                                                                 std::string_view file_name);

} // namespace nullbox::manifest
