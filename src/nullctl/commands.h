// The commands, one function each; which words on the command line lead to them is in command_line.cpp.
#pragma once

#include <optional>

#include "importer/limits.h"
#include "nullctl/tool.h"

namespace nullbox::nullctl {

// boxes.cpp: what is kept here, and the box as a whole.
Result<> keygen(Tool& tool, const std::string& operator_name, const std::string& role);
Result<> box_add(Tool& tool, const std::string& name, const std::string& address,
                 const std::string& fingerprint);
Result<> box_list(Tool& tool);
Result<> box_remove(Tool& tool, const std::string& name);
Result<> status(Tool& tool);
Result<> logs(Tool& tool, const std::string& service, int64_t lines, bool follow);
Result<> reboot(Tool& tool, bool power_off, const std::string& reason, bool yes);

// deploy.cpp
struct DeployOptions {
    std::string folder;
    bool yes = false, start = true;
};
Result<> agent_deploy(Tool& tool, const DeployOptions& options);
// The bytes of an open file to the box, with progress.
Result<> send(Tool& tool, std::string_view kind, std::string_view name, int fd, std::string_view what);

// images.cpp
struct ImportOptions {
    std::string source, name, platform = "linux/amd64", tag, output; // output: a file here, not the box
    importer::Limits limits;
    uint64_t file_mb = importer::Limits().file_bytes >> 20, total_mb = importer::Limits().total_bytes >> 20;
};
Result<> image_import(Tool& tool, const ImportOptions& options);
Result<> image_list(Tool& tool);
Result<> image_remove(Tool& tool, const std::string& name);

// agents.cpp
Result<> agent_list(Tool& tool);
Result<> agent_inspect(Tool& tool, const std::string& name);
Result<> agent_start(Tool& tool, const std::string& name);
Result<> agent_stop(Tool& tool, const std::string& name, int64_t grace_ms);
Result<> agent_restart(Tool& tool, const std::string& name);
Result<> agent_remove(Tool& tool, const std::string& name, bool yes);
struct LogOptions {
    std::string name, stream, since; // stream: one only; since: "10m" or a time
    int64_t lines = 100;
    bool follow = false, timestamps = false;
};
Result<> agent_logs(Tool& tool, const LogOptions& options);

// copy.cpp
bool is_agent_name(std::string_view text);

// exec.cpp
struct ExecOptions {
    std::string name, user, working_directory;
    std::vector<std::string> command, environment;
    bool terminal = false, interactive = false;
};
Result<> agent_exec(Tool& tool, const ExecOptions& options);

// copy.cpp
struct CopyOptions {
    std::string from, to; // one of them is "NAME:PATH"; the other may be "-"
    std::string user;
    int64_t most_mb = 4096;
};
Result<> agent_copy(Tool& tool, const CopyOptions& options);

// agent_life.cpp
Result<> agent_status(Tool& tool, const std::string& name);
Result<> agent_pause(Tool& tool, const std::string& name);
Result<> agent_resume(Tool& tool, const std::string& name);

// vault.cpp
Result<> vault_init(Tool& tool, const std::string& kdf);
Result<> vault_unlock(Tool& tool);
Result<> vault_lock(Tool& tool);
Result<> vault_passphrase(Tool& tool);
Result<> vault_status(Tool& tool);
Result<> vault_uses(Tool& tool, int64_t lines, bool follow);
Result<> vault_set(Tool& tool, const std::string& name);
Result<> vault_list(Tool& tool);
Result<> vault_delete(Tool& tool, const std::string& name, bool yes);
struct GrantOptions {
    std::string secret, agent, host, header, format;
    bool exposed = false;
};
Result<> vault_grant(Tool& tool, const GrantOptions& options);
Result<> vault_revoke(Tool& tool, const std::string& secret, const std::string& agent);
// Makes the vault's grants to the agent those, and no others.
Result<> settle_grants(Tool& tool, const std::string& agent, const std::vector<GrantOptions>& wanted);
// Fails, before anything has happened, if a secret could not be granted.
Result<> check_secrets(Tool& tool, const std::vector<GrantOptions>& wanted);

// egress.cpp
struct RecordOptions {
    bool all = false; // else denials only
    std::string agent;
    int64_t lines = 100;
    bool follow = false;
};
Result<> egress_records(Tool& tool, const RecordOptions& options);
// destination: a host, with a port and a path if wanted; method: of the request, for a path.
Result<> egress_explain(Tool& tool, const std::string& agent, const std::string& destination,
                        const std::string& method);
Result<> egress_status(Tool& tool);

// memory.cpp
struct PutOptions {
    std::string space, key, value;
    std::optional<std::string> if_head; // "": only if there is none
    bool from_stdin = false, text = false;
};
Result<> memory_put(Tool& tool, const PutOptions& options);
Result<> memory_get(Tool& tool, const std::string& space, const std::string& key);
Result<> memory_delete(Tool& tool, const std::string& space, const std::string& key);
struct PageOptions {
    int64_t limit = 20;
    std::string cursor;
};
Result<> memory_list(Tool& tool, const std::string& space, const std::string& prefix,
                     const PageOptions& page);
Result<> memory_search(Tool& tool, const std::string& words, const std::string& space,
                       const PageOptions& page);
Result<> memory_history(Tool& tool, const std::string& space, const std::string& key,
                        const PageOptions& page);
Result<> memory_watch(Tool& tool, const std::string& space, const std::string& prefix);
Result<> memory_namespaces(Tool& tool);

} // namespace nullbox::nullctl
