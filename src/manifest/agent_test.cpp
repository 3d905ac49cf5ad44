#include "manifest/agent.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "manifest/agent_for_test.h"
#include "manifest/machine.h"
#include "manifest/test_document.h"

namespace nullbox::manifest {

static const TestDocument kWhole(R"([agent]
name = "hello"
version = "1.0.0"
image = "python"
command = ["/usr/bin/python3", "/app/main.py", "/app/main.py"]
environment = { LANG = "C.UTF-8", EMPTY = "" }
working_directory = "/app"
user = 1001
group = 1002
start = "manual"
restart = "on-failure"
[capabilities]
max_cpu_percent = 250
max_memory_mb = 256
credential_refs = ["OPENAI_API_KEY", "git.token"]
[capabilities.network]
allow = ["api.example.org", "*.example.org:443", "192.0.2.7:80", "[2001:db8::1]:443"]
[capabilities.filesystem]
read = ["/data"]
write = ["/work/out"]
[health_check]
kind = "http"
port = 8080
path = "/health"
interval_seconds = 5
failures = 2
grace_seconds = 0)");

TEST(Agent, WholeManifest) {
    auto agent = right(kWhole.text());
    EXPECT_EQ(agent.name, "hello");
    EXPECT_EQ(agent.version, "1.0.0");
    EXPECT_EQ(agent.image, "python");
    EXPECT_EQ(agent.command, (std::vector<std::string>{"/usr/bin/python3", "/app/main.py", "/app/main.py"}));
    EXPECT_EQ(agent.environment, (std::map<std::string, std::string>{{"LANG", "C.UTF-8"}, {"EMPTY", ""}}));
    EXPECT_EQ(agent.working_directory, "/app");
    EXPECT_EQ(agent.uid, 1001u);
    EXPECT_EQ(agent.gid, 1002u);
    EXPECT_FALSE(agent.start_at_boot);
    EXPECT_EQ(agent.restart, RestartPolicy::OnFailure);
    EXPECT_EQ(agent.max_cpu_percent, 250u);
    EXPECT_EQ(agent.vcpus(), 3u);
    EXPECT_EQ(agent.max_memory_mb, 256u);
    ASSERT_EQ(agent.credentials.size(), 2u);
    EXPECT_EQ(agent.credentials[0], (Credential{.name = "OPENAI_API_KEY", .variable = "OPENAI_API_KEY"}));
    EXPECT_EQ(agent.credentials[1], (Credential{.name = "git.token", .variable = "git_token"}));
    EXPECT_EQ(agent.network_allow.size(), 4u);
    EXPECT_EQ(agent.read_paths, std::vector<std::string>{"/data"});
    EXPECT_EQ(agent.write_paths, std::vector<std::string>{"/work/out"});
    ASSERT_EQ(agent.health_check.size(), 1u);
    EXPECT_EQ(agent.health_check[0].kind, "http");
    EXPECT_EQ(agent.health_check[0].port, 8080);
    EXPECT_EQ(agent.health_check[0].path, "/health");
    EXPECT_EQ(agent.health_check[0].interval, std::chrono::seconds(5));
    EXPECT_EQ(agent.health_check[0].failures, 2u);
    EXPECT_EQ(agent.health_check[0].grace, std::chrono::seconds(0));
}

TEST(Agent, SmallestManifestHasTheDefaults) {
    auto agent =
        right("[agent]\nname = \"hello\"\nversion = \"1\"\nimage = \"hello\"\ncommand = [\"/hello\"]\n");
    EXPECT_EQ(agent.working_directory, "/");
    EXPECT_EQ(agent.uid, 1000u);
    EXPECT_EQ(agent.gid, 1000u);
    EXPECT_TRUE(agent.start_at_boot);
    EXPECT_EQ(agent.restart, RestartPolicy::Never);
    EXPECT_EQ(agent.max_cpu_percent, 100u);
    EXPECT_EQ(agent.vcpus(), 1u);
    EXPECT_EQ(agent.max_memory_mb, 128u);
    EXPECT_TRUE(agent.network_allow.empty() && agent.read_paths.empty() && agent.credentials.empty());
    EXPECT_TRUE(agent.health_check.empty());
}

TEST(Agent, WhatIsLeftToTheImageIsKnown) {
    auto silent = right("[agent]\nname = \"hello\"\nversion = \"1\"\nimage = \"hello\"\n");
    EXPECT_TRUE(silent.command.empty());
    EXPECT_FALSE(silent.has_user || silent.has_group || silent.has_working_directory);
    auto said = right(kWhole.text());
    EXPECT_TRUE(said.has_user && said.has_group && said.has_working_directory);
}

TEST(Agent, GroupFollowsUser) {
    auto agent = right(kWhole.with("agent.group", ""));
    EXPECT_EQ(agent.uid, 1001u);
    EXPECT_EQ(agent.gid, 1001u);
}

TEST(Agent, EachKeyMissing) {
    const std::vector<std::string> required = {"agent.name", "agent.version", "agent.image",
                                               "health_check.kind", "health_check.port"};
    for (const auto& key : kWhole.keys()) {
        auto text = kWhole.with(key.line, "");
        if (std::ranges::find(required, key.path) == required.end()) {
            right(text);
            continue;
        }
        uint32_t table_line = key.path.starts_with("agent.") ? 1 : 21;
        expect_one(wrong(text), kFile, table_line, key.path, "is missing; must be ");
    }
    expect_one(wrong("[capabilities]\n"), kFile, 0, "agent", "is missing; write [agent]");
    EXPECT_EQ(wrong("[agent]\n").size(), 3u) << "every missing key is told at once";
}

// A date is the wrong type everywhere; a whole number is it for all but the numbers.
TEST(Agent, EachKeyOfTheWrongType) {
    for (const auto& key : kWhole.keys()) {
        SCOPED_TRACE(key.path);
        auto diagnostics = wrong(kWhole.with(key.line, key.name + " = 1979-05-27"));
        expect_one(diagnostics, kFile, key.line, key.path, "must be ");
        EXPECT_TRUE(diagnostics.at(0).message.contains(", is a date or time")) << to_text(diagnostics);
        EXPECT_EQ(diagnostics.at(0).column, key.name.size() + 4);
        diagnostics = wrong(kWhole.with(key.line, key.name + " = 1.5"));
        expect_one(diagnostics, kFile, key.line, key.path, ", is a number with a fraction");
        bool choice = key.name == "start" || key.name == "restart" || key.name == "kind";
        EXPECT_TRUE(choice || diagnostics.at(0).message.contains(cat("; for example ", key.name, " = ")))
            << to_text(diagnostics);
    }
}

TEST(Agent, EachKeyMistyped) {
    for (const auto& key : kWhole.keys()) {
        SCOPED_TRACE(key.path);
        auto line = kWhole.text();
        auto typed = key.name + "x";
        auto diagnostics = wrong(kWhole.with(key.line, cat(typed, " = 1")));
        ASSERT_FALSE(diagnostics.empty());
        auto found = std::ranges::find_if(diagnostics, [&](const Diagnostic& diagnostic) {
            return diagnostic.message.contains(cat("did you mean \"", key.name, "\"?"));
        });
        ASSERT_NE(found, diagnostics.end()) << to_text(diagnostics);
        EXPECT_EQ(found->line, key.line);
        EXPECT_EQ(found->column, 1u);
        EXPECT_EQ(found->key, key.path + "x");
    }
    expect_one(wrong(kWhole.text() + "[capabilites]\n"), kFile, 28, "capabilites",
               "did you mean \"capabilities\"?");
}

TEST(Agent, AKeyInTheWrongTableIsSentHome) {
    expect_one(wrong(kWhole.with("agent.start", "max_memory_mb = 64")), kFile, 10, "agent.max_memory_mb",
               "it belongs in [capabilities]");
    // Written last, as people do, it lands in the table above it.
    expect_one(wrong(kWhole.with("capabilities.filesystem.write", "credential_refs = [\"A\"]")), kFile, 20,
               "capabilities.filesystem.credential_refs", "it belongs in [capabilities]");
}

TEST(Agent, OutOfBounds) {
    struct {
        std::string_view key, line, message;
        std::string_view at = ""; // the key in the message, when it is not the first
    } cases[] = {
        {"agent.name", "name = \"\"", "must be 1 to 32 bytes long, is 0"},
        {"agent.name", "name = \"a123456789012345678901234567890123\"", "must be 1 to 32 bytes long, is 34"},
        {"agent.name", "name = \"Hello\"", "lower-case letters, digits and '-'"},
        {"agent.name", "name = \"-hello\"", "lower-case letters, digits and '-'"},
        {"agent.name", "name = \"../x\"", "lower-case letters, digits and '-'"},
        {"agent.name", "name = \"hello\\u0000\"", "lower-case letters, digits and '-'"},
        {"agent.name", "name = \"other\"", "must be the file's name, \"hello\", is \"other\""},
        {"agent.version", "version = \"1\\n2\"", "must be printable characters in one line"},
        {"agent.version", "version = \"\\u001b[2J\"", "must be printable characters in one line"},
        {"agent.image", "image = \"a/b\"", "lower-case letters, digits and '-'"},
        {"agent.command", "command = []", "must not be empty; for example command = ["},
        {"agent.command", "command = [\"/a\", \"\"]", "must be 1 to 4096 bytes long, is 0",
         "agent.command[1]"},
        {"agent.command", "command = [\"/a\", 5]", "must be a text, is a whole number", "agent.command[1]"},
        {"agent.command", "command = [\"/a\\u0000b\"]", "must not contain a NUL", "agent.command[0]"},
        {"agent.environment", "environment = { \"A=B\" = \"x\" }", "must be a variable's name",
         "agent.environment.A=B"},
        {"agent.environment", "environment = { 1A = \"x\" }", "no digit first", "agent.environment.1A"},
        {"agent.environment", "environment = { A = 5 }", "must be a text, is a whole number",
         "agent.environment.A"},
        {"agent.environment", "environment = { A = \"\\u0000\" }", "must not contain a NUL",
         "agent.environment.A"},
        {"agent.working_directory", "working_directory = \"app\"", "must be an absolute path, is \"app\""},
        {"agent.working_directory", "working_directory = \"/a/../b\"", "without \"//\", \".\" or \"..\""},
        {"agent.user", "user = -1", "must be a whole number from 0 to 4294967294, is -1"},
        {"agent.user", "user = 4294967295", "must be a whole number from 0 to 4294967294, is 4294967295"},
        {"agent.group", "group = 4294967296", "is 4294967296"},
        {"agent.start", "start = \"bot\"",
         "must be \"boot\" or \"manual\", is \"bot\"; did you mean \"boot\"?"},
        {"agent.restart", "restart = \"sometimes\"", "must be \"always\", \"on-failure\" or \"never\""},
        {"capabilities.max_cpu_percent", "max_cpu_percent = 0", "from 1 to 3200, is 0"},
        {"capabilities.max_cpu_percent", "max_cpu_percent = 3201", "from 1 to 3200, is 3201"},
        {"capabilities.max_memory_mb", "max_memory_mb = 63", "from 64 to 65536, is 63"},
        {"capabilities.max_memory_mb", "max_memory_mb = 65537", "from 64 to 65536, is 65537"},
        {"capabilities.credential_refs", "credential_refs = [\"a b\"]", "must be the name of a secret",
         "capabilities.credential_refs[0]"},
        {"capabilities.credential_refs", "credential_refs = [\"A\", \"A\"]", "names \"A\" a second time",
         "capabilities.credential_refs[1]"},
        {"capabilities.filesystem.read", "read = [\"/../../vault\"]", "without \"//\", \".\" or \"..\"",
         "capabilities.filesystem.read[0]"},
        {"capabilities.filesystem.read", "read = [\"/\"]", "must name a folder, not the whole file system",
         "capabilities.filesystem.read[0]"},
        {"capabilities.filesystem.write", "write = [\"/out/\"]", "no \"/\" at its end",
         "capabilities.filesystem.write[0]"},
        {"health_check.kind", "kind = \"udp\"", "must be \"http\" or \"tcp\", is \"udp\""},
        {"health_check.kind", "kind = \"tcp\"", "means nothing for kind = \"tcp\"; remove it",
         "health_check.path"},
        {"health_check.port", "port = 0", "from 1 to 65535, is 0"},
        {"health_check.port", "port = 65536", "from 1 to 65535, is 65536"},
        {"health_check.path", "path = \"health\"", "such as \"/health\""},
        {"health_check.path", "path = \"/a b\"", "such as \"/health\""},
        {"health_check.interval_seconds", "interval_seconds = 0", "from 1 to 3600, is 0"},
        {"health_check.failures", "failures = 101", "from 1 to 100, is 101"},
        {"health_check.grace_seconds", "grace_seconds = 3601", "from 0 to 3600, is 3601"},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.line);
        auto key = kWhole.find(one.key);
        uint32_t line = one.at == "health_check.path" ? kWhole.find("health_check.path").line : key.line;
        expect_one(wrong(kWhole.with(key.line, one.line)), kFile, line, one.at.empty() ? one.key : one.at,
                   one.message);
    }
}

