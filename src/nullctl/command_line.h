// Words to commands. CLI11 stays in command_line.cpp, and its exceptions with it.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "nullctl/exit_status.h"
#include "nullctl/tool.h"

namespace nullbox::nullctl {

// Everything but reading the environment: parses, runs, says what went wrong. arguments: without the program.
Exit run(const std::vector<std::string>& arguments, Tool& tool);

} // namespace nullbox::nullctl
