#include "varlink/parameters.h"

#include <algorithm>

#include "base/text.h"

namespace nullbox::varlink {

namespace json = boost::json;

static std::string_view kind_name(const json::value& value) {
    switch (value.kind()) {
    case json::kind::null:
        return "null";
    case json::kind::bool_:
        return "true or false";
    case json::kind::int64:
    case json::kind::uint64:
        return "a whole number";
    case json::kind::double_:
        return "a number with a fraction";
    case json::kind::string:
        return "a text";
    case json::kind::array:
        return "a list";
    case json::kind::object:
        return "an object";
    }
    return "?";
}

void Parameters::wrong(std::string_view name, std::string_view message) {
    if (!wrong_) wrong_ = Wrong{.parameter = std::string(name), .message = std::string(message)};
}

const json::value* Parameters::find(std::string_view name) {
    known_.push_back(name);
    const auto* value = object_.if_contains(name);
    return value && !value->is_null() ? value : nullptr;
}

const json::value* Parameters::need(std::string_view name, std::string_view wanted) {
    const auto* value = find(name);
    if (!value) wrong(name, cat("is missing; must be ", wanted));
    return value;
}

std::string Parameters::take_text(std::string_view name, const json::value& value, const TextBounds& bounds) {
    if (!value.is_string()) {
        wrong(name, cat("must be a text, is ", kind_name(value)));
        return {};
    }
    std::string_view text = value.get_string();
    if (text.size() < bounds.least_bytes || text.size() > bounds.most_bytes) {
        wrong(name, cat("must be ", bounds.least_bytes, " to ", bounds.most_bytes, " bytes long, is ",
                        text.size()));
        return {};
    }
    bool several = bounds.several_lines;
    if (std::ranges::any_of(text, [several](char c) {
            bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
            return several ? c == '\0' : control;
        })) {
        wrong(name, several ? "must not contain NUL" : "must be one line without control characters");
        return {};
    }
    return std::string(text);
}

int64_t Parameters::take_number(std::string_view name, const json::value& value, const NumberBounds& bounds) {
    auto range = cat("a whole number from ", bounds.least, " to ", bounds.most);
    if (value.is_int64() && value.get_int64() >= bounds.least && value.get_int64() <= bounds.most)
        return value.get_int64();
    if (value.is_int64())
        wrong(name, cat("must be ", range, ", is ", value.get_int64()));
    else if (value.is_uint64())
        wrong(name, cat("must be ", range, ", is ", value.get_uint64()));
    else
        wrong(name, cat("must be ", range, ", is ", kind_name(value)));
    return bounds.least; // never out of bounds, even for who forgets finish()
}

bool Parameters::take_boolean(std::string_view name, const json::value& value) {
    if (!value.is_bool()) wrong(name, cat("must be true or false, is ", kind_name(value)));
    return value.is_bool() && value.get_bool();
}

std::vector<std::string> Parameters::take_texts(std::string_view name, const json::value& value,
                                                const ListBounds& bounds) {
    std::vector<std::string> texts;
    if (!value.is_array()) {
        wrong(name, cat("must be a list of texts, is ", kind_name(value)));
        return texts;
    }
    const auto& items = value.get_array();
    if (items.size() < bounds.least_items || items.size() > bounds.most_items) {
        wrong(name, cat("must have ", bounds.least_items, " to ", bounds.most_items, " entries, has ",
                        items.size()));
        return texts;
    }
    for (size_t i = 0; i < items.size(); i++)
        texts.push_back(take_text(cat(name, "[", i, "]"), items[i], bounds.item));
    return texts;
}

std::string Parameters::text(std::string_view name, const TextBounds& bounds) {
    const auto* value = need(name, "a text");
    return value ? take_text(name, *value, bounds) : std::string();
}

std::string Parameters::text_or(std::string_view name, std::string_view absent, const TextBounds& bounds) {
    const auto* value = find(name);
    return value ? take_text(name, *value, bounds) : std::string(absent);
}

std::optional<std::string> Parameters::optional_text(std::string_view name, const TextBounds& bounds) {
    const auto* value = find(name);
    if (!value) return std::nullopt;
    return take_text(name, *value, bounds);
}

int64_t Parameters::number(std::string_view name, const NumberBounds& bounds) {
    const auto* value = need(name, "a whole number");
    return value ? take_number(name, *value, bounds) : bounds.least;
}

int64_t Parameters::number_or(std::string_view name, int64_t absent, const NumberBounds& bounds) {
    const auto* value = find(name);
    return value ? take_number(name, *value, bounds) : absent;
}

bool Parameters::boolean(std::string_view name) {
    const auto* value = need(name, "true or false");
    return value && take_boolean(name, *value);
}

bool Parameters::boolean_or(std::string_view name, bool absent) {
    const auto* value = find(name);
    return value ? take_boolean(name, *value) : absent;
}

std::vector<std::string> Parameters::texts(std::string_view name, const ListBounds& bounds) {
    const auto* value = need(name, "a list of texts");
    return value ? take_texts(name, *value, bounds) : std::vector<std::string>();
}

std::vector<std::string> Parameters::texts_or_none(std::string_view name, const ListBounds& bounds) {
    const auto* value = find(name);
    return value ? take_texts(name, *value, bounds) : std::vector<std::string>();
}

size_t Parameters::choice(std::string_view name, std::span<const std::string_view> names) {
    std::string wanted = "one of";
    for (auto one : names) wanted += cat(" \"", one, "\"");
    const auto* value = need(name, wanted);
    if (!value) return 0;
    auto match =
        value->is_string() ? std::ranges::find(names, std::string_view(value->get_string())) : names.end();
    if (match != names.end()) return static_cast<size_t>(match - names.begin());
    wrong(name, cat("must be ", wanted));
    return 0;
}

std::optional<Parameters::Wrong> Parameters::finish() {
    for (const auto& [key, value] : object_) {
        std::string_view name = key;
        if (std::ranges::find(known_, name) != known_.end()) continue;
        auto near = closest(name, known_);
        wrong(printable(name, 64), near.empty()
                                       ? std::string("is not known to this method")
                                       : cat("is not known to this method; did you mean \"", near, "\"?"));
    }
    return wrong_;
}

} // namespace nullbox::varlink
