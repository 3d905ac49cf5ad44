// For tests: a whole document by lines, in which one line at a time is made wrong.
#pragma once

#include <algorithm>
#include <gtest/gtest.h>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "manifest/diagnostic.h"

namespace nullbox::manifest {

class TestDocument {
public:
    explicit TestDocument(std::string_view text) {
        for (auto line : split(text, '\n')) lines_.emplace_back(line);
    }
    struct Key {
        std::string path; // "agent.name"
        std::string name; // "name"
        uint32_t line;
    };
    // Every `key = value` line, with the table it stands in.
    std::vector<Key> keys() const {
        std::vector<Key> out;
        std::string table;
        for (size_t i = 0; i < lines_.size(); i++) {
            std::string_view line = lines_[i];
            if (line.starts_with('[')) table = cat(line.substr(1, line.find(']') - 1), ".");
            size_t equals = line.find(" = ");
            if (equals == std::string_view::npos) continue;
            auto name = std::string(line.substr(0, equals));
            out.push_back({.path = table + name, .name = name, .line = static_cast<uint32_t>(i + 1)});
        }
        return out;
    }
    std::string with(uint32_t line, std::string_view text) const {
        auto lines = lines_;
        lines.at(line - 1) = text;
        std::string out;
        for (const auto& each : lines) out += each + "\n";
        return out;
    }
    std::string with(std::string_view path, std::string_view text) const {
        return with(find(path).line, text);
    }
    std::string text() const { return with(1, lines_[0]); }
    Key find(std::string_view path) const {
        auto all = keys();
        auto found = std::ranges::find(all, path, &Key::path);
        EXPECT_NE(found, all.end()) << path;
        return found == all.end() ? Key{} : *found;
    }

private:
    std::vector<std::string> lines_;
};

// One diagnostic, at this line and key, whose message holds the text.
inline void expect_one(const std::vector<Diagnostic>& diagnostics, std::string_view file, uint32_t line,
                       std::string_view key, std::string_view text) {
    ASSERT_EQ(diagnostics.size(), 1u) << to_text(diagnostics);
    EXPECT_EQ(diagnostics[0].file, file);
    EXPECT_EQ(diagnostics[0].line, line) << to_text(diagnostics);
    EXPECT_EQ(diagnostics[0].key, key) << to_text(diagnostics);
    EXPECT_TRUE(diagnostics[0].message.contains(text)) << to_text(diagnostics) << "lacks: " << text;
}

} // namespace nullbox::manifest