TEST(Agent, VcpusAreWhatTheTimeTakesUpToTheKernelsLimit) {
    AgentManifest agent;
    const std::vector<std::pair<uint32_t, uint32_t>> cases{
        {1, 1}, {100, 1}, {101, 2}, {1600, 16}, {3200, 16}};
    for (auto [percent, vcpus] : cases) {
        agent.max_cpu_percent = percent;
        EXPECT_EQ(agent.vcpus(), vcpus) << percent;
    }
}

TEST(Agent, ListsAndTablesAreBounded) {
    auto repeated = [](std::string_view key, size_t count, std::string_view before, std::string_view after) {
        std::string out = cat(key, " = [");
        for (size_t i = 0; i < count; i++) out += cat(i ? ", " : "", "\"", before, i, after, "\"");
        return out + "]";
    };
    struct {
        std::string_view key, name, before, after;
        size_t most;
    } lists[] = {
        {"agent.command", "command", "/a", "", 64},
        {"capabilities.credential_refs", "credential_refs", "A", "", 32},
        {"capabilities.network.allow", "allow", "h", "", 256},
        {"capabilities.filesystem.read", "read", "/a", "", 32},
        {"capabilities.filesystem.write", "write", "/a", "", 32},
    };
    for (const auto& list : lists) {
        right(kWhole.with(list.key, repeated(list.name, list.most, list.before, list.after)));
        expect_one(wrong(kWhole.with(list.key, repeated(list.name, list.most + 1, list.before, list.after))),
                   kFile, kWhole.find(list.key).line, list.key, cat("at most ", list.most, " entries"));
    }
    for (size_t count : {size_t{128}, size_t{129}}) {
        std::string environment = "environment = { ";
        for (size_t i = 0; i < count; i++) environment += cat(i ? ", " : "", "V", i, " = \"x\"");
        auto diagnostics = wrong(kWhole.with("agent.environment", environment + " }"));
        if (count == 128)
            EXPECT_TRUE(diagnostics.empty()) << to_text(diagnostics);
        else
            expect_one(diagnostics, kFile, 6, "agent.environment", "at most 128 entries, has 129");
    }
    right(kWhole.with("agent.command", cat("command = [\"", std::string(4096, 'x'), "\"]")));
    expect_one(wrong(kWhole.with("agent.command", cat("command = [\"", std::string(4097, 'x'), "\"]"))),
               kFile, 5, "agent.command[0]", "1 to 4096 bytes long, is 4097");
}

