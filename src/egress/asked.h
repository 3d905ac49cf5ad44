// What callers of io.nullbox.egress give as an agent's name and as its rules, checked. Internal to egress's
// interface: brings Boost.JSON.
#pragma once

#include <optional>
#include <string>

#include "egress/policy.h"
#include "varlink/parameters.h"
#include "varlink/server.h"

namespace nullbox::egress {

std::string read_agent_name(varlink::Parameters& parameters);

struct Asked {
    std::string agent;
    Policy::Source source;
};
// What Attach and Update take. Nothing: the call has been answered.
std::optional<Asked> read_asked(varlink::Call& call);

} // namespace nullbox::egress
