// nulld --check-config nulld.toml [machine.toml]: what the boot would say about these files, at image build.
#pragma once

#include <string>
#include <vector>

#include "manifest/services.h"

namespace nullbox::nulld {

// Prints every mistake to stderr, "FILE:LINE:COLUMN: KEY: what would be right". 0, or 1 if there was one.
int check_config(const std::vector<std::string>& files);

// What only making the sandbox finds out (an unknown system call, for instance); a line each.
std::vector<std::string> plan_problems(const std::vector<manifest::ServiceConfig>& services,
                                       const std::string& file);

} // namespace nullbox::nulld
