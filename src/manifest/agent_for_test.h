// What the tests of AGENT.toml begin with: a text that must be right, or wrong.
#pragma once

#include <gtest/gtest.h>

#include "manifest/agent.h"

namespace nullbox::manifest {

inline constexpr std::string_view kFile = "/agent/hello.toml";

inline std::vector<Diagnostic> wrong(std::string_view text, std::string_view file = kFile) {
    auto parsed = parse_agent(text, file);
    auto* diagnostics = std::get_if<std::vector<Diagnostic>>(&parsed);
    return diagnostics ? *diagnostics : std::vector<Diagnostic>();
}

inline AgentManifest right(std::string_view text, std::string_view file = kFile) {
    auto parsed = parse_agent(text, file);
    if (auto* diagnostics = std::get_if<std::vector<Diagnostic>>(&parsed)) {
        ADD_FAILURE() << to_text(*diagnostics);
        return {};
    }
    return std::get<AgentManifest>(parsed);
}

} // namespace nullbox::manifest
