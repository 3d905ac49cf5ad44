// One table of a document, read key by key into typed values. Each accessor remembers its key; finish()
// reports what is left, with a suggestion. A value that is absent or wrong leaves the target as it was; wrong
// ones are in the report with what would be right. Internal to src/manifest.
#pragma once

#include <chrono>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "manifest/document.h"

namespace nullbox::manifest {

// Empty: right. Else what is right; see forms.h.
using Form = std::string (*)(std::string_view);

struct TextRule {
    std::string_view example; // as written in TOML: "\"hello\""
    size_t most_bytes = 4096;
    Form wrong = nullptr;
    bool required = false;
};

struct NumberRule {
    int64_t least = 0, most = 0;
    bool required = false;
};

struct ListRule {
    std::string_view example;
    size_t most_items = 64;
    size_t most_bytes = 4096; // of one item; one may not be empty
    Form wrong = nullptr;
    bool required = false; // and then not empty
    bool filled = false;   // not empty if it is there
    bool distinct = true;
};

class Section {
public:
    Section(Report& report, const Value& table, std::string path);

    bool text(std::string_view key, const TextRule& rule, std::string& out);
    bool boolean(std::string_view key, bool& out);
    bool list(std::string_view key, const ListRule& rule, std::vector<std::string>& out);
    // A table of environment variables.
    bool environment(std::string_view key, std::map<std::string, std::string>& out);
    template <typename T>
    bool number(std::string_view key, const NumberRule& rule, T& out) {
        int64_t value = 0;
        if (!read_number(key, rule, value)) return false;
        out = static_cast<T>(value);
        return true;
    }
    bool milliseconds(std::string_view key, const NumberRule& rule, std::chrono::milliseconds& out) {
        int64_t value = 0;
        if (!read_number(key, rule, value)) return false;
        out = std::chrono::milliseconds(value);
        return true;
    }
    // One of the names; out gets the value beside it.
    template <typename T>
    bool choice(std::string_view key, std::span<const std::pair<std::string_view, T>> choices, T& out,
                bool required = false) {
        std::vector<std::string_view> names;
        for (const auto& [name, value] : choices) names.push_back(name);
        size_t index = 0;
        if (!read_choice(key, names, index, required)) return false;
        out = choices[index].second;
        return true;
    }
    // The table under a key, or nullptr: absent, or not a table (reported).
    const Value* table(std::string_view key, bool required = false, std::string_view example = {});
    // The raw entry, remembered as known; for values of more than one kind.
    const Entry* entry(std::string_view key);

    bool has(std::string_view key) const { return table_.find(key) != nullptr; }
    // A mistake at a key of this table (its place, if it is there).
    void wrong(std::string_view key, std::string_view message);
    std::string path_of(std::string_view key) const;

    // Where a key belongs that people write in the wrong table: {"credential_refs", "[capabilities]"}.
    struct Home {
        std::string_view key, table;
    };
    void finish(std::span<const Home> homes = {});

private:
    const Entry* expect(std::string_view key, Value::Kind kind, std::string_view wanted,
                        std::string_view example, bool required);
    bool read_number(std::string_view key, const NumberRule& rule, int64_t& out);
    bool read_choice(std::string_view key, const std::vector<std::string_view>& names, size_t& out,
                     bool required);
    bool item(std::string_view path, const Value& value, const ListRule& rule, std::vector<std::string>& out);

    Report& report_;
    const Value& table_;
    std::string path_; // "service.cage"; empty for the root
    std::vector<std::string_view> known_;
};

} // namespace nullbox::manifest
