// [capabilities.credentials], [capabilities.memory] and allow_private: what an agent may use beyond its VM.
#include <gtest/gtest.h>

#include "base/text.h"
#include "manifest/agent_for_test.h"
#include "manifest/forms.h"
#include "manifest/test_document.h"

namespace nullbox::manifest {

static const TestDocument kWhole(R"([agent]
name = "hello"
version = "1.0.0"
image = "python"
command = ["/usr/bin/python3"]
environment = { LANG = "C.UTF-8" }
[capabilities.network]
allow = ["api.example.org", "*.example.net:8443", "nas.lan:445", "plain.example.org:80"]
allow_private = ["nas.lan", "a.b.example.net"]
[capabilities.memory]
read = ["research", "news"]
write = ["research"]
max_entries = 500
max_mb = 8
[capabilities.credentials.DEMO_KEY]
inject = { host = "api.example.org", header = "Authorization", format = "Bearer {secret}" }
variable = "API_TOKEN"
[capabilities.credentials."git.token"]
inject = [ { host = "git.example.net", header = "X-Token" }, { host = "api.example.org", header = "x-api-key" } ]
[capabilities.credentials.PLAIN]
exposed = true
[capabilities.credentials.4th])");

TEST(Capabilities, Disks) {
    auto with = [](std::string_view keys) {
        return cat(
            "[agent]\nname = \"hello\"\nversion = \"1\"\nimage = \"i\"\ncommand = [\"/x\"]\n[capabilities]\n",
            keys);
    };
    auto none = right(with(""));
    EXPECT_EQ(none.scratch_mb, 0u);
    EXPECT_EQ(none.disk_mbps, 0u);
    EXPECT_EQ(none.disk_iops, 0u);
    auto all = right(with("scratch_mb = 16\ndisk_mbps = 1\ndisk_iops = 10"));
    EXPECT_EQ(all.scratch_mb, 16u);
    EXPECT_EQ(all.disk_mbps, 1u);
    EXPECT_EQ(all.disk_iops, 10u);
    for (auto key :
         {"scratch_mb = 15", "scratch_mb = 0", "scratch_mb = 1048577", "scratch_mb = \"1G\"", "disk_mbps = 0",
          "disk_mbps = 100001", "disk_iops = 9", "disk_iops = 1000001", "disk_iops = -1"})
        EXPECT_EQ(wrong(with(key)).size(), 1u) << key;
    auto lost = wrong(cat("scratch_mb = 100\n", with("")));
    ASSERT_EQ(lost.size(), 1u);
    EXPECT_TRUE(to_text(lost).contains("[capabilities]")) << to_text(lost);
}

TEST(Capabilities, Whole) {
    auto agent = right(kWhole.text());
    EXPECT_EQ(agent.network_allow_private, (std::vector<std::string>{"nas.lan", "a.b.example.net"}));
    EXPECT_EQ(agent.memory_read, (std::vector<std::string>{"research", "news"}));
    EXPECT_EQ(agent.memory_write, std::vector<std::string>{"research"});
    EXPECT_EQ(agent.memory_max_entries, 500u);
    EXPECT_EQ(agent.memory_max_bytes, uint64_t{8} << 20);
    std::vector<Credential> wanted = {
        {.name = "DEMO_KEY",
         .variable = "API_TOKEN",
         .inject = {{.host = "api.example.org", .header = "Authorization", .format = "Bearer {secret}"}}},
        {.name = "git.token",
         .variable = "git_token",
         .inject = {{.host = "git.example.net", .header = "X-Token", .format = "{secret}"},
                    {.host = "api.example.org", .header = "x-api-key", .format = "{secret}"}}},
        {.name = "PLAIN", .variable = "PLAIN", .exposed = true},
        {.name = "4th", .variable = "_4th"},
    };
    EXPECT_EQ(agent.credentials, wanted);
}

TEST(Capabilities, NothingIsGrantedByDefault) {
    auto agent = right("[agent]\nname = \"hello\"\nversion = \"1\"\nimage = \"a\"\ncommand = [\"/a\"]\n"
                       "[capabilities.memory]\n[capabilities.credentials]\n");
    EXPECT_TRUE(agent.credentials.empty() && agent.memory_read.empty() && agent.memory_write.empty());
    EXPECT_TRUE(agent.network_allow_private.empty());
    EXPECT_EQ(agent.memory_max_entries, 10'000u);
    EXPECT_EQ(agent.memory_max_bytes, uint64_t{64} << 20);
}

TEST(Capabilities, TheOldShortFormIsAPlaceholderAndNothingMore) {
    auto agent = right("credential_refs = [\"A\", \"b-c\"]\n" + kWhole.text());
    ASSERT_EQ(agent.credentials.size(), 6u);
    EXPECT_EQ(agent.credentials[0], (Credential{.name = "A", .variable = "A"}));
    EXPECT_EQ(agent.credentials[1], (Credential{.name = "b-c", .variable = "b_c"}));
    expect_one(wrong("credential_refs = [\"PLAIN\"]\n" + kWhole.text()), kFile, 21,
               "capabilities.credentials.PLAIN", "is in credential_refs as well");
    expect_one(wrong("credential_refs = [\"LANG\"]\n" + kWhole.text()), kFile, 1, "credential_refs",
               "names LANG, whose variable is \"LANG\", which [agent.environment] sets as well");
    expect_one(wrong("credential_refs = [\"a.b\", \"a-b\"]\n" + kWhole.text()), kFile, 1, "credential_refs",
               "which the credential a.b has as well");
}

TEST(Capabilities, OneMistakeEach) {
    struct {
        uint32_t line;
        std::string_view text, key, message;
    } cases[] = {
        {9, "allow_private = [\"other.lan\"]", "capabilities.network.allow_private",
         "names \"other.lan\", which allow does not name; add it there"},
        {9, "allow_private = [\"example.net\"]", "capabilities.network.allow_private", "allow does not name"},
        {9, "allow_private = [\"*.example.net\"]", "capabilities.network.allow_private[0]", "lower-case"},
        {9, "allow_private = true", "capabilities.network.allow_private", "must be a list of texts"},
        {11, "read = [\"Research\"]", "capabilities.memory.read[0]", "lower-case letters"},
        {11, "read = [\"../x\"]", "capabilities.memory.read[0]", "lower-case letters"},
        {12, "write = \"research\"", "capabilities.memory.write", "must be a list of texts, is a text"},
        {13, "max_entries = 0", "capabilities.memory.max_entries", "from 1 to 1000000, is 0"},
        {13, "max_entries = 1000001", "capabilities.memory.max_entries", "is 1000001"},
        {14, "max_mb = 4097", "capabilities.memory.max_mb", "from 1 to 4096, is 4097"},
        {14, "max_mbs = 1", "capabilities.memory.max_mbs", "did you mean \"max_mb\"?"},
        {15, "[capabilities.credentials.\"A B\"]", "capabilities.credentials.A B",
         "must be the name of a secret"},
        {15, "[capabilities.credentials.\"\"]", "capabilities.credentials.", "must be the name of a secret"},
        {17, "variable = \"A=B\"", "capabilities.credentials.DEMO_KEY.variable", "a variable's name"},
        {17, "variable = \"LANG\"", "capabilities.credentials.DEMO_KEY.variable",
         "which [agent.environment] sets as well"},
        {17, "exposed = true", "capabilities.credentials.DEMO_KEY.exposed", "must not be true beside inject"},
        {17, "exposed = 1", "capabilities.credentials.DEMO_KEY.exposed", "must be true or false"},
        {17, "exposd = true", "capabilities.credentials.DEMO_KEY.exposd", "did you mean \"exposed\"?"},
        {21, "variable = \"API_TOKEN\"", "capabilities.credentials.PLAIN.variable",
         "is \"API_TOKEN\", which the credential DEMO_KEY has as well"},
        {16, "inject = \"api.example.org\"", "capabilities.credentials.DEMO_KEY.inject",
         "must be a table or a list of tables, is a text; for example inject = {"},
        {16, "inject = []", "capabilities.credentials.DEMO_KEY.inject", "must have 1 to 16 entries, has 0"},
        {16, "inject = [5]", "capabilities.credentials.DEMO_KEY.inject[0]", "must be a table, is a whole"},
        {16, "host = \"api.example.org\"", "capabilities.credentials.DEMO_KEY.host", "or inject of"},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.text);
        expect_one(wrong(kWhole.with(one.line, one.text)), kFile, one.line, one.key, one.message);
    }
}

TEST(Capabilities, InjectIsChecked) {
    struct {
        std::string_view inject, key, message;
    } cases[] = {
        {"header = \"A\"", ".host", "is missing; must be a text"},
        {"host = \"api.example.org\"", ".header", "is missing"},
        {"host = \"*.example.net\", header = \"A\"", ".host", "lower-case letters"},
        {"host = \"API.example.org\", header = \"A\"", ".host", "lower case"},
        {"host = \"api.example.org:443\", header = \"A\"", ".host", "lower-case letters"},
        {"host = \"other.example.org\", header = \"A\"", ".host", "add \"other.example.org\" to allow"},
        {"host = \"example.net\", header = \"A\"", ".host", "add \"example.net\" to allow"},
        {"host = \"plain.example.org\", header = \"A\"", ".host", "that the agent may reach over TLS"},
        {"host = \"api.example.org\", header = \"\"", ".header", "1 to 64 bytes long, is 0"},
        {"host = \"api.example.org\", header = \"A B\"", ".header", "the name of a request header"},
        {"host = \"api.example.org\", header = \"A:\"", ".header", "the name of a request header"},
        {"host = \"api.example.org\", header = \"A\\r\\nB\"", ".header", "the name of a request header"},
        {"host = \"api.example.org\", header = \"Host\"", ".header", "says how the request is sent"},
        {"host = \"api.example.org\", header = \"content-Length\"", ".header",
         "says how the request is sent"},
        {"host = \"api.example.org\", header = \"A\", format = \"Bearer\"", ".format", "in it once"},
        {"host = \"api.example.org\", header = \"A\", format = \"{secret}{secret}\"", ".format", "once"},
        {"host = \"api.example.org\", header = \"A\", format = \"{secret}\\n\"", ".format",
         "printable ASCII"},
        {"host = \"api.example.org\", header = \"A\", format = \"\\u00e9{secret}\"", ".format", "ASCII"},
        {"host = \"api.example.org\", header = \"A\", formt = \"x\"", ".formt", "did you mean \"format\"?"},
    };
    constexpr std::string_view kPath = "capabilities.credentials.DEMO_KEY.inject";
    for (const auto& one : cases) {
        SCOPED_TRACE(one.inject);
        auto table = cat("inject = { ", one.inject, " }");
        expect_one(wrong(kWhole.with(16, table)), kFile, 16, cat(kPath, one.key), one.message);
        auto list = cat("inject = [ { host = \"v.example.net\", header = \"A\" }, { ", one.inject, " } ]");
        expect_one(wrong(kWhole.with(16, list)), kFile, 16, cat(kPath, "[1]", one.key), one.message);
    }
    // A header of a host holds one secret, however its name is written.
    expect_one(wrong(kWhole.with(16, "inject = { host = \"git.example.net\", header = \"x-TOKEN\" }")), kFile,
               19, "capabilities.credentials.git.token.inject[0].header",
               "is given a secret for git.example.net already");
}

TEST(Capabilities, ListsAreBounded) {
    std::string many = kWhole.text();
    for (int i = 0; i < 28; i++) many += cat("[capabilities.credentials.K", i, "]\n");
    EXPECT_EQ(right(many).credentials.size(), 32u);
    expect_one(wrong(many + "[capabilities.credentials.K28]\n"), kFile, 15, "capabilities.credentials",
               "at most 32 entries, has 33");
    std::string injects;
    for (int i = 0; i < 16; i++)
        injects += cat(i ? ", " : "", "{ host = \"h", i, ".example.net\", header = \"A\" }");
    EXPECT_EQ(right(kWhole.with(16, cat("inject = [", injects, "]"))).credentials.at(0).inject.size(), 16u);
    injects += ", { host = \"x.example.net\", header = \"A\" }";
    expect_one(wrong(kWhole.with(16, cat("inject = [", injects, "]"))), kFile, 16,
               "capabilities.credentials.DEMO_KEY.inject", "1 to 16 entries, has 17");
    expect_one(wrong(kWhole.with(15, cat("[capabilities.credentials.", std::string(65, 'x'), "]"))), kFile,
               15, cat("capabilities.credentials.", std::string(65, 'x')), "1 to 64 bytes long, is 65");
}

} // namespace nullbox::manifest
