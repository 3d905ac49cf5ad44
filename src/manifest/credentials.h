// [capabilities.credentials.NAME]: the secrets of a manifest, and where their values may go. What they refer
// to (the network's list, the environment) must have been read before. Internal to src/manifest.
#pragma once

#include <span>

#include "manifest/agent.h"
#include "manifest/section.h"

namespace nullbox::manifest {

// Whether some entry of the list names the host, on a port where a secret could be sent to it (not 80).
bool is_allowed(const std::vector<std::string>& network_allow, std::string_view host);

void read_credentials(Report& report, Section& capabilities, AgentManifest& manifest,
                      std::span<const Section::Home> homes);
// The old short form, credential_refs = ["NAME"]: placeholders and nothing more.
void read_credential_refs(Section& section, AgentManifest& manifest);

} // namespace nullbox::manifest
