// The program as a whole, over its socket.
#include "warden/warden.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <csignal>
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "varlink/client.h"
#include "varlink/description.h"
#include "warden/golden_vaults.h"
#include "warden/interface.h"
#include "warden/memory_search.h"
#include "warden/test_vault.h"

namespace nullbox::warden {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr std::string_view kPassphrase = "correct horse battery";
constexpr auto kLong = 60s; // deriving a key, on a machine that is busy and with sanitizers

static std::string base64(std::string_view text) { return *to_base64(secret(text)); }

TEST(Interface, DescriptionFitsTheTable) {
    Folder folder;
    auto loop = *Loop::make();
    auto warden = Warden::make(*loop, {.path = folder.path + "/vault"});
    ASSERT_TRUE(warden.has_value());
    EXPECT_OK(varlink::check_interface(interface_table(**warden, {})));
}

TEST(Attempts, TheFirstMistakesAreFreeThenTheWaitDoubles) {
    Attempts attempts;
    auto now = Attempts::Time() + 100s;
    for (int i = 0; i < 3; i++) {
        attempts.failed(now);
        EXPECT_EQ(attempts.wait(now), 0ms);
    }
    for (auto wanted : {1s, 2s, 4s, 8s, 16s, 32s, 60s, 60s, 60s}) {
        attempts.failed(now);
        EXPECT_EQ(attempts.wait(now), wanted);
        now += wanted;
        EXPECT_EQ(attempts.wait(now), 0ms);
    }
    for (int i = 0; i < 100; i++) attempts.failed(now);
    EXPECT_EQ(attempts.wait(now), 60s);
    attempts.succeeded();
    EXPECT_EQ(attempts.wait(now), 0ms);
    attempts.failed(now);
    EXPECT_EQ(attempts.wait(now), 0ms);
}

TEST(Uses, TheLastAreKept) {
    Uses uses;
    std::vector<uint64_t> seen;
    uint64_t id = 0;
    id = uses.follow([&](const Use& use) {
        seen.push_back(use.sequence);
        if (seen.size() == 2) uses.unfollow(id);
    });
    for (size_t i = 0; i < Uses::kMost + 5; i++) uses.add({.agent = "a"});
    EXPECT_EQ(seen, (std::vector<uint64_t>{1, 2}));
    EXPECT_EQ(uses.last(5000).size(), Uses::kMost);
    EXPECT_EQ(uses.last(5000).front().sequence, 6u);
    ASSERT_EQ(uses.last(2).size(), 2u);
    EXPECT_EQ(uses.last(2).back().sequence, Uses::kMost + 5);
    EXPECT_TRUE(uses.last(0).empty());
}

// --- The program

class Program : public testing::Test {
protected:
    // also_allowed: this test's own uid may call anything.
    void start(bool also_allowed = true) {
        ASSERT_EQ(::chmod(folder.path.c_str(), 0755), 0);
        auto uid = cat(::getuid());
        pid = ::fork();
        if (pid == 0) {
            (void)::freopen(log.c_str(), "a", stderr);
            auto count = also_allowed ? 7 : 5;
            const char* arguments[] = {NULLBOX_WARDEN, "--socket",    socket.c_str(), "--vault",
                                       vault.c_str(),  "--allow-uid", uid.c_str(),    nullptr};
            arguments[count] = nullptr;
            ::execv(NULLBOX_WARDEN, const_cast<char**>(arguments));
            ::_exit(127);
        }
        for (int i = 0; i < 500 && !varlink::Client::connect(socket).has_value(); i++)
            std::this_thread::sleep_for(10ms);
    }
    int stop(int signal = SIGTERM) {
        int status = 0;
        if (pid <= 0 || ::kill(pid, signal) < 0 || ::waitpid(pid, &status, 0) != pid) return -1;
        pid = -1;
        return status;
    }
    void TearDown() override {
        if (pid > 0) stop(SIGKILL);
    }
    // Each on a connection of its own, as gate, egress and cage do it.
    Result<json::object> call(std::string_view method, json::object parameters = {}) {
        auto client = TRY(varlink::Client::connect(socket));
        return client.call(cat("io.nullbox.warden.", method), parameters, kLong);
    }
    json::object right(std::string_view method, json::object parameters = {}) {
        auto answer = call(method, std::move(parameters));
        EXPECT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
        return answer ? *answer : json::object();
    }
    void wrong(std::string_view name, std::string_view method, json::object parameters = {}) {
        auto answer = call(method, std::move(parameters));
        ASSERT_FALSE(answer.has_value()) << method << ": " << json::serialize(*answer);
        EXPECT_TRUE(answer.error().message.contains(cat(".", name, ": "))) << answer.error().message;
    }
    std::string state() { return std::string(right("State").at("state").as_string()); }
    // With DEMO_KEY for a header, and PLAIN exposed, both for the agent a.
    void make_vault() {
        right("Init", {{"passphrase", kPassphrase}});
        right("Set", {{"name", "DEMO_KEY"}, {"value_base64", base64("sk-demo-1")}});
        right("Set", {{"name", "PLAIN"}, {"value_base64", base64("plain\nvalue")}});
        right("Grant", {{"secret", "DEMO_KEY"},
                        {"agent", "a"},
                        {"host", "api.example.org"},
                        {"header", "Authorization"},
                        {"format", "Bearer {secret}"}});
        right("Grant", {{"secret", "PLAIN"}, {"agent", "a"}, {"exposed", true}});
    }

