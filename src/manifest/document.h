// A TOML document as a plain tree with the place of every value, and the list of what is wrong with it. This
// keeps toml++ (slow to compile) in one translation unit, and bounds what a hostile document can do: its
// size, its nesting, and the number of mistakes reported. Internal to src/manifest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manifest/diagnostic.h"

namespace nullbox::manifest {

struct Position {
    uint32_t line = 0, column = 0; // 1-based; 0: no place in the document
    auto operator<=>(const Position&) const = default;
};

struct Entry;

struct Value {
    enum class Kind { Text, Integer, Fraction, Boolean, DateTime, List, Table };
    Kind kind = Kind::Table;
    Position at;
    std::string text;
    int64_t number = 0;
    bool boolean = false;
    std::vector<Value> items;
    std::vector<Entry> entries; // in the document's order

    const Entry* find(std::string_view key) const;
};

struct Entry {
    std::string key;
    Position at;
    Value value;
};

// "a text", "a whole number", "a list"...
std::string_view kind_name(Value::Kind kind);

// Collects diagnostics of one document; after kMost it says once that there are more.
class Report {
public:
    static constexpr size_t kMost = 100;
    explicit Report(std::string_view file_name);
    // key and message may hold the document's own text; it is made printable here.
    void add(Position at, std::string_view key, std::string_view message);
    size_t count() const { return diagnostics_.size(); }
    std::vector<Diagnostic> take() && { return std::move(diagnostics_); }

private:
    std::string file_;
    std::vector<Diagnostic> diagnostics_;
};

// The document's root table; nothing, and one diagnostic, if it is too large or not TOML.
std::optional<Value> parse_document(std::string_view text, size_t most_bytes, Report& report);

} // namespace nullbox::manifest
