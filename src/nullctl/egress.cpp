#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.h"
#include "nullctl/commands.h"
#include "nullctl/fields.h"

namespace nullbox::nullctl {

static std::string destination_of(const json::object& record) {
    auto name = text_at(record, "name");
    auto address = text_at(record, "address");
    auto port = number_at(record, "port");
    auto where = name.empty() ? address : name;
    if (port > 0 && text_at(record, "kind") != "lookup") where += cat(":", port);
    if (!name.empty() && !address.empty()) where += cat(" (", address, ")");
    return where;
}

// One line each, and for a denial the line that would allow it.
static void show_record(Terminal& terminal, const json::object& record) {
    auto verdict = text_at(record, "verdict");
    auto why = text_at(record, "reason");
    if (why.empty()) why = text_at(record, "rule");
    auto request = text_at(record, "method");
    if (!request.empty()) request = cat(" ", request, " ", text_at(record, "path"));
    auto count = number_at(record, "count", 1);
    auto tone = verdict == "denied" ? Tone::Danger : verdict == "failed" ? Tone::Caution : Tone::Plain;
    terminal.line(cat(time_text(number_at(record, "time_ms")), " ", text_at(record, "agent"), " ",
                      text_at(record, "kind"), " ", verdict, " ", destination_of(record), request,
                      count > 1 ? cat(" ", count, " times") : "", why.empty() ? "" : cat(": ", why)),
                  tone);
    if (auto add = text_at(record, "add"); !add.empty())
        terminal.line(cat("    to allow it: ", add), Tone::Faint);
}

Result<> egress_records(Tool& tool, const RecordOptions& options) {
    auto* box = TRY(tool.box());
    json::object parameters{{"lines", options.lines}, {"follow", options.follow}};
    if (!options.agent.empty()) parameters["agent"] = options.agent;
    bool any = false;
    json::array all; // one document for a program, however many answers they come in
    TRY(box->follow("egress", options.all ? "Records" : "Denials", std::move(parameters),
                    [&](Answer answer) -> Result<bool> {
                        if (tool.json && options.follow) {
                            tool.terminal.json(answer.text);
                            return true;
                        }
                        if (tool.json) {
                            for (const auto& item : list_at(answer.parameters, "records"))
                                all.push_back(item);
                            return true;
                        }
                        for (const auto& item : list_at(answer.parameters, "records"))
                            if (item.is_object()) {
                                show_record(tool.terminal, item.get_object());
                                any = true;
                            }
                        return true;
                    }));
    if (tool.json && !options.follow)
        tool.terminal.json(json::serialize(json::object{{"records", std::move(all)}}));
    if (!tool.json && !any)
        tool.terminal.line(options.all ? "no records" : "nothing was denied", Tone::Faint);
    return {};
}

Result<> egress_explain(Tool& tool, const std::string& agent, const std::string& destination,
                        const std::string& method) {
    auto answer = TRY(
        tool.ask("egress", "Explain", {{"agent", agent}, {"destination", destination}, {"method", method}}));
    if (tool.json) return {};
    const auto& said = answer.parameters;
    if (flag_at(said, "allowed")) {
        tool.terminal.line(cat(agent, " may reach ", destination, ": ", text_at(said, "rule")), Tone::Good);
        for (const auto& request : list_at(said, "requests"))
            if (request.is_string())
                tool.terminal.line(cat("    only ", std::string_view(request.get_string())), Tone::Faint);
        return {};
    }
    auto why = text_at(said, "reason");
    tool.terminal.line(cat(agent, " may not reach ", destination, why.empty() ? "" : cat(": ", why)),
                       Tone::Danger);
    if (auto add = text_at(said, "add"); !add.empty()) tool.terminal.line(cat("to allow it: ", add));
    return {};
}

Result<> egress_status(Tool& tool) {
    auto answer = TRY(tool.ask("egress", "Status"));
    if (!tool.json) show_fields(tool.terminal, answer.parameters);
    return {};
}

} // namespace nullbox::nullctl
