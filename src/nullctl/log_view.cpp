#include <boost/json/object.hpp>
#include <ctime>

#include "base/text.h"
#include "nullctl/commands.h"
#include "nullctl/exit_status.h"
#include "nullctl/fields.h"

namespace nullbox::nullctl {

// "2026-11-30T12:34:56.789Z"
static std::string utc_text(int64_t time_ms) {
    auto seconds = static_cast<std::time_t>(time_ms / 1000);
    std::tm parts{};
    char text[32];
    if (!::gmtime_r(&seconds, &parts) || std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        return "?";
    auto ms = std::to_string(time_ms % 1000 + 1000);
    return cat(text, ".", std::string_view(ms).substr(1), "Z");
}

// "90s", "10m", "2h", "1d" as "within_ms", which the box's clock decides; a time in UTC as "since_ms".
static Result<> add_since(const std::string& text, json::object& parameters) {
    auto wrong =
        ends_with(Exit::Usage, cat("--since ", text, ": use 90s, 10m, 2h, 1d or 2026-11-30T12:00:00Z"));
    if (text.empty()) return wrong;
    int64_t unit_ms = 0;
    switch (text.back()) {
    case 's':
        unit_ms = 1000;
        break;
    case 'm':
        unit_ms = 60'000;
        break;
    case 'h':
        unit_ms = 3'600'000;
        break;
    case 'd':
        unit_ms = 86'400'000;
        break;
    default:
        break;
    }
    if (unit_ms > 0) {
        auto count = parse_number(std::string_view(text).substr(0, text.size() - 1), 0, 100'000);
        if (!count) return wrong;
        parameters["within_ms"] = *count * unit_ms;
        return {};
    }
    std::tm parts{};
    const char* end = ::strptime(text.c_str(), text.contains('T') ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d", &parts);
    if (end == nullptr || (*end != '\0' && std::string_view(end) != "Z")) return wrong;
    parameters["since_ms"] = static_cast<int64_t>(::timegm(&parts)) * 1000;
    return {};
}

// A line that is not whole yet goes on in the stream's next one.
static void show_line(Terminal& terminal, const json::object& line, const LogOptions& options) {
    auto stream = text_at(line, "stream");
    auto time_ms = number_at(line, "time_ms");
    auto text = cat(text_at(line, "text"), flag_at(line, "partial") ? " …" : "");
    auto time = options.timestamps ? utc_text(time_ms) : time_text(time_ms);
    if (!options.stream.empty()) // one stream: what it says, as it says it
        return terminal.line(options.timestamps ? cat(time, " ", text) : text);
    auto tone = stream == "stderr"                   ? Tone::Caution
                : stream == "cage" || stream == "vm" ? Tone::Faint
                                                     : Tone::Plain;
    terminal.line(cat(time, " ", stream, stream.size() < 6 ? "   " : " ", text), tone);
}

Result<> agent_logs(Tool& tool, const LogOptions& options) {
    json::object parameters{{"name", options.name}, {"lines", options.lines}, {"follow", options.follow}};
    if (!options.stream.empty()) parameters["stream"] = options.stream;
    if (!options.since.empty()) TRY(add_since(options.since, parameters));
    auto* box = TRY(tool.box());
    return box->follow("cage", "Logs", std::move(parameters), [&](Answer answer) -> Result<bool> {
        if (tool.json) tool.terminal.json(answer.text);
        if (tool.json) return true;
        for (const auto& item : list_at(answer.parameters, "lines"))
            if (item.is_object()) show_line(tool.terminal, item.get_object(), options);
        return true;
    });
}

} // namespace nullbox::nullctl
