// The tools that /mcp offers, over memory.h. Internal to src/ctxgraph.
#pragma once

#include "ctxgraph/guest_api.h"

namespace nullbox::ctxgraph {

// The "tools" of tools/list: a JSON list, the same for every agent.
std::string_view tool_list();
bool is_tool(std::string_view name);

struct ToolResult {
    bool is_error = false;
    std::string json; // what the tool gives; of an error, a text for the model that called it
};

// arguments: an object. done is called once, here or later.
void call_tool(Memory& memory, const Access& access, std::string_view name, const Json& arguments,
               std::function<void(ToolResult)> done);

} // namespace nullbox::ctxgraph
