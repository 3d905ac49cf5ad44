// An agent of this machine, started through cage's socket as an operator would.
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "peer_vm.h"

namespace nullbox::bench {

struct AgentStart {
    FirstLine first;            // process_kb and cpu_ms are 0 if the agent ended with its line
    boost::json::object status; // cage's own, asked for after the first line
};

// The agent must not run. It is stopped again before this returns.
Result<AgentStart> start_agent(const std::string& socket, const std::string& name);

// All of them, at once or each at the first line of the one before: from the first request to the last one's
// first line, in milliseconds. None may run; all are stopped again before this returns.
enum class Order : uint8_t { AtOnce, InARow };
Result<double> start_agents(const std::string& socket, const std::vector<std::string>& names, Order order);

// Of agents that do nothing: started at once, left alone until what follows a start is over, then watched,
// and stopped. For each agent and second.
Result<Activity> idle_agents(const std::string& socket, const std::vector<std::string>& names,
                             std::chrono::seconds settle, std::chrono::seconds watch);

} // namespace nullbox::bench