TEST(Agent, NetworkDestinations) {
    for (std::string_view good :
         {"api.example.org", "localhost", "a.b", "xn--bcher-kva.example", "1password.com",
          "a-b.example.org:443", "*.example.org", "*.a.example.org:8443", "192.0.2.7:80", "[2001:db8::1]:443",
          "[::1]:1", "a.b:65535"})
        EXPECT_EQ(
            right(kWhole.with("capabilities.network.allow", cat("allow = [\"", good, "\"]"))).network_allow,
            std::vector<std::string>{std::string(good)});
    struct {
        std::string_view entry, message;
    } cases[] = {
        {"https://api.example.org/v1", "write api.example.org, not https://api.example.org/v1"},
        {"https://user:pw@api.example.org", "write api.example.org, not"},
        {"api.example.org/v1", "write api.example.org, not api.example.org/v1"},
        {"api.example.org?x", "write api.example.org, not"},
        {"http://", "write api.example.org, not http://"},
        {"API.example.org", "must be in lower case"},
        {"api.example.org.", "without the dot at its end"},
        {".example.org", "empty label"},
        {"api..example.org", "empty label"},
        {".", "empty label"},
        {"a_b.example.org", "lower-case letters, digits, '-'"},
        {"-a.example.org", "lower-case letters, digits, '-'"},
        {"a-.example.org", "lower-case letters, digits, '-'"},
        {"a b.example.org", "lower-case letters, digits, '-'"},
        {"b\\u00fccher.example.org", "its \\\"xn--\\\" form"},
        {"api.example.org\\u0000.evil.org", "must not contain a NUL"},
        {"api.example.org\\n", "lower-case letters, digits, '-'"},
        {"*", "only as a whole first label"},
        {"*.org", "at least two labels after"},
        {"*.", "empty label"},
        {"*.*.example.org", "lower-case letters, digits, '-'"},
        {"a*.example.org", "only as a whole first label"},
        {"api.*.org", "only as a whole first label"},
        {"192.0.2.7", "must have a port, such as \\\"192.0.2.7:443\\\""},
        {"192.0.2", "must not end in a number"},
        {"192.0.2.256:80", "must not end in a number"},
        {"127.1:80", "must not end in a number"},
        {"0x7f.0x1:80", "must not end in a number"},
        {"2130706433:80", "must not end in a number"},
        {"192.0.2.07:80", "must not end in a number"},
        {"*.0.2.7:80", "must not end in a number"},
        {"2001:db8::1", "in brackets with a port, such as \\\"[2001:db8::1]:443\\\""},
        {"[2001:db8::1]", "in brackets with a port"},
        {"[2001:db8::1]443", "in brackets with a port"},
        {"[2001:DB8::1]:443", "in the usual short form, \\\"2001:db8::1\\\""},
        {"[2001:db8:0::1]:443", "in the usual short form"},
        {"[::ffff:192.0.2.7]:443", "must be an IPv4 or IPv6 address"},
        {"[fe80::1%eth0]:443", "must be an IPv4 or IPv6 address"},
        {"[192.0.2.7]:443", "must have an IPv6 address in its brackets"},
        {"[2001:db8::1]:0", "a port from 1 to 65535"},
        {"a.b:", "a port from 1 to 65535"},
        {"a.b:0", "a port from 1 to 65535"},
        {"a.b:080", "a port from 1 to 65535"},
        {"a.b:65536", "a port from 1 to 65535"},
        {"a.b:-1", "a port from 1 to 65535"},
        {"a.b:+1", "a port from 1 to 65535"},
        {"a.b:80:80", "a port from 1 to 65535"},
        {"a.b:https", "a port from 1 to 65535"},
        {":80", "empty label"},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.entry);
        std::string message(one.message);
        std::erase(message, '\\');
        expect_one(wrong(kWhole.with("capabilities.network.allow", cat("allow = [\"", one.entry, "\"]"))),
                   kFile, 17, "capabilities.network.allow[0]", message);
    }
    std::string label(63, 'a'), host = label + "." + label + "." + label + "." + std::string(61, 'b');
    EXPECT_EQ(host.size(), 253u);
    right(kWhole.with("capabilities.network.allow", cat("allow = [\"", host, ":443\"]")));
    expect_one(wrong(kWhole.with("capabilities.network.allow", cat("allow = [\"", host, "b\"]"))), kFile, 17,
               "capabilities.network.allow[0]", "at most 253 bytes long, is 254");
    expect_one(wrong(kWhole.with("capabilities.network.allow", cat("allow = [\"a", label, ".org\"]"))), kFile,
               17, "capabilities.network.allow[0]", "label of 64 bytes; at most 63");
    expect_one(wrong(kWhole.with("capabilities.network.allow", cat("allow = [\"*.", host, "\"]"))), kFile, 17,
               "capabilities.network.allow[0]", "at most 253 bytes long, is 255");
}

