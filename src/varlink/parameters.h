// Typed, bounded reading of a call's parameters. Include it in a service's .cpp only: it brings Boost.JSON.
//
//     Parameters p(call.parameters());
//     auto name = p.text("name", {.most_bytes = 32});
//     auto follow = p.boolean_or("follow", false);
//     if (auto wrong = p.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
//
// A wrong or missing parameter yields an empty value; finish() tells the first one that was wrong, and
// refuses parameters that nobody asked for. Null counts as absent.
#pragma once

#include <boost/json/object.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nullbox::varlink {

struct TextBounds {
    size_t least_bytes = 1;
    size_t most_bytes = 256;
    bool several_lines = false; // else control characters are refused; NUL always is
};

struct NumberBounds {
    int64_t least = 0;
    int64_t most = INT64_MAX;
};

struct ListBounds {
    size_t least_items = 0;
    size_t most_items = 64;
    TextBounds item = {};
};

class Parameters {
public:
    explicit Parameters(const boost::json::object& object) : object_(object) {}

    std::string text(std::string_view name, const TextBounds& bounds = {});
    std::string text_or(std::string_view name, std::string_view absent, const TextBounds& bounds = {});
    std::optional<std::string> optional_text(std::string_view name, const TextBounds& bounds = {});
    // Whole numbers only: 1.0 is refused.
    int64_t number(std::string_view name, const NumberBounds& bounds = {});
    int64_t number_or(std::string_view name, int64_t absent, const NumberBounds& bounds = {});
    bool boolean(std::string_view name);
    bool boolean_or(std::string_view name, bool absent);
    std::vector<std::string> texts(std::string_view name, const ListBounds& bounds = {});
    std::vector<std::string> texts_or_none(std::string_view name, const ListBounds& bounds = {});
    // The position of the text in names.
    size_t choice(std::string_view name, std::span<const std::string_view> names);

    struct Wrong {
        std::string parameter, message;
    };
    // For a check that is not a bound: reported like the others, unless one was wrong before.
    void wrong(std::string_view name, std::string_view message);
    std::optional<Wrong> finish();

private:
    const boost::json::value* find(std::string_view name);
    const boost::json::value* need(std::string_view name, std::string_view wanted);
    std::string take_text(std::string_view name, const boost::json::value& value, const TextBounds& bounds);
    int64_t take_number(std::string_view name, const boost::json::value& value, const NumberBounds& bounds);
    bool take_boolean(std::string_view name, const boost::json::value& value);
    std::vector<std::string> take_texts(std::string_view name, const boost::json::value& value,
                                        const ListBounds& bounds);

    const boost::json::object& object_;
    std::vector<std::string_view> known_;
    std::optional<Wrong> wrong_;
};

} // namespace nullbox::varlink
