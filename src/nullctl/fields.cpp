#include "nullctl/fields.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <ctime>

#include "base/text.h"

namespace nullbox::nullctl {

std::string text_of(const json::value& value) {
    if (value.is_null()) return "";
    if (value.is_string()) return std::string(value.get_string());
    return json::serialize(value);
}

std::string text_at(const json::object& object, std::string_view name) {
    const auto* value = object.if_contains(name);
    return value ? text_of(*value) : "";
}

int64_t number_at(const json::object& object, std::string_view name, int64_t absent) {
    const auto* value = object.if_contains(name);
    return value && value->is_int64() ? value->get_int64() : absent;
}

bool flag_at(const json::object& object, std::string_view name) {
    const auto* value = object.if_contains(name);
    return value && value->is_bool() && value->get_bool();
}

const json::array& list_at(const json::object& object, std::string_view name) {
    static const json::array kNone;
    const auto* value = object.if_contains(name);
    return value && value->is_array() ? value->get_array() : kNone;
}

const json::object& object_at(const json::object& object, std::string_view name) {
    static const json::object kNone;
    const auto* value = object.if_contains(name);
    return value && value->is_object() ? value->get_object() : kNone;
}

static std::string cell_text(const json::object& row, std::string_view field) {
    const auto* value = row.if_contains(field);
    if (!value) return "";
    if (field.ends_with("_ms") && field != "grace_ms" && value->is_int64())
        return value->get_int64() > 1'000'000'000'000 ? time_text(value->get_int64())
                                                      : span_text(value->get_int64());
    if (field.ends_with("bytes") && value->is_int64()) return size_text(value->get_int64());
    if (const auto* list = value->if_array()) {
        std::string out;
        for (const auto& item : *list) out += cat(out.empty() ? "" : ", ", text_of(item));
        return out;
    }
    return text_of(*value);
}

void show_list(Terminal& terminal, const json::array& list, const std::vector<std::string_view>& columns,
               std::string_view none) {
    if (list.empty()) return terminal.line(none, Tone::Faint);
    std::vector<std::string> fields, titles;
    for (auto column : columns) {
        auto parts = split(column, '=');
        fields.emplace_back(parts[0]);
        titles.emplace_back(parts.size() > 1 ? parts[1] : parts[0]);
    }
    if (columns.empty() && list[0].is_object())
        for (const auto& field : list[0].get_object())
            if (!field.value().is_object() && !field.value().is_array()) {
                fields.emplace_back(field.key());
                titles.emplace_back(field.key());
            }
    for (auto& title : titles)
        for (auto& c : title)
            if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    std::vector<std::vector<Cell>> rows;
    for (const auto& item : list) {
        if (!item.is_object()) {
            terminal.line(text_of(item));
            continue;
        }
        auto& row = rows.emplace_back();
        for (const auto& field : fields) {
            auto text = cell_text(item.get_object(), field);
            row.emplace_back(text, field == "state"    ? tone_of_state(text)
                                   : field == "health" ? tone_of_health(text)
                                                       : Tone::Plain);
        }
    }
    if (!fields.empty()) terminal.table({titles.begin(), titles.end()}, rows);
}

void show_fields(Terminal& terminal, const json::object& object) {
    std::vector<std::vector<Cell>> rows;
    for (const auto& field : object)
        if (!field.value().is_object() && !(field.value().is_array() && !field.value().get_array().empty() &&
                                            field.value().get_array()[0].is_object()))
            rows.push_back({cat(std::string_view(field.key()), ":"), cell_text(object, field.key())});
    if (!rows.empty()) terminal.table({"", ""}, rows);
    for (const auto& field : object) {
        if (const auto* inner = field.value().if_object()) {
            terminal.line(field.key(), Tone::Strong);
            show_fields(terminal, *inner);
        } else if (const auto* list = field.value().if_array();
                   list && !list->empty() && (*list)[0].is_object()) {
            terminal.line(field.key(), Tone::Strong);
            show_list(terminal, *list);
        }
    }
}

std::string time_text(int64_t time_ms) {
    time_t seconds = static_cast<time_t>(time_ms / 1000);
    tm parts{};
    char text[32] = "";
    if (::localtime_r(&seconds, &parts)) ::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
    return text;
}

static std::string tenths(int64_t tenth) { return cat(tenth / 10, ".", tenth % 10); }

std::string size_text(int64_t bytes) {
    if (bytes < 0) return "";
    if (bytes < 1000) return cat(bytes, " B");
    std::string_view units[] = {"kB", "MB", "GB", "TB"};
    int64_t unit = 1000;
    size_t index = 0;
    while (index < 3 && bytes / unit >= 1000) unit *= 1000, index++;
    return cat(tenths(bytes / (unit / 10)), " ", units[index]);
}

std::string span_text(int64_t ms) {
    if (ms < 1000) return cat(ms, " ms");
    if (ms < 60'000) return cat(tenths(ms / 100), " s");
    int64_t minutes = ms / 60'000;
    if (minutes < 60) return cat(minutes, " min ", ms / 1000 % 60, " s");
    if (minutes < 24 * 60) return cat(minutes / 60, " h ", minutes % 60, " min");
    return cat(minutes / 1440, " d ", minutes / 60 % 24, " h");
}

Tone tone_of_health(std::string_view health) {
    return health == "healthy" ? Tone::Good : health.starts_with("failing") ? Tone::Danger : Tone::Plain;
}

Tone tone_of_state(std::string_view state) {
    if (state == "running" || state == "unlocked") return Tone::Good;
    if (state == "failed" || state == "invalid" || state == "delayed" || state == "damaged")
        return Tone::Danger;
    if (state == "waiting" || state == "paused" || state == "starting" || state == "stopping" ||
        state == "locked" || state == "absent" || state == "clearing")
        return Tone::Caution;
    return Tone::Plain;
}

} // namespace nullbox::nullctl
