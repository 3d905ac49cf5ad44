#include "manifest/services.h"

#include <gtest/gtest.h>

#include "manifest/test_document.h"

namespace nullbox::manifest {

constexpr std::string_view kFile = "/system/config/nulld.toml";

static const TestDocument kWhole(R"([service.cage]
exec = ["/system/bin/cage", "serve"]
after = ["warden"]
user = 103
group = 104
environment = { TZ = "UTC" }
working_directory = "/run/cage"
capabilities = ["CAP_SETUID", "CAP_NET_ADMIN"]
namespaces = ["mount", "net"]
syscalls = ["@basic", "openat"]
read_paths = ["/system"]
write_paths = ["/run/cage"]
execute_paths = ["/system/bin/cage"]
files = "all"
devices = ["/dev/kvm"]
delegate_cgroup = true
memory_max_mb = 256
pids_max = 128
cpu_max_percent = 150
nofile_max = 4096
restart = "on-failure"
restart_delay_ms = 100
restart_delay_max_ms = 1000
stable_after_ms = 5000
ready_timeout_ms = 3000
stop_timeout_ms = 2000
readiness = false
[service.warden]
exec = ["/system/bin/warden"]
user = 102
syscalls = "all")");

static std::string names(const ServicesConfig& config) {
    std::string out;
    for (const auto& service : config.services) out += cat(out.empty() ? "" : " ", service.name);
    return out;
}

TEST(Services, WholeDocument) {
    auto config = parse_services(kWhole.text(), kFile);
    EXPECT_EQ(to_text(config.diagnostics), "");
    ASSERT_EQ(names(config), "warden cage") << "dependencies first";
    const auto& cage = config.services[1];
    EXPECT_EQ(cage.exec, (std::vector<std::string>{"/system/bin/cage", "serve"}));
    EXPECT_EQ(cage.after, std::vector<std::string>{"warden"});
    EXPECT_EQ(cage.uid, 103u);
    EXPECT_EQ(cage.gid, 104u);
    EXPECT_EQ(cage.environment.at("TZ"), "UTC");
    EXPECT_EQ(cage.working_directory, "/run/cage");
    EXPECT_EQ(cage.capabilities, (std::vector<std::string>{"CAP_SETUID", "CAP_NET_ADMIN"}));
    EXPECT_EQ(cage.namespaces, (std::vector<std::string>{"mount", "net"}));
    EXPECT_EQ(cage.syscalls, (std::vector<std::string>{"@basic", "openat"}));
    EXPECT_FALSE(cage.syscalls_unrestricted);
    EXPECT_EQ(cage.read_paths, std::vector<std::string>{"/system"});
    EXPECT_EQ(cage.write_paths, std::vector<std::string>{"/run/cage"});
    EXPECT_EQ(cage.execute_paths, std::vector<std::string>{"/system/bin/cage"});
    EXPECT_TRUE(cage.files_unrestricted);
    EXPECT_EQ(cage.devices, std::vector<std::string>{"/dev/kvm"});
    EXPECT_TRUE(cage.delegate_cgroup);
    EXPECT_EQ(cage.memory_max_bytes, 256u << 20);
    EXPECT_EQ(cage.pids_max, 128u);
    EXPECT_EQ(cage.cpu_max_percent, 150u);
    EXPECT_EQ(cage.nofile_max, 4096u);
    EXPECT_EQ(cage.restart, RestartPolicy::OnFailure);
    EXPECT_EQ(cage.restart_delay.count(), 100);
    EXPECT_EQ(cage.restart_delay_max.count(), 1000);
    EXPECT_EQ(cage.stable_after.count(), 5000);
    EXPECT_EQ(cage.ready_timeout.count(), 3000);
    EXPECT_EQ(cage.stop_timeout.count(), 2000);
    EXPECT_FALSE(cage.readiness);
    EXPECT_EQ(cage.line, 1u);
    const auto& warden = config.services[0];
    EXPECT_TRUE(warden.syscalls_unrestricted);
    EXPECT_TRUE(warden.syscalls.empty());
    EXPECT_EQ(warden.gid, 102u) << "the group follows the user";
    EXPECT_EQ(warden.line, 28u);
    EXPECT_EQ(warden.pids_max, 64u);
    EXPECT_EQ(warden.restart, RestartPolicy::Always);
    EXPECT_FALSE(warden.files_unrestricted);
    EXPECT_TRUE(warden.readiness);
}

// In every one of these cage is left out with one diagnostic, and warden stays.
static void expect_cage_wrong(std::string_view text, uint32_t line, std::string_view key,
                              std::string_view message) {
    auto config = parse_services(text, kFile);
    expect_one(config.diagnostics, kFile, line, key, message);
    EXPECT_EQ(names(config), "warden");
}

static std::vector<TestDocument::Key> cage_keys() {
    auto keys = kWhole.keys();
    std::erase_if(keys, [](const auto& key) { return !key.path.starts_with("service.cage."); });
    return keys;
}

TEST(Services, EachKeyMissing) {
    for (const auto& key : cage_keys()) {
        SCOPED_TRACE(key.path);
        auto text = kWhole.with(key.line, "");
        if (key.name == "exec" || key.name == "user" || key.name == "syscalls")
            expect_cage_wrong(text, 1, key.path, "is missing; must be ");
        else
            EXPECT_EQ(to_text(parse_services(text, kFile).diagnostics), "");
    }
}

TEST(Services, EachKeyOfTheWrongType) {
    for (const auto& key : cage_keys()) {
        SCOPED_TRACE(key.path);
        expect_cage_wrong(kWhole.with(key.line, key.name + " = 1979-05-27"), key.line, key.path,
                          ", is a date or time");
        expect_cage_wrong(kWhole.with(key.line, key.name + " = 1.5"), key.line, key.path,
                          ", is a number with a fraction");
    }
}

TEST(Services, EachKeyMistyped) {
    for (const auto& key : cage_keys()) {
        SCOPED_TRACE(key.path);
        auto config = parse_services(kWhole.with(key.line, key.name + "x = 1"), kFile);
        EXPECT_EQ(names(config), "warden");
        auto found = std::ranges::find(config.diagnostics, key.path + "x", &Diagnostic::key);
        ASSERT_NE(found, config.diagnostics.end());
        EXPECT_EQ(found->line, key.line);
        EXPECT_TRUE(found->message.contains(cat("did you mean \"", key.name, "\"?"))) << found->message;
    }
}

TEST(Services, OutOfBounds) {
    struct {
        std::string_view name, value, message;
        std::string_view at = ""; // after the key: "[0]"
    } cases[] = {
        {"exec", "[]", "must not be empty"},
        {"exec", R"(["cage"])", "its first entry must be an absolute path, is \"cage\""},
        {"exec", R"(["/a/../b"])", "its first entry must be a path without"},
        {"exec", R"(["/a", ""])", "1 to 4096 bytes long, is 0", "[1]"},
        {"after", R"(["Warden"])", "lower-case letters, digits and '-'", "[0]"},
        {"after", R"(["warden", "warden"])", "a second time", "[1]"},
        {"user", "-1", "from 0 to 4294967294, is -1"},
        {"user", "4294967295", "from 0 to 4294967294"},
        {"group", "4294967295", "from 0 to 4294967294"},
        {"environment", R"({ "A B" = "" })", "must be a variable's name", ".A B"},
        {"working_directory", R"("run")", "must be an absolute path"},
        {"capabilities", R"(["CAP_NET_ADMN"])", "did you mean \"CAP_NET_ADMIN\"?", "[0]"},
        {"capabilities", R"(["cap_net_admin"])", "must be a capability", "[0]"},
        {"capabilities", R"(["CAP_ALL"])", "must be a capability", "[0]"},
        {"namespaces", R"(["pids"])", "did you mean \"pid\"?", "[0]"},
        {"syscalls", "[]", "must not be empty"},
        {"syscalls", R"("none")", "or the text \"all\", is \"none\""},
        {"syscalls", R"(["open at"])", "must be the name of a system call or a group", "[0]"},
        {"syscalls", R"(["@"])", "must be the name of a system call or a group", "[0]"},
        {"read_paths", R"(["system"])", "must be an absolute path", "[0]"},
        {"write_paths", R"(["/a//b"])", "without \"//\"", "[0]"},
        {"execute_paths", R"(["/a\u0000b"])", "printable", "[0]"},
        {"files", R"("none")", "must be \"all\" or \"listed\", is \"none\""},
        {"devices", R"(["/etc/kvm"])", "must be a path below /dev", "[0]"},
        {"delegate_cgroup", R"("yes")",
         "must be true or false, is a text; for example delegate_cgroup = true"},
        {"memory_max_mb", "-1", "from 0 to 1048576, is -1"},
        {"memory_max_mb", "1048577", "from 0 to 1048576"},
        {"pids_max", "0", "from 1 to 32768, is 0"},
        {"cpu_max_percent", "6401", "from 0 to 6400, is 6401"},
        {"nofile_max", "15", "from 16 to 1048576, is 15"},
        {"restart", R"("onfailure")", "did you mean \"on-failure\"?"},
        {"restart_delay_ms", "0", "from 1 to 600000, is 0"},
        {"restart_delay_max_ms", "99", "must be at least restart_delay_ms, which is 100"},
        {"restart_delay_max_ms", "3600001", "from 1 to 3600000"},
        {"stable_after_ms", "-1", "from 0 to 3600000, is -1"},
        {"ready_timeout_ms", "0", "from 1 to 600000, is 0"},
        {"stop_timeout_ms", "600001", "from 1 to 600000, is 600001"},
        {"readiness", "0", "must be true or false, is a whole number"},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(cat(one.name, " = ", one.value));
        auto path = cat("service.cage.", one.name);
        expect_cage_wrong(kWhole.with(path, cat(one.name, " = ", one.value)), kWhole.find(path).line,
                          path + std::string(one.at), one.message);
    }
}

TEST(Services, ALongFirstDelayNeedsNoSecondKey) {
    auto text = kWhole.with("service.cage.restart_delay_ms", "restart_delay_ms = 60000");
    expect_cage_wrong(text, 23, "service.cage.restart_delay_max_ms", "must be at least restart_delay_ms");
    auto config = parse_services(TestDocument(text).with("service.cage.restart_delay_max_ms", ""), kFile);
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(config.services.at(1).restart_delay_max.count(), 60'000);
}

// --- Order

static std::string service(std::string_view name, std::string_view after = "", std::string_view more = "") {
    return cat("[service.", name, "]\nexec = [\"/x\"]\nuser = 1\nsyscalls = \"all\"\nafter = [", after, "]\n",
               more);
}

TEST(Services, OrderIsTheDocumentsWhereNothingElseAsks) {
    auto config =
        parse_services(service("z") + service("b", R"("y")") + service("a") + service("y", R"("a")"), kFile);
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(names(config), "z a y b");
}

TEST(Services, ACycleIsNamedAndTheRestRuns) {
    auto config =
        parse_services(service("a", R"("b")") + service("b", R"("c")") + service("c", R"("a", "d")") +
                           service("d") + service("e", R"("c", "d")") + service("f", R"("e")"),
                       kFile);
    EXPECT_EQ(names(config), "d");
    ASSERT_EQ(config.diagnostics.size(), 3u) << to_text(config.diagnostics);
    EXPECT_EQ(
        to_text(config.diagnostics[0]),
        "/system/config/nulld.toml:5:9: service.a.after: waits for itself: a -> b -> c -> a; these services "
        "are left out; remove one of the names");
    EXPECT_EQ(to_text(config.diagnostics[1]), "/system/config/nulld.toml:25:9: service.e.after: waits for "
                                              "\"c\", which is left out; correct that first");
    EXPECT_EQ(config.diagnostics[2].key, "service.f.after");
    EXPECT_TRUE(config.diagnostics[2].message.contains("waits for \"e\""));
}

TEST(Services, AServiceMayWaitForItselfByMistake) {
    auto config = parse_services(service("a", R"("a")") + service("b"), kFile);
    EXPECT_EQ(names(config), "b");
    expect_one(config.diagnostics, kFile, 5, "service.a.after", "waits for itself: a -> a;");
}

TEST(Services, TwoCyclesAreTwoMistakes) {
    auto config = parse_services(service("a", R"("b")") + service("b", R"("a")") + service("c", R"("d")") +
                                     service("d", R"("c")"),
                                 kFile);
    EXPECT_EQ(names(config), "");
    EXPECT_EQ(config.diagnostics.size(), 2u) << to_text(config.diagnostics);
}

TEST(Services, AWrongServiceTakesItsDependantsWithIt) {
    auto config =
        parse_services(service("a", "", "pids_max = 0\n") + service("b", R"("a")") + service("c"), kFile);
    EXPECT_EQ(names(config), "c");
    ASSERT_EQ(config.diagnostics.size(), 2u) << to_text(config.diagnostics);
    EXPECT_EQ(config.diagnostics[0].key, "service.a.pids_max");
    EXPECT_EQ(config.diagnostics[1].key, "service.b.after");
}

TEST(Services, AnUnknownDependencyIsToldWithASuggestion) {
    auto config = parse_services(
        service("warden") + service("cage", R"("wardn")") + service("x", R"("nobody")"), kFile);
    EXPECT_EQ(names(config), "warden");
    ASSERT_EQ(config.diagnostics.size(), 2u) << to_text(config.diagnostics);
    EXPECT_TRUE(config.diagnostics[0].message.contains("did you mean \"warden\"?"));
    EXPECT_EQ(config.diagnostics[0].line, 10u);
    EXPECT_TRUE(config.diagnostics[1].message.contains("add [service.nobody] or remove the name"));
}

TEST(Services, ShapeOfTheDocument) {
    expect_one(parse_services("", kFile).diagnostics, kFile, 0, "service",
               "is missing; write [service.NAME]");
    expect_one(parse_services("[service]\n", kFile).diagnostics, kFile, 1, "service", "has no service");
    expect_one(parse_services("service = 5\n", kFile).diagnostics, kFile, 1, "service", "must be a table");
    expect_one(parse_services("[service]\ncage = 5\n", kFile).diagnostics, kFile, 2, "service.cage",
               "must be a table, is a whole number; write [service.cage]");
    expect_one(parse_services("[service\n", kFile).diagnostics, kFile, 1, "", "is not valid TOML");
    expect_one(parse_services(service("Cage"), kFile).diagnostics, kFile, 1, "service.Cage",
               "lower-case letters, digits and '-'");
    expect_one(parse_services(service(std::string(33, 'a')), kFile).diagnostics, kFile, 1,
               cat("service.", std::string(33, 'a')), "at most 32 bytes");
    expect_one(parse_services(service("cage") + "[servce.x]\n", kFile).diagnostics, kFile, 6, "servce",
               "did you mean \"service\"?");
    expect_one(parse_services(std::string((256 << 10) + 1, ' '), kFile).diagnostics, kFile, 0, "",
               "at most 262144 are allowed");
    for (int count : {64, 65}) {
        std::string text;
        for (int i = 0; i < count; i++) text += service(cat("s", i), i ? cat("\"s", i - 1, "\"") : "");
        auto config = parse_services(text, kFile);
        EXPECT_EQ(config.services.size(), count == 64 ? 64u : 0u) << to_text(config.diagnostics);
        EXPECT_EQ(config.diagnostics.empty(), count == 64);
    }
}

} // namespace nullbox::manifest
