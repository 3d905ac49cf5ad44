// [capabilities.network]: what an agent may reach, and what it may ask of whom. Internal to src/manifest.
#pragma once

#include "manifest/agent.h"
#include "manifest/section.h"

namespace nullbox::manifest {

void read_network(Report& report, const Value& table, AgentManifest& manifest,
                  std::span<const Section::Home> homes);

} // namespace nullbox::manifest
