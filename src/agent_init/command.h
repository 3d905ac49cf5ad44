// Finding and starting the agent's command, and others that an operator wants run: as their user, in their
// folder, in a session of their own. When that fails, the message says what to change in the manifest or the
// image.
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

// The user that a text names: "1000", "1000:1000" or a name of passwd_text; empty: the manifest's.
struct User {
    uint32_t uid = 0, gid = 0;
};
Result<User> find_user(std::string_view text, const guest_link::Start& start, std::string_view passwd_text);

struct Program {
    std::vector<std::string> command, environment; // all of it: nothing is filled in
    User user;
    std::string folder;
    int in = -1, out = -1, err = -1; // of the program; borrowed
    bool terminal = false;           // in is one, and becomes the session's
};

// In a session of its own. Returns once it executes. An error's code is ENOENT if there is no such command.
Result<pid_t> start_program(const Program& program);

struct RunningCommand {
    pid_t pid = -1; // also its session and its process group
    Fd out, err;    // read ends, nonblocking
};

// The agent's own. Returns once the command executes.
Result<RunningCommand> start_command(const guest_link::Start& start);

} // namespace nullbox::agent_init
