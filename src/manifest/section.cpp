#include "manifest/section.h"

#include <algorithm>
#include <set>

#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::manifest {

constexpr size_t kMostEnvironmentEntries = 128;
constexpr size_t kMostEnvironmentNameBytes = 128;
constexpr size_t kMostEnvironmentValueBytes = 4096;

Section::Section(Report& report, const Value& table, std::string path)
    : report_(report), table_(table), path_(std::move(path)) {}

std::string Section::path_of(std::string_view key) const {
    return path_.empty() ? std::string(key) : cat(path_, ".", key);
}

static std::string with_example(std::string_view message, std::string_view key, std::string_view example) {
    if (example.empty()) return std::string(message);
    return cat(message, "; for example ", key, " = ", example);
}

void Section::wrong(std::string_view key, std::string_view message) {
    const Entry* found = table_.find(key);
    report_.add(found ? found->value.at : table_.at, path_of(key), message);
}

const Entry* Section::entry(std::string_view key) {
    if (std::ranges::find(known_, key) == known_.end()) known_.push_back(key);
    return table_.find(key);
}

const Entry* Section::expect(std::string_view key, Value::Kind kind, std::string_view wanted,
                             std::string_view example, bool required) {
    const Entry* found = entry(key);
    if (!found) {
        if (required)
            report_.add(table_.at, path_of(key),
                        with_example(cat("is missing; must be ", wanted), key, example));
        return nullptr;
    }
    if (found->value.kind == kind) return found;
    wrong(key, with_example(cat("must be ", wanted, ", is ", kind_name(found->value.kind)), key, example));
    return nullptr;
}

bool Section::text(std::string_view key, const TextRule& rule, std::string& out) {
    auto found = expect(key, Value::Kind::Text, "a text", rule.example, rule.required);
    if (!found) return false;
    const std::string& text = found->value.text;
    std::string wrong_form;
    if (text.empty() || text.size() > rule.most_bytes)
        wrong_form = cat("must be 1 to ", rule.most_bytes, " bytes long, is ", text.size());
    else if (rule.wrong)
        wrong_form = rule.wrong(text);
    if (!wrong_form.empty()) {
        wrong(key, with_example(wrong_form, key, rule.example));
        return false;
    }
    out = text;
    return true;
}

bool Section::boolean(std::string_view key, bool& out) {
    auto found = expect(key, Value::Kind::Boolean, "true or false", "true", false);
    if (found) out = found->value.boolean;
    return found != nullptr;
}

bool Section::read_number(std::string_view key, const NumberRule& rule, int64_t& out) {
    auto range = cat("a whole number from ", rule.least, " to ", rule.most);
    auto example = cat(std::max<int64_t>(rule.least, std::min<int64_t>(rule.most, 1000)));
    auto found = expect(key, Value::Kind::Integer, range, example, rule.required);
    if (!found) return false;
    int64_t value = found->value.number;
    if (value < rule.least || value > rule.most) {
        wrong(key, cat("must be ", range, ", is ", value));
        return false;
    }
    out = value;
    return true;
}

bool Section::read_choice(std::string_view key, const std::vector<std::string_view>& names, size_t& out,
                          bool required) {
    std::string wanted;
    for (size_t i = 0; i < names.size(); i++)
        wanted += cat(i == 0 ? "" : i + 1 == names.size() ? " or " : ", ", "\"", names[i], "\"");
    auto found = expect(key, Value::Kind::Text, wanted, cat("\"", names[0], "\""), required);
    if (!found) return false;
    auto match = std::ranges::find(names, found->value.text);
    if (match == names.end()) {
        auto near = closest(found->value.text, names);
        auto hint = near.empty() ? std::string() : cat("; did you mean \"", near, "\"?");
        wrong(key, cat("must be ", wanted, ", is \"", printable(found->value.text, 64), "\"", hint));
        return false;
    }
    out = static_cast<size_t>(match - names.begin());
    return true;
}

