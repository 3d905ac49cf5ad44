#include <boost/json/object.hpp>

#include "base/text.h"
#include "nullctl/commands.h"
#include "nullctl/exit_status.h"
#include "nullctl/fields.h"

namespace nullbox::nullctl {

Result<> agent_list(Tool& tool) {
    auto answer = TRY(tool.ask("cage", "List"));
    if (!tool.json)
        show_list(tool.terminal, list_at(answer.parameters, "agents"),
                  {"name", "state", "describe=SAYS", "health", "image", "version"},
                  "no agents: nullctl agent deploy FOLDER");
    return {};
}

// What an agent may do, as the box itself puts it.
Result<> agent_inspect(Tool& tool, const std::string& name) {
    auto answer = TRY(tool.ask("cage", "Inspect", {{"name", name}}));
    if (tool.json) return {};
    for (const auto& line : list_at(answer.parameters, "may")) {
        auto text = text_of(line);
        bool exposed = text.contains("EXPOSED") || text.contains("exposed");
        tool.terminal.line(text, exposed ? Tone::Danger : Tone::Plain);
    }
    if (auto wrong = text_at(answer.parameters, "diagnostics"); !wrong.empty()) tool.terminal.block(wrong);
    if (!flag_at(answer.parameters, "in_effect"))
        tool.terminal.line(cat("It still runs with what it had before: nullctl agent restart ", name),
                           Tone::Caution);
    auto* box = TRY(tool.box());
    auto now = TRY(box->call("cage", "Status", {{"name", name}}));
    show_fields(tool.terminal, object_at(now.parameters, "agent"));
    return {};
}

// "researcher: running", or what it waits for.
static Result<> begin(Tool& tool, std::string_view method, const std::string& name) {
    auto answer = TRY(tool.ask("cage", method, {{"name", name}}));
    if (tool.json) return {};
    auto describe = text_at(answer.parameters, "describe");
    tool.terminal.line(cat(name, ": ", describe.empty() ? "running" : describe),
                       tone_of_state(text_at(answer.parameters, "state")));
    return {};
}

Result<> agent_start(Tool& tool, const std::string& name) { return begin(tool, "Start", name); }
Result<> agent_restart(Tool& tool, const std::string& name) { return begin(tool, "Restart", name); }

Result<> agent_stop(Tool& tool, const std::string& name, int64_t grace_ms) {
    json::object parameters{{"name", name}};
    if (grace_ms >= 0) parameters["grace_ms"] = grace_ms;
    auto answer = TRY(tool.ask("cage", "Stop", std::move(parameters)));
    if (!tool.json) tool.terminal.line(cat(name, ": ", text_at(answer.parameters, "describe")));
    return {};
}

Result<> agent_remove(Tool& tool, const std::string& name, bool yes) {
    if (!yes && !tool.terminal.can_ask())
        return ends_with(Exit::Usage,
                         cat("removing ", name, " takes its manifest and files off the box: say --yes"));
    if (!yes && !tool.terminal.confirm(cat("Take ", name, ", its manifest and its files off the box?")))
        return ends_with(Exit::Failed, "nothing was done");
    return tool.tell("cage", "Remove", {{"name", name}}, cat(name, " is gone from the box."));
}

} // namespace nullbox::nullctl