TEST(Agent, CredentialRefsMayStandAtTheTop) {
    auto text = "credential_refs = [\"A\"]\n" + kWhole.with("capabilities.credential_refs", "");
    EXPECT_EQ(right(text).credentials, (std::vector<Credential>{{.name = "A", .variable = "A"}}));
    expect_one(wrong("credential_refs = [\"A\"]\n" + kWhole.text()), kFile, 1, "credential_refs",
               "is in [capabilities] as well");
}

TEST(Agent, OlderManifestsFormsAreTaken) {
    auto agent = right(R"(credential_refs = ["OPENAI_API_KEY"]
[agent]
name = "analyst"
version = "0.1.0"
image = "python"
command = ["/usr/bin/python3"]
[capabilities]
max_cpu_percent = 50
max_memory_mb = 512
[capabilities.network]
allow = ["api.openai.com"]
[capabilities.filesystem]
read = ["/data/in"]
write = ["/data/out"]
[health_check]
kind = "tcp"
port = 9000
interval_seconds = 30
failures = 3
)",
                       "AGENT.toml");
    EXPECT_EQ(agent.name, "analyst");
    EXPECT_EQ(agent.vcpus(), 1u);
    EXPECT_EQ(agent.health_check.at(0).kind, "tcp");
}

TEST(Agent, TheFileNameMattersOnlyWhereAgentsLive) {
    for (auto file : {"AGENT.toml", "/x/AGENT.toml", "upload", "hello.toml", "/var/agents/hello.toml"})
        right(kWhole.text(), file);
    expect_one(wrong(kWhole.text(), "/var/agents/hullo.toml"), "/var/agents/hullo.toml", 2, "agent.name",
               "must be the file's name, \"hullo\"");
}