bool Section::item(std::string_view path, const Value& value, const ListRule& rule,
                   std::vector<std::string>& out) {
    std::string message;
    if (value.kind != Value::Kind::Text)
        message = cat("must be a text, is ", kind_name(value.kind));
    else if (value.text.empty() || value.text.size() > rule.most_bytes)
        message = cat("must be 1 to ", rule.most_bytes, " bytes long, is ", value.text.size());
    else if (rule.wrong)
        message = rule.wrong(value.text);
    if (message.empty() && rule.distinct && std::ranges::find(out, value.text) != out.end())
        message = cat("names \"", printable(value.text, 64), "\" a second time; remove it");
    if (!message.empty()) {
        report_.add(value.at, path, message);
        return false;
    }
    out.push_back(value.text);
    return true;
}

bool Section::list(std::string_view key, const ListRule& rule, std::vector<std::string>& out) {
    auto found = expect(key, Value::Kind::List, "a list of texts", rule.example, rule.required);
    if (!found) return false;
    const auto& items = found->value.items;
    if ((rule.required || rule.filled) && items.empty()) {
        wrong(key, with_example("must not be empty", key, rule.example));
        return false;
    }
    if (items.size() > rule.most_items) {
        wrong(key, cat("must have at most ", rule.most_items, " entries, has ", items.size()));
        return false;
    }
    std::vector<std::string> texts;
    bool right = true;
    for (size_t i = 0; i < items.size(); i++)
        right &= item(cat(path_of(key), "[", i, "]"), items[i], rule, texts);
    if (right) out = std::move(texts);
    return right;
}

bool Section::environment(std::string_view key, std::map<std::string, std::string>& out) {
    auto found = expect(key, Value::Kind::Table, "a table of texts", "{ LANG = \"C.UTF-8\" }", false);
    if (!found) return false;
    const auto& entries = found->value.entries;
    if (entries.size() > kMostEnvironmentEntries) {
        wrong(key, cat("must have at most ", kMostEnvironmentEntries, " entries, has ", entries.size()));
        return false;
    }
    Section variables(report_, found->value, path_of(key));
    size_t before = report_.count();
    std::map<std::string, std::string> read;
    for (const auto& variable : entries) {
        auto name_problem = variable.key.size() > kMostEnvironmentNameBytes
                                ? cat("its name must be at most ", kMostEnvironmentNameBytes, " bytes long")
                                : wrong_environment_name(variable.key);
        if (!name_problem.empty()) report_.add(variable.at, variables.path_of(variable.key), name_problem);
        std::string value;
        bool empty = variable.value.kind == Value::Kind::Text && variable.value.text.empty(); // allowed here
        if (empty ||
            variables.text(
                variable.key,
                {.example = "\"text\"", .most_bytes = kMostEnvironmentValueBytes, .wrong = wrong_argument},
                value))
            read.emplace(variable.key, value);
    }
    if (report_.count() != before) return false;
    out = std::move(read);
    return true;
}

const Value* Section::table(std::string_view key, bool required, std::string_view example) {
    const Entry* found = entry(key);
    auto remedy = example.empty() ? std::string() : cat("; write ", example);
    if (!found) {
        if (required) report_.add({}, path_of(key), cat("is missing", remedy));
        return nullptr;
    }
    if (found->value.kind == Value::Kind::Table) return &found->value;
    wrong(key, cat("must be a table, is ", kind_name(found->value.kind), remedy));
    return nullptr;
}

void Section::finish(std::span<const Home> homes) {
    auto here = path_.empty() ? std::string("at the top of the document") : cat("of [", path_, "]");
    for (const auto& found : table_.entries) {
        if (std::ranges::find(known_, found.key) != known_.end()) continue;
        auto home = std::ranges::find(homes, found.key, &Home::key);
        auto near = closest(found.key, known_);
        std::string hint;
        if (home != homes.end())
            hint = cat("it belongs in ", home->table);
        else if (!near.empty())
            hint = cat("did you mean \"", near, "\"?");
        else {
            hint = "known are ";
            for (size_t i = 0; i < known_.size(); i++) hint += cat(i == 0 ? "" : ", ", known_[i]);
        }
        report_.add(found.at, path_of(found.key), cat("is no key ", here, "; ", hint));
    }
}

} // namespace nullbox::manifest
