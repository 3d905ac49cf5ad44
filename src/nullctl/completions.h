// Shell scripts that complete nullctl's words, made from the command line as it is. Brings CLI11.
#pragma once

#include <CLI/App.hpp>
#include <string>

namespace nullbox::nullctl {

std::string completions(const std::string& shell, const CLI::App& app);

} // namespace nullbox::nullctl