TEST(Agent, EverythingWrongIsToldInOnePass) {
    auto diagnostics = wrong(R"([agent]
name = 5
vesion = "1"
command = "x"
[capabilities]
max_memory_mb = "lots"
[health_check]
)");
    std::vector<std::string> keys;
    for (const auto& diagnostic : diagnostics) keys.push_back(diagnostic.key);
    EXPECT_EQ(keys, (std::vector<std::string>{"agent.name", "agent.version", "agent.image", "agent.command",
                                              "agent.vesion", "capabilities.max_memory_mb",
                                              "health_check.kind", "health_check.port"}))
        << to_text(diagnostics);
}

TEST(Agent, SyntaxErrorsHaveAPlace) {
    struct {
        std::string_view text;
        uint32_t line;
    } cases[] = {
        {"[agent]\nname = \n", 2},
        {"[agent]\nname = \"x\nversion = 1\n", 2},
        {"[agent]\n[agent]\n", 2},
        {"[agent]\na = 1\na = 2\n", 3},
        {"x\n", 1},
        {"[agent]\nname = \"\xff\"\n", 2},
        {"a = 99999999999999999999\n", 1},
        {"[agent\n", 1},
        {"a = [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n", 1},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.text);
        auto diagnostics = wrong(one.text);
        ASSERT_EQ(diagnostics.size(), 1u) << to_text(diagnostics);
        EXPECT_EQ(diagnostics[0].line, one.line) << to_text(diagnostics);
        EXPECT_GT(diagnostics[0].column, 0u);
        EXPECT_EQ(diagnostics[0].key, "");
        EXPECT_TRUE(diagnostics[0].message.starts_with("is not valid TOML: ")) << to_text(diagnostics);
    }
}

