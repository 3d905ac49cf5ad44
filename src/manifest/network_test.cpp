// [capabilities.network]: rules for requests, and the form in which paths are compared.
#include <gtest/gtest.h>

#include "base/text.h"
#include "manifest/agent_for_test.h"
#include "manifest/request_path.h"
#include "manifest/test_document.h"

namespace nullbox::manifest {

static const TestDocument kRules(R"([agent]
name = "hello"
version = "1.0.0"
image = "python"
command = ["/usr/bin/python3"]
[capabilities.network]
allow = ["api.example.org", "*.example.net", "git.example.com:8443", "192.0.2.7:443"]
[[capabilities.network.rule]]
host = "api.example.org"
methods = ["GET", "HEAD"]
paths = ["/v1/models", "/v1/chat/*"]
[[capabilities.network.rule]]
host = "*.example.net"
paths = ["/repos/*/issues"])");

TEST(Network, RulesAreRead) {
    auto parsed = parse_agent(kRules.text(), kFile);
    ASSERT_TRUE(std::holds_alternative<AgentManifest>(parsed)) << to_text(wrong(kRules.text()));
    std::vector<RequestRule> wanted = {
        {.host = "api.example.org", .methods = {"GET", "HEAD"}, .paths = {"/v1/models", "/v1/chat/*"}},
        {.host = "*.example.net", .paths = {"/repos/*/issues"}}};
    EXPECT_EQ(std::get<AgentManifest>(parsed).network_rules, wanted);
    // The other form of TOML for a list of tables, and every way in which a rule and an entry meet.
    for (auto host : {"api.example.org:443", "api.example.org:80", "a.b.example.net", "*.b.example.net:443",
                      "git.example.com", "git.example.com:8443", "*.example.com", "*.example.org"})
        EXPECT_TRUE(
            wrong(cat("[agent]\nname = \"hello\"\nversion = \"1\"\nimage = \"i\"\n[capabilities.network]\n"
                      "allow = [\"api.example.org\", \"*.example.net\", \"git.example.com:8443\"]\n"
                      "rule = [{ host = \"",
                      host, "\", methods = [\"POST\"] }]\n"))
                .empty())
            << host;
}

TEST(Network, OneMistakeEach) {
    constexpr std::string_view kFirst = "capabilities.network.rule[0]";
    struct {
        uint32_t line;
        std::string_view text, key, message;
    } cases[] = {
        {9, "host = \"other.example.org\"", ".host", "which allow does not name; add it there"},
        {9, "host = \"api.example.org:8080\"", ".host", "which allow does not name"},
        {9, "host = \"git.example.com:443\"", ".host", "which allow does not name"},
        {9, "host = \"example.net\"", ".host", "which allow does not name"},
        {9, "host = \"192.0.2.7:443\"", ".host", "must be a name; requests to a bare address"},
        {9, "host = \"https://api.example.org/v1\"", ".host", "write api.example.org, not"},
        {9, "host = \"API.example.org\"", ".host", "lower case"},
        {9, "host = 5", ".host", "must be a text"},
        {9, "", ".host", "is missing"},
        {10, "methods = []", ".methods", "must not be empty"},
        {10, "methods = \"GET\"", ".methods", "must be a list of texts, is a text"},
        {10, "methods = [\"get\"]", ".methods[0]", "must be in upper case, \"GET\""},
        {10, "methods = [\"GET POST\"]", ".methods[0]", "must be a method such as"},
        {10, "methods = [\"CONNECT\"]", ".methods[0]", "which nobody gets"},
        {10, "methods = [\"GET\", \"GET\"]", ".methods[1]", "a second time"},
        {10, "method = [\"GET\"]", ".method", "did you mean \"methods\"?"},
        {11, "paths = [\"v1/models\"]", ".paths[0]", "does not begin with '/'"},
        {11, "paths = [\"/v1/chat*\"]", ".paths[0]", "'*' must be a whole segment"},
        {11, "paths = [\"/v1?x=1\"]", ".paths[0]", "the query is no part of it"},
        {11, "paths = [\"/v1/../x\"]", ".paths[0]", "segment of dots"},
        {11, "paths = [\"/v1/%2e%2E/x\"]", ".paths[0]", "segment of dots"},
        {11, "paths = [\"//v1\"]", ".paths[0]", "\"//\""},
        {11, "paths = [\"/a b\"]", ".paths[0]", "must be encoded"},
        {11, "paths = []", ".paths", "must not be empty"},
        {11, "path = [\"/\"]", ".path", "it belongs in [health_check]"},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.text);
        auto found = wrong(kRules.with(one.line, one.text));
        ASSERT_EQ(found.size(), 1u) << to_text(found);
        EXPECT_EQ(found[0].key, cat(kFirst, one.key));
        EXPECT_TRUE(found[0].message.contains(one.message)) << to_text(found);
    }
    auto nothing = wrong(kRules.with(14, ""));
    ASSERT_EQ(nothing.size(), 1u);
    EXPECT_TRUE(to_text(nothing).contains("a rule that says nothing; add methods, paths or both"));
    auto table = wrong(kRules.with(12, "[capabilities.network.rules]"));
    ASSERT_FALSE(table.empty());
    EXPECT_TRUE(to_text(table).contains("[[capabilities.network.rule]]")) << to_text(table);
}

