// What /proc says about a process: for status answers. Everything is best effort; a process may end while it
// is looked at.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace nullbox::nulld {

struct SandboxFacts {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<std::string> capabilities; // effective
    bool no_new_privs = false;
    bool seccomp = false;
    std::vector<std::string> own_namespaces; // "mnt", "net": where it differs from ours
};
// The text of /proc/PID/status.
SandboxFacts parse_process_status(std::string_view text);
std::optional<SandboxFacts> sandbox_facts(pid_t pid);

struct SelfFacts {
    uint64_t open_files = 0, memory_bytes = 0, zombies = 0;
};
SelfFacts self_facts();

// "10.0.2.15 (eth0)", without loopback and link-local.
std::vector<std::string> host_addresses();

} // namespace nullbox::nulld
