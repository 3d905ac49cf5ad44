// A manifest for those who look at it: as JSON, and what it lets the agent do in words that an operator can
// agree to. Pure. Brings Boost.JSON's names only.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>
#include <vector>

#include "manifest/agent.h"

namespace nullbox::cage {

boost::json::object manifest_as_json(const manifest::AgentManifest& manifest);
// As egress takes them, too.
boost::json::array request_rules_as_json(const std::vector<manifest::RequestRule>& rules);
boost::json::object network_budget_as_json(const manifest::NetworkBudget& budget);
// A line each: "reach api.example.org", "see the exposed secret KEY itself, in its variable KEY".
std::vector<std::string> may_do(const manifest::AgentManifest& manifest);

} // namespace nullbox::cage