TEST(Agent, AHostileDocumentCostsLittle) {
    expect_one(wrong(std::string((64 << 10) + 1, '#')), kFile, 0, "", "at most 65536 are allowed");
    // Each dot is a nested table, and each level of nesting a level of recursion when it is destroyed.
    std::string dots = "a";
    for (int i = 0; i < 30'000; i++) dots += ".a";
    expect_one(wrong(dots + " = 1\n"), kFile, 1, "", "more than 256 dots in one line");
    std::string lines;
    for (int i = 0; i < 200; i++)
        lines += std::string(i ? "\n" : "") + "a" + cat(i) + std::string(".b") + " = 1";
    auto many = wrong(lines);
    EXPECT_LE(many.size(), 101u);
    EXPECT_EQ(many.back().message, "more mistakes follow; correct these first");
    auto deep = wrong("[" + dots.substr(0, 2 * 200 + 1) + "]\nx = 1\n");
    ASSERT_EQ(deep.size(), 1u);
    EXPECT_TRUE(deep[0].message.contains("nested deeper")) << to_text(deep);
    // The next three once ran into undefined behaviour inside the TOML library.
    EXPECT_EQ(wrong(std::string_view("[\0\0\0cage]\n", 10)).size(), 1u);
    EXPECT_EQ(wrong("a = \xd0\x87\n").size(), 1u);
    EXPECT_EQ(wrong("a = \"\"\"\\\n\xc2\xa7\"\"\"\n").at(0).key, "agent");
    for (const auto& diagnostic : wrong("[agent]\n\"\\u001b[2J\" = 1\nname = \"\\u001b]0;x\\u0007\"\n"))
        EXPECT_EQ(printable(to_text(diagnostic)), to_text(diagnostic)) << "no control character gets out";
}

TEST(Agent, DiagnosticsReadWell) {
    auto diagnostics = wrong(kWhole.with("agent.command", "command = 5"));
    EXPECT_EQ(
        to_text(diagnostics),
        "/agent/hello.toml:5:11: agent.command: must be a list of texts, is a whole number; for example "
        "command = [\"/usr/bin/python3\", \"/app/main.py\"]\n");
    EXPECT_EQ(to_text(Diagnostic{.file = "f", .key = "k", .message = "m"}), "f: k: m");
}

} // namespace nullbox::manifest
