// io.nullbox.cage on the wire: requests checked and carried to the agents, answers written.
#pragma once

#include <memory>
#include <vector>

#include "cage/cage.h"
#include "varlink/server.h"

namespace nullbox::cage {

// allowed: uids beside those of the table, which may call anything (tests).
varlink::InterfaceTable interface_table(Cage& cage, const std::vector<uid_t>& allowed);
Result<std::unique_ptr<varlink::Server>>
serve_interface(Loop& loop, Cage& cage, const std::string& socket_path, const std::vector<uid_t>& allowed);

} // namespace nullbox::cage
