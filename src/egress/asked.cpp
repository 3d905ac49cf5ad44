#include "egress/asked.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::egress {

namespace json = boost::json;
using varlink::Call;
using varlink::Parameters;

constexpr size_t kMaxBindings = 128, kMaxRules = 64;

std::string read_agent_name(Parameters& parameters) {
    auto name = parameters.text("agent", {.most_bytes = 32});
    if (!name.empty() && !manifest::wrong_name(name).empty())
        parameters.wrong("agent", "must be an agent's name: lower-case letters, digits and '-'");
    return name;
}

// The items of a list of objects; the parameter list itself has no type for that. Not an object: empty.
static std::vector<json::object> objects(const json::object& given, std::string_view name, size_t most,
                                         Parameters& parameters) {
    const auto* list = given.if_contains(name);
    std::vector<json::object> out;
    if (!list || !list->is_array() || list->get_array().size() > most) {
        parameters.wrong(name, cat("must be a list of at most ", most, " objects"));
        return out;
    }
    for (const auto& item : list->get_array())
        out.push_back(item.is_object() ? item.get_object() : json::object());
    return out;
}

static std::vector<Binding> read_bindings(const json::object& given, Parameters& parameters) {
    std::vector<Binding> bindings;
    for (const auto& item : objects(given, "inject", kMaxBindings, parameters)) {
        Parameters fields(item);
        auto host = HostName::parse(fields.text("host", {.most_bytes = 254}));
        auto secret = fields.text("secret", {.most_bytes = 64});
        auto header = fields.text("header", {.most_bytes = 128});
        auto format = fields.text("format", {.most_bytes = 512});
        auto placeholder = fields.text("placeholder", {.most_bytes = 256});
        if (auto wrong = fields.finish())
            parameters.wrong("inject", cat(wrong->parameter, ": ", wrong->message));
        else if (!host)
            parameters.wrong("inject", cat("host: ", host.error().message));
        else
            bindings.push_back({secret, *std::move(host), header, format, placeholder});
    }
    return bindings;
}

static std::vector<manifest::RequestRule> read_rules(const json::object& given, Parameters& parameters) {
    std::vector<manifest::RequestRule> rules;
    if (const auto* value = given.if_contains("rules"); !value || value->is_null()) return rules;
    for (const auto& item : objects(given, "rules", kMaxRules, parameters)) {
        Parameters fields(item);
        rules.push_back({.host = fields.text("host", {.most_bytes = 300}),
                         .methods = fields.texts("methods", {.most_items = 16, .item = {.most_bytes = 32}}),
                         .paths = fields.texts("paths", {.most_items = 64, .item = {.most_bytes = 512}})});
        if (auto wrong = fields.finish())
            parameters.wrong("rules", cat(wrong->parameter, ": ", wrong->message));
    }
    return rules;
}

static Budget read_budget(const json::object& given, Parameters& parameters) {
    const auto* value = given.if_contains("budget");
    if (!value || value->is_null()) return {};
    static const json::object kNone;
    Parameters fields(value->is_object() ? value->get_object() : kNone);
    constexpr varlink::NumberBounds kBounds{.most = int64_t{1} << 50};
    auto number = [&](std::string_view name) {
        return static_cast<uint64_t>(fields.number_or(name, 0, kBounds));
    };
    Budget budget{
        .bytes = number("bytes"), .connections = number("connections"), .requests = number("requests")};
    auto wrong = fields.finish();
    if (wrong) parameters.wrong("budget", cat(wrong->parameter, ": ", wrong->message));
    if (!value->is_object()) parameters.wrong("budget", "must be an object");
    return budget;
}

std::optional<Asked> read_asked(Call& call) {
    auto given = call.parameters();
    auto lists = given;
    given.erase("inject");
    given.erase("rules");
    given.erase("budget");
    Parameters parameters(given);
    Asked asked{.agent = read_agent_name(parameters)};
    asked.source = {.allow = parameters.texts("allow", {.most_items = 256, .item = {.most_bytes = 300}}),
                    .allow_private =
                        parameters.texts("allow_private", {.most_items = 256, .item = {.most_bytes = 254}}),
                    .inject = read_bindings(lists, parameters),
                    .rules = read_rules(lists, parameters),
                    .budget = read_budget(lists, parameters)};
    auto wrong = parameters.finish();
    if (!wrong) return asked;
    call.invalid_parameter(wrong->parameter, wrong->message);
    return std::nullopt;
}

} // namespace nullbox::egress