// Control: wrong_entry().
TEST(Network, NoWildcardIsAPublicSuffix) {
    auto with = [](std::string_view entry) {
        return cat("[agent]\nname = \"hello\"\nversion = \"1\"\nimage = \"i\"\n[capabilities.network]\n"
                   "allow = [\"",
                   entry, "\"]\n");
    };
    for (auto entry : {"*.co.uk", "*.co.uk:443", "*.com.au", "*.ac.jp", "*.city.ck", "*.any.kawasaki.jp",
                       "*.kawasaki.jp", "*.xn--55qx5d.cn"})
        expect_one(wrong(with(entry)), kFile, 6, "capabilities.network.allow[0]",
                   "below which anybody may have");
    for (auto entry : {"*.example.co.uk", "co.uk", "*.example.com", "*.www.ck", "*.city.kawasaki.jp",
                       "*.githubusercontent.com", "*.uk.example.org", "*.lab.test"})
        EXPECT_TRUE(wrong(with(entry)).empty()) << entry << ": " << to_text(wrong(with(entry)));
}

TEST(Network, BudgetsAreRead) {
    auto with = [](std::string_view keys) {
        return cat("[agent]\nname = \"hello\"\nversion = \"1\"\nimage = \"i\"\n[capabilities.network]\n"
                   "allow = [\"api.example.org\"]\n[capabilities.network.budget]\n",
                   keys);
    };
    auto budget = [&](std::string_view keys) {
        return std::get<AgentManifest>(parse_agent(with(keys), kFile)).network_budget;
    };
    EXPECT_EQ(budget(""), NetworkBudget());
    EXPECT_EQ(budget("mb_per_hour = 1024\nconnections_per_hour = 100\nrequests_per_hour = 5000\n"),
              (NetworkBudget{.bytes = uint64_t{1} << 30, .connections = 100, .requests = 5000}));
    EXPECT_EQ(budget("mb_per_hour = 16777216").bytes, uint64_t{1} << 44);
    struct {
        std::string_view text, key, message;
    } cases[] = {
        {"mb_per_hour = 0", "mb_per_hour", "from 1 to 16777216, is 0"},
        {"mb_per_hour = 16777217", "mb_per_hour", "is 16777217"},
        {"mb_per_hour = \"1GiB\"", "mb_per_hour", "a whole number"},
        {"connections_per_hour = -1", "connections_per_hour", "is -1"},
        {"requests_per_hour = 100000001", "requests_per_hour", "is 100000001"},
        {"bytes_per_hour = 5", "bytes_per_hour", "known are mb_per_hour"},
        {"request_per_hour = 5", "request_per_hour", "did you mean \"requests_per_hour\"?"},
    };
    for (const auto& one : cases)
        expect_one(wrong(with(one.text)), kFile, 8, cat("capabilities.network.budget.", one.key),
                   one.message);
    auto lost = wrong("mb_per_hour = 5\n" + with(""));
    ASSERT_EQ(lost.size(), 1u);
    EXPECT_TRUE(to_text(lost).contains("[capabilities.network.budget]"));
}

