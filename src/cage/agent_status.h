// An agent as io.nullbox.cage tells it: AgentSummary and AgentStatus. Brings Boost.JSON's names only.
#pragma once

#include <boost/json/fwd.hpp>

namespace nullbox::cage {

class Agent;

boost::json::object agent_summary(const Agent& agent);
boost::json::object agent_status(const Agent& agent);

} // namespace nullbox::cage
