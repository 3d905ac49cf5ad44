#include <boost/json/object.hpp>

#include "base/text.h"
#include "nullctl/commands.h"
#include "nullctl/fields.h"

namespace nullbox::nullctl {

static void show_resources(Terminal& terminal, const json::object& agent) {
    auto vcpus = number_at(agent, "vcpus");
    terminal.line(cat("processor: ", span_text(number_at(agent, "cpu_time_ms")), " used, at most ",
                      number_at(agent, "max_cpu_percent"), " % of one, as ", vcpus,
                      vcpus == 1 ? " vCPU" : " vCPUs"));
    auto memory = number_at(agent, "vm_memory_bytes", -1);
    terminal.line(cat("memory: ", memory < 0 ? "" : cat(size_text(memory), " used, "), "at most ",
                      number_at(agent, "max_memory_mb"), " MiB in the guest"));
}

static void show_past(Terminal& terminal, const json::object& agent) {
    auto restarts = number_at(agent, "restarts");
    terminal.line(cat("restarts: ", restarts));
    if (auto last = text_at(agent, "last_end"); !last.empty()) {
        bool asked_for = text_at(agent, "reason") == "stopped";
        terminal.line(cat("last run ended: ", last, " (", text_at(agent, "reason"), ")"),
                      asked_for ? Tone::Plain : Tone::Caution);
    }
    if (auto why = text_at(agent, "started_anew_because"); !why.empty())
        terminal.line(cat("started anew because: ", why));
    if (auto next = number_at(agent, "next_start_ms"); next > 0)
        terminal.line(cat("next try: ", time_text(next)), Tone::Caution);
}

Result<> agent_status(Tool& tool, const std::string& name) {
    auto answer = TRY(tool.ask("cage", "Status", {{"name", name}}));
    if (tool.json) return {};
    auto& terminal = tool.terminal;
    const auto& agent = object_at(answer.parameters, "agent");
    auto uptime = number_at(agent, "uptime_ms", -1);
    terminal.line(
        cat(name, ": ", text_at(agent, "describe"), uptime < 0 ? "" : cat(", up ", span_text(uptime))),
        tone_of_state(text_at(agent, "state")));
    auto health = text_at(agent, "health");
    terminal.line(cat("health: ", health), tone_of_health(health));
    if (auto began = number_at(agent, "started_at_ms"); began > 0)
        terminal.line(cat("began: ", time_text(began)));
    show_resources(terminal, agent);
    show_past(terminal, agent);
    if (flag_at(agent, "changed"))
        terminal.line(
            cat("Its manifest or files have changed; it gets them with nullctl agent restart ", name),
            Tone::Caution);
    return {};
}

static Result<> tell(Tool& tool, std::string_view method, const std::string& name) {
    auto answer = TRY(tool.ask("cage", method, {{"name", name}}));
    if (!tool.json) tool.terminal.line(cat(name, ": ", text_at(answer.parameters, "describe")));
    return {};
}

Result<> agent_pause(Tool& tool, const std::string& name) { return tell(tool, "Pause", name); }
Result<> agent_resume(Tool& tool, const std::string& name) { return tell(tool, "Resume", name); }

} // namespace nullbox::nullctl
