// Finding and starting the agent's command: as its user, in its folder, in a session of its own, with its
// output on pipes. When that fails, the message says what to change in the manifest or the image.
#pragma once

#include <sys/types.h>

#include "base/fd.h"
#include "guest_link/frames.h"

namespace nullbox::agent_init {

// The file that argv[0] names: itself if it has a slash, else the first executable on PATH of the
// environment.
Result<std::string> find_command(const std::string& name, const std::vector<std::string>& environment);

// The given environment with PATH, HOME, USER, TERM and LANG filled in where it has none. HOME and USER come
// from passwd_text (the image's /etc/passwd) if it knows the uid.
std::vector<std::string> full_environment(std::vector<std::string> given, uint32_t uid,
                                          std::string_view passwd_text);

// The home that passwd_text gives the uid, or "/".
std::string home_of(uint32_t uid, std::string_view passwd_text);

struct RunningCommand {
    pid_t pid = -1; // also its session and its process group
    Fd out, err;    // read ends, nonblocking
};

// Returns once the command executes.
Result<RunningCommand> start_command(const guest_link::Start& start);

} // namespace nullbox::agent_init