    Folder folder;
    std::string socket = folder.path + "/warden.sock", vault = folder.path + "/vault",
                log = folder.path + "/log";
    pid_t pid = -1;
};

TEST_F(Program, ALife) {
    start();
    EXPECT_EQ(state(), "absent");
    for (std::string_view method : {"List", "Grants"}) wrong("NoVault", method);
    wrong("NoVault", "Unlock", {{"passphrase", kPassphrase}});
    wrong("NoVault", "Injection", {{"agent", "a"}, {"host", "api.example.org"}});
    make_vault();
    EXPECT_EQ(state(), "unlocked");
    wrong("AlreadyThere", "Init", {{"passphrase", kPassphrase}});

    auto items = right("Injection", {{"agent", "a"}, {"host", "api.example.org"}}).at("items").as_array();
    ASSERT_EQ(items.size(), 1u);
    EXPECT_EQ(items[0].at("header").as_string(), "Authorization");
    EXPECT_EQ(items[0].at("secret").as_string(), "DEMO_KEY");
    EXPECT_EQ(items[0].at("value_base64").as_string(), base64("Bearer sk-demo-1"));
    EXPECT_EQ(right("Exposed", {{"agent", "a"}, {"secret", "PLAIN"}}).at("value_base64").as_string(),
              base64("plain\nvalue"));
    wrong("NotGranted", "Injection", {{"agent", "b"}, {"host", "api.example.org"}});
    wrong("NotGranted", "Exposed", {{"agent", "a"}, {"secret", "DEMO_KEY"}});
    wrong("NoSuchSecret", "Exposed", {{"agent", "a"}, {"secret", "OTHER"}});

    auto secrets = right("List").at("secrets").as_array();
    ASSERT_EQ(secrets.size(), 2u);
    EXPECT_EQ(secrets[0].at("name").as_string(), "DEMO_KEY");
    EXPECT_EQ(json::serialize(secrets[0].at("granted")), "[\"a\"]");
    EXPECT_EQ(right("Grants").at("grants").as_array().size(), 2u);
    EXPECT_EQ(right("Grants", {{"agent", "b"}}).at("grants").as_array().size(), 0u);

    right("Lock");
    EXPECT_EQ(state(), "locked");
    for (std::string_view method : {"List", "Grants"}) wrong("Locked", method);
    wrong("Locked", "Injection", {{"agent", "a"}, {"host", "api.example.org"}});
    wrong("Locked", "Exposed", {{"agent", "a"}, {"secret", "PLAIN"}});
    wrong("Locked", "Set", {{"name", "X"}, {"value_base64", base64("x")}});
    wrong("WrongPassphrase", "Unlock", {{"passphrase", "correct horse batterz"}});
    EXPECT_EQ(state(), "locked");
    right("Unlock", {{"passphrase", kPassphrase}});
    EXPECT_EQ(state(), "unlocked");

    wrong("WrongPassphrase", "ChangePassphrase", {{"old_passphrase", "x"}, {"passphrase", "another one"}});
    right("ChangePassphrase", {{"old_passphrase", kPassphrase}, {"passphrase", "another one"}});
    right("Revoke", {{"secret", "PLAIN"}, {"agent", "a"}});
    right("Delete", {{"name", "DEMO_KEY"}});
    // A new process begins locked.
    EXPECT_EQ(stop(), 0);
    start();
    EXPECT_EQ(state(), "locked");
    EXPECT_EQ(right("State").at("vault").at("secrets").as_int64(), 1);
    wrong("WrongPassphrase", "Unlock", {{"passphrase", kPassphrase}});
    right("Unlock", {{"passphrase", "another one"}});
    wrong("NotGranted", "Exposed", {{"agent", "a"}, {"secret", "PLAIN"}});
    EXPECT_EQ(right("List").at("secrets").as_array().size(), 1u);
    EXPECT_EQ(stop(), 0);
    // Names are in the log, values and passphrases are not.
    auto said = *read_file(log);
    EXPECT_TRUE(said.contains("secret DEMO_KEY granted to a for Authorization of api.example.org")) << said;
    for (std::string_view text : {"sk-demo", "plain", "horse", "another one"})
        EXPECT_FALSE(said.contains(text)) << said;
}

TEST_F(Program, OpensTheGoldenVaults) {
    for (auto hex : {kGoldenPbkdf2, kGoldenArgon2id}) {
        write_plain(vault, from_hex(hex));
        start();
        right("Unlock", {{"passphrase", kPassphrase}});
        EXPECT_EQ(right("Exposed", {{"agent", "analyst"}, {"secret", "license.key"}})
                      .at("value_base64")
                      .as_string(),
                  base64("line one\nline two\n"));
        EXPECT_EQ(stop(), 0);
    }
}

TEST_F(Program, WrongRequestsAreToldApart) {
    start();
    struct {
        std::string_view method;
        json::object parameters;
    } cases[] = {
        {"Init", {}},
        {"Init", {{"passphrase", "short"}}},
        {"Init", {{"passphrase", "two\nlines of it"}}},
        {"Init", {{"passphrase", 5}}},
        {"Init", {{"passphrase", std::string(1025, 'x')}}},
        {"Init", {{"passphrase", kPassphrase}, {"kdf", "md5"}}},
        {"Unlock", {{"passphrase", ""}}},
        {"Unlock", {{"passphrase", "x"}, {"extra", 1}}},
        {"Set", {{"name", "A B"}, {"value_base64", base64("x")}}},
        {"Set", {{"name", "A"}, {"value_base64", "not base64!"}}},
        {"Set", {{"name", "A"}, {"value_base64", ""}}},
        {"Set", {{"name", "A"}, {"value_base64", base64(std::string(65'539, 'x'))}}},
        {"Grant", {{"secret", "A"}, {"agent", "a"}}},
        {"Grant", {{"secret", "A"}, {"agent", "a"}, {"host", "h.example.org"}}},
        {"Grant", {{"secret", "A"}, {"agent", "a"}, {"exposed", true}, {"host", "h.example.org"}}},
        {"Injection", {{"agent", "a"}}},
        {"Injection", {{"agent", "a"}, {"host", "a\r\nb"}}},
        {"Uses", {{"lines", -1}}},
        {"Uses", {{"follow", true}}},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(json::serialize(one.parameters).substr(0, 100));
        wrong("InvalidParameter", one.method, one.parameters);
    }
    make_vault();
    wrong("BadValue", "Grant",
          {{"secret", "DEMO_KEY"}, {"agent", "a"}, {"host", "*.example.org"}, {"header", "A"}});
    wrong("BadValue", "Grant",
          {{"secret", "DEMO_KEY"}, {"agent", "a"}, {"host", "h.example.org"}, {"header", "Host"}});
    wrong("BadValue", "Grant",
          {{"secret", "PLAIN"}, {"agent", "a"}, {"host", "h.example.org"}, {"header", "A"}});
    wrong("BadValue", "Set", {{"name", "DEMO_KEY"}, {"value_base64", base64("a\nb")}});
    wrong("NoSuchSecret", "Grant", {{"secret", "X"}, {"agent", "a"}, {"exposed", true}});
}

TEST_F(Program, GuessingIsSlowedAndOthersAreServedMeanwhile) {
    start();
    make_vault();
    right("Lock");
    for (int i = 0; i < 4; i++) wrong("WrongPassphrase", "Unlock", {{"passphrase", cat("guess", i)}});
    auto vault_state = right("State").at("vault").as_object();
    EXPECT_GT(vault_state.at("wait_ms").as_int64(), 0);
    EXPECT_LE(vault_state.at("wait_ms").as_int64(), 1000);
    wrong("TooSoon", "Unlock", {{"passphrase", kPassphrase}});
    std::this_thread::sleep_for(1s);
    std::thread unlocking([this] { right("Unlock", {{"passphrase", kPassphrase}}); });
    bool trying = false;
    for (int i = 0; i < 1000 && !trying && state() == "locked"; i++)
        trying = right("State").at("vault").at("trying").as_bool();
    EXPECT_TRUE(trying) << "the service answers while a key is being derived";
    if (trying) wrong("Busy", "Unlock", {{"passphrase", kPassphrase}});
    unlocking.join();
    EXPECT_EQ(state(), "unlocked");
}

TEST_F(Program, WatchersSeeEachChange) {
    start();
    std::vector<std::string> seen;
    std::thread watcher([&] {
        auto client = varlink::Client::connect(socket);
        ASSERT_TRUE(client.has_value());
        (void)client->call_more("io.nullbox.warden.Watch", {}, [&](const json::object& answer) {
            seen.emplace_back(answer.at("state").as_string());
            return seen.size() < 4;
        });
    });
    for (int i = 0; i < 100 && seen.empty(); i++) std::this_thread::sleep_for(10ms);
    make_vault();
    right("Lock");
    right("Lock");
    right("Unlock", {{"passphrase", kPassphrase}});
    watcher.join();
    EXPECT_EQ(seen, (std::vector<std::string>{"absent", "unlocked", "locked", "unlocked"}));
    EXPECT_EQ(right("Watch").at("state").as_string(), "unlocked");
}

TEST_F(Program, EachUseIsRecorded) {
    start();
    make_vault();
    std::vector<std::string> seen;
    std::thread follower([&] {
        auto client = varlink::Client::connect(socket);
        ASSERT_TRUE(client.has_value());
        (void)client->call_more(
            "io.nullbox.warden.Uses", {{"follow", true}}, [&](const json::object& answer) {
                for (const auto& use : answer.at("uses").as_array())
                    seen.push_back(cat(json::serialize(use.at("agent")), json::serialize(use.at("secret")),
                                       json::serialize(use.at("host")), json::serialize(use.at("given"))));
                return seen.size() < 4;
            });
    });
    right("Injection", {{"agent", "a"}, {"host", "api.example.org"}});
    wrong("NotGranted", "Injection", {{"agent", "b"}, {"host", "api.example.org"}});
    right("Exposed", {{"agent", "a"}, {"secret", "PLAIN"}});
    wrong("NotGranted", "Exposed", {{"agent", "b"}, {"secret", "PLAIN"}});
    follower.join();
    EXPECT_EQ(seen, (std::vector<std::string>{"\"a\"\"DEMO_KEY\"\"api.example.org\"true",
                                              "\"b\"null\"api.example.org\"false", "\"a\"\"PLAIN\"nulltrue",
                                              "\"b\"\"PLAIN\"nullfalse"}));
    auto uses = right("Uses", {{"lines", 1}}).at("uses").as_array();
    ASSERT_EQ(uses.size(), 1u);
    EXPECT_EQ(uses[0].at("sequence").as_int64(), 4);
    EXPECT_GT(uses[0].at("time_ms").as_int64(), 1'600'000'000'000);
}

TEST_F(Program, EndsWhileAKeyIsBeingDerived) {
    start();
    std::thread asking([this] { (void)call("Init", {{"passphrase", kPassphrase}}); });
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(stop(), 0);
    asking.join();
}

TEST_F(Program, ADamagedVaultIsShownAndLeftAlone) {
    write_plain(vault, from_hex("4e42585641554c5400"));
    start();
    EXPECT_EQ(state(), "damaged");
    EXPECT_TRUE(
        std::string_view(right("State").at("vault").at("problem").as_string()).contains("is damaged"));
    wrong("Damaged", "Init", {{"passphrase", kPassphrase}});
    wrong("Damaged", "Unlock", {{"passphrase", kPassphrase}});
    wrong("Damaged", "List");
    EXPECT_EQ(read_file(vault)->size(), 9u);
}

// --- Who may call what

// What each uid is told when it calls each method with nothing: "PermissionDenied", or something else.
static std::set<std::string> refused_to(uid_t uid, const std::string& socket,
                                        const std::vector<std::string>& methods) {
    auto pipe = *make_pipe();
    pid_t child = ::fork();
    if (child == 0) {
        if (::setresgid(uid, uid, uid) < 0 || ::setresuid(uid, uid, uid) < 0) ::_exit(1);
        std::string refused;
        for (const auto& method : methods) {
            auto client = varlink::Client::connect(socket);
            if (!client) ::_exit(2);
            auto answer = client->call(cat("io.nullbox.warden.", method), {{"nonsense", 1}});
            if (answer) ::_exit(3);
            if (answer.error().message.contains("PermissionDenied")) refused += method + " ";
        }
        (void)!::write(pipe.write.get(), refused.data(), refused.size());
        ::_exit(0);
    }
    pipe.write.reset();
    auto text = read_fd(pipe.read.get(), 4096);
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    std::set<std::string> refused;
    for (auto name : split(*text, ' '))
        if (!name.empty()) refused.emplace(name);
    return refused;
}

TEST_F(Program, EachMethodIsForWhomItIsFor) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become each of the callers";
    start(false);
    const std::vector<std::string> operators = {"Init",   "Unlock", "Lock",   "ChangePassphrase",
                                                "Set",    "List",   "Delete", "Grant",
                                                "Revoke", "Grants", "Uses"};
    std::vector<std::string> all = operators;
    for (const char* other : {"State", "Watch", "Injection", "Exposed"}) all.emplace_back(other);
    std::set<std::string> everything(all.begin(), all.end()),
        of_operators(operators.begin(), operators.end());
    auto without = [&](std::initializer_list<const char*> names) {
        auto rest = everything;
        for (const char* name : names) rest.erase(name);
        return rest;
    };
    EXPECT_EQ(refused_to(105, socket, all), (std::set<std::string>{"Injection", "Exposed"})) << "gate";
    EXPECT_EQ(refused_to(101, socket, all), without({"Injection"})) << "egress";
    EXPECT_EQ(refused_to(103, socket, all), without({"State", "Watch", "Exposed"})) << "cage";
    for (uid_t uid : {0u, 102u, 104u, 110u, 1000u, 200000u})
        EXPECT_EQ(refused_to(uid, socket, all), everything) << uid;
}

// --- Its memory

TEST_F(Program, SecretsAreNotInItsMemoryWhenNobodyUsesThem) {
#if __has_feature(address_sanitizer)
    GTEST_SKIP() << "it keeps what functions left on the stack, in a place of its own";
#endif
    start();
    // Made at run time and kept inverted, so that this test's own memory plays no part: it is another
    // process.
    std::string value = "sk-memory-" + std::string("0123456789abcdefghijklmnop");
    std::string passphrase = "a passphrase for the memory test";
    right("Init", {{"passphrase", passphrase}});
    right("Set", {{"name", "MEMORY_KEY"}, {"value_base64", base64(value)}});
    right("Grant",
          {{"secret", "MEMORY_KEY"}, {"agent", "a"}, {"host", "api.example.org"}, {"header", "X-Key"}});
    right("Grant", {{"secret", "MEMORY_KEY"}, {"agent", "a"}, {"exposed", true}});
    auto process = cat(pid);
    auto control = find_in_memory(process, Needle("MEMORY_KEY"));
    if (!control) GTEST_SKIP() << "/proc/PID/mem cannot be read here";
    EXPECT_NE(*control, "") << "the search must be able to find what is there";
    auto expect_nothing = [&](std::string_view when) {
        std::this_thread::sleep_for(50ms); // the connection's end, and what it leaves
        EXPECT_EQ(find_in_memory(process, Needle(value)), "") << when;
        EXPECT_EQ(find_in_memory(process, Needle(base64(value))), "") << when;
        EXPECT_EQ(find_in_memory(process, Needle(passphrase)), "") << when;
    };
    expect_nothing("after it was set");
    right("Injection", {{"agent", "a"}, {"host", "api.example.org"}});
    expect_nothing("after it was injected");
    right("Exposed", {{"agent", "a"}, {"secret", "MEMORY_KEY"}});
    expect_nothing("after it was exposed");
    right("Lock");
    expect_nothing("after lock");
    wrong("WrongPassphrase", "Unlock", {{"passphrase", passphrase + "x"}});
    right("Unlock", {{"passphrase", passphrase}});
    expect_nothing("after unlock");
    right("ChangePassphrase", {{"old_passphrase", passphrase}, {"passphrase", passphrase + " two"}});
    expect_nothing("after a new passphrase");
}

TEST_F(Program, LeavesNoCore) {
    start();
    auto limits = *read_file(cat("/proc/", pid, "/limits"));
    auto line = limits.substr(limits.find("Max core file size"));
    EXPECT_TRUE(line.starts_with("Max core file size        0                    0 ")) << line.substr(0, 80);
}

} // namespace nullbox::warden
