// The documents of this repository hold what they promise: every example in docs/manifest.md is right, every
// key that a parser knows is explained there, and the agents and configuration of the image are right.
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/text.h"
#include "manifest/agent.h"
#include "manifest/machine.h"
#include "manifest/services.h"

namespace nullbox::manifest {

constexpr std::string_view kRoot = NULLBOX_SOURCE_DIR;

static std::string diagnostics_of(std::string_view kind, std::string_view text, std::string_view file) {
    if (kind == "AGENT.toml") {
        auto parsed = parse_agent(text, file);
        auto* wrong = std::get_if<std::vector<Diagnostic>>(&parsed);
        return wrong ? to_text(*wrong) : "";
    }
    if (kind == "nulld.toml") return to_text(parse_services(text, file).diagnostics);
    if (kind == "machine.toml") {
        MachineConfig config;
        apply_machine_document(config, text, file);
        return to_text(config.diagnostics);
    }
    return cat("no parser for a \"", kind, "\" document");
}

static std::string page() {
    auto text = read_file(cat(kRoot, "/docs/manifest.md"));
    EXPECT_TRUE(text.has_value()) << text.error().message;
    return text.value_or("");
}

TEST(Documents, ExamplesInTheManifestPageAreRight) {
    constexpr std::string_view kFence = "```toml ";
    std::map<std::string, int> seen;
    auto text = page();
    for (size_t at = text.find(kFence); at != std::string::npos; at = text.find(kFence, at)) {
        at += kFence.size();
        size_t line_end = text.find('\n', at), end = text.find("```", line_end);
        ASSERT_NE(end, std::string::npos);
        auto kind = text.substr(at, line_end - at);
        EXPECT_EQ(diagnostics_of(kind, text.substr(line_end + 1, end - line_end - 1), kind), "");
        seen[kind]++;
        at = end;
    }
    EXPECT_GE(seen["AGENT.toml"], 2);
    EXPECT_GE(seen["nulld.toml"], 1);
    EXPECT_GE(seen["machine.toml"], 1);
    EXPECT_EQ(text.find("```toml\n"), std::string::npos) << "say which document it is, so that it is checked";
}

// The parser names its keys when a wrong one is near none of them.
static std::vector<std::string> known_keys(std::string_view kind, std::string_view document) {
    auto message = diagnostics_of(kind, document, std::string(kind));
    constexpr std::string_view kKnown = "known are ";
    size_t at = message.find(kKnown);
    EXPECT_NE(at, std::string::npos) << message;
    if (at == std::string::npos) return {};
    auto list = std::string_view(message).substr(at + kKnown.size());
    std::vector<std::string> keys;
    for (auto key : split(list.substr(0, list.find('\n')), ',')) keys.emplace_back(trim(key));
    return keys;
}

TEST(Documents, TheManifestPageExplainsEveryKey) {
    auto text = page();
    struct {
        std::string_view kind, document, prefix;
    } tables[] = {
        {"AGENT.toml", "[agent]\nqqqqqqqqqq = 1\n", ""},
        {"AGENT.toml", "[capabilities]\nqqqqqqqqqq = 1\n", ""},
        {"AGENT.toml", "[capabilities.network]\nqqqqqqqqqq = 1\n", ""},
        {"AGENT.toml",
         "[capabilities.network]\nallow = [\"a.org\"]\n[[capabilities.network.rule]]\n"
         "host = \"a.org\"\npaths = [\"/\"]\nqqqqqqqqqq = 1\n",
         ""},
        {"AGENT.toml", "[capabilities.network.budget]\nqqqqqqqqqq = 1\n", ""},
        {"AGENT.toml", "[capabilities.filesystem]\nqqqqqqqqqq = 1\n", ""},
        {"AGENT.toml", "[capabilities.memory]\nqqqqqqqqqq = 1\n", ""},
        {"AGENT.toml", "[capabilities.credentials.A]\nqqqqqqqqqq = 1\n", ""},
        {"AGENT.toml", "[capabilities.credentials.A.inject]\nqqqqqqqqqqq = 1\n", "inject."},
        {"AGENT.toml", "[health_check]\nqqqqqqqqqq = 1\n", ""},
        {"nulld.toml", "[service.a]\nqqqqqqqqqq = 1\n", ""},
        {"machine.toml", "qqqqqqqqqq = 1\n", ""},
        {"machine.toml", "[network]\nqqqqqqqqqq = 1\n", "network."},
        {"machine.toml", "[gate]\nqqqqqqqqqq = 1\n", "gate."},
        {"machine.toml", "[operators.a]\nqqqqqqqqqq = 1\n", "operators.NAME."},
    };
    size_t count = 0;
    for (const auto& table : tables)
        for (const auto& key : known_keys(table.kind, table.document)) {
            // Tables have their own headings.
            bool row = text.contains(cat("| `", table.prefix, key, "` |"));
            bool heading = text.contains(cat(".", key, "]")) || text.contains(cat("[", key, "]")) ||
                           text.contains(cat("[", key, "."));
            EXPECT_TRUE(row || heading) << table.kind << " " << key;
            count++;
        }
    EXPECT_GE(count, 50u);
}

TEST(Documents, TheImagesConfigurationIsRight) {
    size_t found = 0;
    for (std::string_view kind : {"nulld.toml", "machine.toml"}) {
        auto path = cat(kRoot, "/image/config/", kind);
        auto text = read_file(path);
        if (!text.has_value()) continue;
        found++;
        EXPECT_EQ(diagnostics_of(kind, *text, path), "");
    }
    std::error_code none;
    for (const auto& folder : std::filesystem::directory_iterator(cat(kRoot, "/agents"), none)) {
        auto path = (folder.path() / "AGENT.toml").string();
        auto text = read_file(path);
        if (!text.has_value()) continue;
        found++;
        EXPECT_EQ(diagnostics_of("AGENT.toml", *text, path), "");
        auto parsed = parse_agent(*text, path);
        if (auto* agent = std::get_if<AgentManifest>(&parsed))
            EXPECT_EQ(agent->name, folder.path().filename().string()) << "the folder's name";
    }
    if (found == 0) GTEST_SKIP() << "neither image/config nor agents in " << kRoot;
}

} // namespace nullbox::manifest
