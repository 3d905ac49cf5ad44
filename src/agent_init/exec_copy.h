// A copy into or out of the guest, by a process of its own that has the rights of one user and the stream,
// and no more.
#pragma once

#include "agent_init/command.h"
#include "guest_link/exec_frames.h"

namespace nullbox::agent_init {

// folder: where relative paths begin. The process ends with 0, or with 1 if the copy is not complete.
Result<pid_t> start_copy(int stream, const guest_link::CopyRequest& request, const User& user,
                         const std::string& folder);

} // namespace nullbox::agent_init
