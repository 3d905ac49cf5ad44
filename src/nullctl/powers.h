// What a manifest lets an agent do, in words for the person who is asked to say yes. Pure. Everything that a
// manifest can grant has its line here; what is granted by nothing is said as well.
#pragma once

#include <string>
#include <vector>

#include "manifest/agent.h"
#include "nullctl/terminal.h"

namespace nullbox::nullctl {

struct Power {
    std::string text;
    Tone tone = Tone::Plain; // Danger: the agent learns a secret. Caution: worth a second look.
};

std::vector<Power> powers_of(const manifest::AgentManifest& manifest);

} // namespace nullbox::nullctl
