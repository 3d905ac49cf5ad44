// Reading a box's answer: a field that is missing or of another kind is empty, because a newer or older box
// is no reason to fail. Brings Boost.JSON.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string>
#include <string_view>

#include "nullctl/terminal.h"

namespace nullbox::nullctl {

namespace json = boost::json;

std::string text_of(const json::value& value); // a text as it is, null as nothing, the rest as JSON
std::string text_at(const json::object& object, std::string_view name);
int64_t number_at(const json::object& object, std::string_view name, int64_t absent = 0);
bool flag_at(const json::object& object, std::string_view name);
const json::array& list_at(const json::object& object, std::string_view name);    // empty if there is none
const json::object& object_at(const json::object& object, std::string_view name); // the same

// A table of objects. Without columns: every field that is no list and no object, as they come. A column is
// "field" or "field=TITLE".
void show_list(Terminal& terminal, const json::array& list, const std::vector<std::string_view>& columns = {},
               std::string_view none = "none");
// "name: value" lines; lists of objects as tables.
void show_fields(Terminal& terminal, const json::object& object);

std::string time_text(int64_t time_ms); // local: "2026-11-30 12:34:56"
std::string size_text(int64_t bytes);   // "12.3 MB"
std::string span_text(int64_t ms);      // "3 d 4 h", "12.3 s"
Tone tone_of_state(std::string_view state);
Tone tone_of_health(std::string_view health); // an agent's: "healthy", "failing (2 of 3): ..."

} // namespace nullbox::nullctl
