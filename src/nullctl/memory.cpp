#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "nullctl/commands.h"
#include "nullctl/exit_status.h"
#include "nullctl/fields.h"
#include "nullctl/visible.h"

namespace nullbox::nullctl {

constexpr size_t kMostValueBytes = size_t{256} << 10;

// JSON if it is JSON, else a text; --text makes it a text in any case.
static json::value value_of(const std::string& text, bool as_text) {
    json::error_code failure;
    auto value = json::parse(text, failure);
    return as_text || failure ? json::value(text) : value;
}

Result<> memory_put(Tool& tool, const PutOptions& options) {
    auto text = options.value;
    if (options.from_stdin) {
        text = TRY(read_fd(STDIN_FILENO, kMostValueBytes).context("standard input"));
        if (text.ends_with('\n')) text.pop_back();
    }
    json::object parameters{
        {"namespace", options.space}, {"key", options.key}, {"value", value_of(text, options.text)}};
    if (options.if_head) parameters["if_head"] = *options.if_head;
    auto answer = TRY(tool.ask("ctxgraph", "Put", std::move(parameters)));
    if (!tool.json)
        tool.terminal.line(cat(options.space, "/", options.key, " is ", text_at(answer.parameters, "id"),
                               flag_at(answer.parameters, "created") ? "" : ", as it was"));
    return {};
}

Result<> memory_delete(Tool& tool, const std::string& space, const std::string& key) {
    return tool.tell("ctxgraph", "Put", {{"namespace", space}, {"key", key}, {"delete", true}},
                     cat(space, "/", key, " has ended; its history stays."));
}

static void show_value(Terminal& terminal, const json::value& value) {
    if (value.is_string())
        terminal.block(std::string(value.get_string()));
    else
        terminal.line(json::serialize(value));
}

Result<> memory_get(Tool& tool, const std::string& space, const std::string& key) {
    auto answer = TRY(tool.ask("ctxgraph", "Get", {{"namespace", space}, {"key", key}}));
    if (tool.json) return {};
    const auto& entry = object_at(answer.parameters, "entry");
    const auto* value = entry.if_contains("value");
    if (text_at(entry, "kind") == "tombstone")
        tool.terminal.line("ended", Tone::Caution);
    else if (value)
        show_value(tool.terminal, *value);
    tool.terminal.note(cat("by ", text_at(entry, "author"), ", ", time_text(number_at(entry, "time_ms")),
                           ", ", text_at(entry, "id")));
    return {};
}

static void show_entry(Terminal& terminal, const json::object& entry) {
    auto text = text_at(entry, "kind") == "tombstone" ? "(ended)" : text_at(entry, "value");
    terminal.line(cat(time_text(number_at(entry, "time_ms")), " ", text_at(entry, "namespace"), "/",
                      text_at(entry, "key"), " by ", text_at(entry, "author"), ": ",
                      cut_to(visible(text), 200)));
}

static void show_entries(Terminal& terminal, const json::array& entries, std::string_view none) {
    if (entries.empty()) terminal.line(none, Tone::Faint);
    for (const auto& item : entries)
        if (item.is_object()) show_entry(terminal, item.get_object());
}

static Result<> show_page(Tool& tool, const Answer& answer, std::string_view none) {
    if (tool.json) return {};
    show_entries(tool.terminal, list_at(answer.parameters, "entries"), none);
    if (!text_at(answer.parameters, "next").empty())
        tool.terminal.note("there are more: raise --limit, or take the cursor of --json");
    return {};
}

static void add_paging(json::object& parameters, const PageOptions& page) {
    parameters["limit"] = page.limit;
    if (!page.cursor.empty()) parameters["cursor"] = page.cursor;
}

Result<> memory_list(Tool& tool, const std::string& space, const std::string& prefix,
                     const PageOptions& page) {
    json::object parameters{{"namespace", space}};
    if (!prefix.empty()) parameters["prefix"] = prefix;
    add_paging(parameters, page);
    auto answer = TRY(tool.ask("ctxgraph", "Query", std::move(parameters)));
    return show_page(tool, answer, "no keys");
}

Result<> memory_search(Tool& tool, const std::string& words, const std::string& space,
                       const PageOptions& page) {
    json::object parameters{{"query", words}};
    if (!space.empty()) parameters["namespace"] = space;
    add_paging(parameters, page);
    auto answer = TRY(tool.ask("ctxgraph", "Search", std::move(parameters)));
    return show_page(tool, answer, "nothing found");
}

Result<> memory_history(Tool& tool, const std::string& space, const std::string& key,
                        const PageOptions& page) {
    json::object parameters{{"namespace", space}, {"key", key}};
    add_paging(parameters, page);
    auto answer = TRY(tool.ask("ctxgraph", "History", std::move(parameters)));
    return show_page(tool, answer, "no history");
}

Result<> memory_watch(Tool& tool, const std::string& space, const std::string& prefix) {
    auto* box = TRY(tool.box());
    json::object parameters{{"namespace", space}};
    if (!prefix.empty()) parameters["prefix"] = prefix;
    return box->follow("ctxgraph", "Watch", std::move(parameters), [&](Answer answer) -> Result<bool> {
        if (tool.json) {
            tool.terminal.json(answer.text);
            return true;
        }
        for (const auto& item : list_at(answer.parameters, "entries"))
            if (item.is_object()) show_entry(tool.terminal, item.get_object());
        return true;
    });
}

Result<> memory_namespaces(Tool& tool) {
    auto answer = TRY(tool.ask("ctxgraph", "Namespaces"));
    if (!tool.json) show_list(tool.terminal, list_at(answer.parameters, "namespaces"), {}, "no namespaces");
    return {};
}

} // namespace nullbox::nullctl