// What one server reads as this path and another as that one.
TEST(RequestPath, WhatIsAmbiguousHasNoNormalForm) {
    for (std::string_view path : {"",
                                  "v1",
                                  "*",
                                  "//",
                                  "//v1",
                                  "/v1//",
                                  "/v1//chat",
                                  "/.",
                                  "/..",
                                  "/v1/.",
                                  "/v1/..",
                                  "/v1/../admin",
                                  "/v1/./x",
                                  "/v1/%2e%2e/admin",
                                  "/v1/%2E./admin",
                                  "/v1/.%2e",
                                  "/v1/%2e",
                                  "/v1/...",
                                  "/v1/..%20/x",
                                  "/v1/%20../x",
                                  "/v1/%2f../admin",
                                  "/v1%2Fchat",
                                  "/v1%5cchat",
                                  "/v1\\..\\admin",
                                  "/v1/%252e%252e/x",
                                  "/v1%25",
                                  "/v1/..;/admin",
                                  "/v1/chat;x=1",
                                  "/v1/chat%3bx",
                                  "/v1/chat%3Fx",
                                  "/v1/chat%23x",
                                  "/v1/chat#x",
                                  "/v1/%00",
                                  "/v1/chat%0d%0aX: y",
                                  "/v1/%1f",
                                  "/v1/%7F",
                                  "/v1/%",
                                  "/v1/%4",
                                  "/v1/%zz",
                                  "/v1/%c0%ae%c0%ae/x",
                                  "/v1/%c0%af",
                                  "/v1/%ff",
                                  "/v1/%e0%80%af",
                                  "/v1/%c2%85",
                                  "/v1/a b",
                                  "/v1/\xc3\xa4",
                                  "/v1/\"",
                                  "/v1/<",
                                  "/v1/{x}",
                                  "/v1/[0]",
                                  "/v1/a|b",
                                  "/v1/^",
                                  "/v1/`"})
        EXPECT_FALSE(normal_request_path(path)) << path;
    EXPECT_FALSE(normal_request_path(std::string_view("/a\0b", 4)));
    EXPECT_FALSE(normal_request_path("/a\tb"));
}

TEST(RequestPath, EqualSpellingsHaveOneForm) {
    struct {
        std::string_view path, normal;
    } cases[] = {
        {"/", "/"},
        {"/v1/chat/", "/v1/chat/"},
        {"/%76%31/%43hat", "/v1/Chat"},
        {"/a%7eb%2Dc%5f", "/a~b-c_"},
        {"/file%2Etxt", "/file.txt"},
        {"/.well-known/x..y", "/.well-known/x..y"},
        {"/a%20b%c3%a4", "/a%20b%C3%A4"},
        {"/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b"},
        {"/a%21%40", "/a%21%40"}, // not the same as "/a!@" (RFC 3986 section 2.2)
    };
    for (const auto& one : cases) {
        auto normal = normal_request_path(one.path);
        ASSERT_TRUE(normal) << one.path << ": " << normal.error().message;
        EXPECT_EQ(*normal, one.normal);
        EXPECT_EQ(*normal_request_path(*normal), *normal);
    }
}

TEST(RequestPath, Patterns) {
    struct {
        std::string_view pattern, path;
        bool matches;
    } cases[] = {
        {"/", "/", true},
        {"/", "/v1", false},
        {"/v1", "/v1", true},
        {"/v1", "/v1/", false},
        {"/v1", "/V1", false},
        {"/v1", "/v1x", false},
        {"/%76%31/m%C3%A4", "/v1/m%C3%A4", true},
        {"/*", "/", true},
        {"/*", "/v1/chat", true},
        {"/v1/*", "/v1", false},
        {"/v1/*", "/v1/", true},
        {"/v1/*", "/v1/a", true},
        {"/v1/*", "/v1/a/b/c", true},
        {"/v1/*", "/v10/a", false},
        {"/repos/*/issues", "/repos/x/issues", true},
        {"/repos/*/issues", "/repos/x/y/issues", false},
        {"/repos/*/issues", "/repos/issues", false},
        {"/repos/*/issues/*", "/repos/x/issues/1/comments", true},
        {"/repos/*/", "/repos/x/", true},
        {"/repos/*/", "/repos/x", false},
    };
    for (const auto& one : cases) {
        auto pattern = RequestPathPattern::parse(one.pattern);
        ASSERT_TRUE(pattern) << one.pattern << ": " << pattern.error().message;
        EXPECT_EQ(pattern->matches(one.path), one.matches) << one.pattern << " " << one.path;
    }
}

} // namespace nullbox::manifest
