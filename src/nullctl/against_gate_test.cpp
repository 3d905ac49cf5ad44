// The program nullctl against the program gate, over TLS, with services that are real Varlink servers here.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "net/identity.h"
#include "nullctl/exit_status.h"
#include "nullctl/settings.h"
#include "varlink/client.h"
#include "varlink/server.h"

namespace nullbox::nullctl {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using varlink::Call;

struct Ran {
    int status = -1;
    std::string out, err;
};

class AgainstGate : public testing::Test {
protected:
    void SetUp() override {
        char folder[] = "/tmp/nullbox-nullctl-XXXXXX";
        ASSERT_NE(::mkdtemp(folder), nullptr);
        folder_ = folder;
        for (auto name : {"gate", "nulld", "cage", "warden", "egress", "ctxgraph", "config"})
            ASSERT_TRUE(make_directories(cat(folder_, "/", name)));
        auto settings = *Settings::load(config());
        key_ = settings.key_or_new()->public_key();
        write_operator("admin");
        services_ = std::thread([this] { serve(); });
        while (!serving_) std::this_thread::sleep_for(1ms);
        start_gate();
        ASSERT_TRUE(
            settings.put({.name = "box1", .host = "127.0.0.1", .port = port_, .fingerprint = fingerprint_}));
    }
    void TearDown() override {
        if (gate_ > 0) {
            ::kill(gate_, SIGTERM);
            int status = 0;
            ::waitpid(gate_, &status, 0);
            EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "gate ended with " << status;
        }
        stopping_ = true;
        if (services_.joinable()) services_.join();
        std::filesystem::remove_all(folder_);
    }
    std::string config() const { return folder_ + "/config"; }
    void write_operator(std::string_view role) {
        ASSERT_TRUE(write_file_atomic(
            folder_ + "/machine.toml",
            cat("[operators.alice]\npublic_key = \"", net::base64(key_), "\"\nrole = \"", role, "\"\n"),
            0644));
    }
    static pid_t spawn(std::vector<std::string> words, const posix_spawn_file_actions_t* actions) {
        std::vector<char*> arguments;
        for (auto& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        pid_t child = -1;
        EXPECT_EQ(::posix_spawn(&child, words[0].c_str(), actions, nullptr, arguments.data(), environ), 0)
            << words[0];
        return child;
    }
    void start_gate() {
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (folder_ + "/gate.log").c_str(),
                                           O_WRONLY | O_CREAT | O_APPEND, 0600);
        gate_ = spawn({NULLBOX_GATE, "--run", folder_, "--machine", folder_ + "/machine.toml", "--key",
                       folder_ + "/gate/key.pem", "--port", "0", "--allow-uid", std::to_string(::getuid())},
                      &actions);
        ::posix_spawn_file_actions_destroy(&actions);
        for (int i = 0; i < 1000; i++) {
            std::this_thread::sleep_for(10ms);
            auto client = varlink::Client::connect(folder_ + "/gate/gate.sock");
            if (!client.has_value()) continue;
            auto status = client->call("io.nullbox.gate.Status", {});
            if (!status.has_value()) continue;
            port_ = static_cast<uint16_t>(status->at("port").as_int64());
            fingerprint_ = status->at("fingerprint").as_string();
            return;
        }
        FAIL() << "gate does not come up: " << read_file(folder_ + "/gate.log").value_or("");
    }
    // As a person's shell runs it, but that nothing is a terminal.
    Ran nullctl(const std::vector<std::string>& arguments, std::string_view input = {}) {
        EXPECT_TRUE(write_file_atomic(folder_ + "/in", input, 0600));
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, 0, (folder_ + "/in").c_str(), O_RDONLY, 0);
        ::posix_spawn_file_actions_addopen(&actions, 1, (folder_ + "/out").c_str(),
                                           O_WRONLY | O_CREAT | O_TRUNC, 0600);
        ::posix_spawn_file_actions_addopen(&actions, 2, (folder_ + "/err").c_str(),
                                           O_WRONLY | O_CREAT | O_TRUNC, 0600);
        ::setenv("NULLCTL_CONFIG", config().c_str(), 1);
        ::unsetenv("NULLBOX_BOX");
        std::vector<std::string> words{NULLBOX_NULLCTL};
        words.insert(words.end(), arguments.begin(), arguments.end());
        pid_t child = spawn(std::move(words), &actions);
        ::posix_spawn_file_actions_destroy(&actions);
        int status = 0;
        ::waitpid(child, &status, 0);
        return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, *read_file(folder_ + "/out"),
                *read_file(folder_ + "/err")};
    }
    static std::string text(const Call& call, const char* name) {
        return std::string(call.parameters().at(name).as_string());
    }
    std::unique_ptr<varlink::Server> service(Loop& loop, const std::string& name,
                                             std::vector<varlink::Method> methods) {
        return *varlink::Server::listen(loop, cat(folder_, "/", name, "/", name, ".sock"),
                                        {.product = "test", .version = "1"},
                                        {.name = "io.nullbox." + name,
                                         .description = cat("interface io.nullbox.", name, "\n"),
                                         .methods = std::move(methods)});
    }
    void serve() {
        auto loop = *Loop::make();
        auto nulld =
            service(*loop, "nulld",
                    {{.name = "Status", .handle = [](Call call) { call.reply(*status_of_machine()); }}});
        auto cage = service(*loop, "cage", cage_methods());
        auto warden = service(*loop, "warden", warden_methods());
        auto egress = service(
            *loop, "egress",
            {{.name = "Denials", .handle = [](Call call) {
                  call.reply({{"records", json::array{json::object{{"time_ms", 0},
                                                                   {"agent", "researcher"},
                                                                   {"kind", "lookup"},
                                                                   {"verdict", "denied"},
                                                                   {"name", "evil.example"},
                                                                   {"port", 443},
                                                                   {"reason", "not on its list"},
                                                                   {"add", "allow = [\"evil.example\"]"},
                                                                   {"count", 3}}}}});
              }}});
        auto ctxgraph = service(*loop, "ctxgraph", ctxgraph_methods());
        serving_ = true;
        while (!stopping_) (void)loop->run_once(10ms);
    }
    static std::optional<json::object> status_of_machine() {
        return json::object{{"version", "0.1.0"},
                            {"hostname", "box1"},
                            {"kernel", "6.12"},
                            {"uptime_ms", 65'000},
                            {"addresses", json::array{"192.0.2.7/24"}},
                            {"data", json::object{{"device", nullptr}}},
                            {"problems", json::array{"a problem"}},
                            {"services", json::array{json::object{{"name", "cage"},
                                                                  {"state", "running"},
                                                                  {"restarts", 2},
                                                                  {"memory_bytes", 2'000'000},
                                                                  {"status", "agents: none"}}}}};
    }
    std::vector<varlink::Method> cage_methods() {
        return {
            {.name = "List",
             .handle =
                 [](Call call) {
                     call.reply(
                         {{"agents", json::array{json::object{{"name", "researcher"},
                                                              {"state", "running"},
                                                              {"describe", "runs \x1b[2J\xc2\x9b since noon"},
                                                              {"image", "python"},
                                                              {"version", "1"}}}}});
                 }},
            {.name = "Start",
             .handle =
                 [this](Call call) {
                     calls_ += cat("Start ", text(call, "name"), "\n");
                     if (text(call, "name") == "nobody")
                         return call.error("io.nullbox.cage.NoSuchAgent", "no agent \"nobody\"");
                     call.reply({{"state", "running"}, {"describe", "running"}});
                 }},
            {.name = "Status",
             .handle =
                 [](Call call) {
                     call.reply({{"agent", json::object{{"name", text(call, "name")},
                                                        {"state", "stopped"},
                                                        {"describe", "running for 1 s"}}}});
                 }},
            {.name = "Reload", .handle = [this](Call call) { calls_ += "Reload\n", call.reply({}); }},
            {.name = "Logs",
             .handle =
                 [](Call call) {
                     auto line = [](int n, const char* stream, std::string said) {
                         return json::object{{"lines", json::array{json::object{{"sequence", n},
                                                                                {"time_ms", 0},
                                                                                {"stream", stream},
                                                                                {"partial", false},
                                                                                {"text", said}}}}};
                     };
                     call.reply_continues(line(1, "stdout", "first"));
                     call.reply(line(2, "stderr", "\x1b]0;title\a"));
                 }},
            {.name = "ListImages",
             .handle =
                 [](Call call) {
                     call.reply(
                         {{"images", json::array{json::object{{"name", "python"},
                                                              {"bytes", 2'000'000},
                                                              {"fixed", false},
                                                              {"used_by", {"researcher", "analyst"}}}}}});
                 }},
            {.name = "RemoveImage",
             .handle =
                 [](Call call) {
                     if (text(call, "name") == "idle") return call.reply({});
                     call.error("io.nullbox.cage.CannotRemove", "image python is in use by researcher");
                 }},
            {.name = "BeginUpload",
             .handle =
                 [this](Call call) {
                     auto name = cat(text(call, "kind"), "/", text(call, "name"));
                     calls_ += cat("Upload ", name, "\n");
                     auto path = cat(folder_, "/upload-", uploads_++);
                     paths_[name] = path;
                     std::vector<Fd> fds;
                     fds.emplace_back(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
                     call.reply(json::object{{"upload", uploads_}}, std::move(fds));
                 }},
            {.name = "CommitUpload", .handle = [](Call call) { call.reply({}); }},
            {.name = "AbortUpload", .handle = [](Call call) { call.reply({}); }}};
    }
    std::vector<varlink::Method> warden_methods() {
        auto locked = [](Call& call) { call.error("io.nullbox.warden.Locked", "the vault is locked"); };
        return {{.name = "State", .handle = [this](Call call) { call.reply({{"state", state_}}); }},
                {.name = "Unlock",
                 .handle =
                     [this](Call call) {
                         if (text(call, "passphrase") != "correct horse")
                             return call.error("io.nullbox.warden.WrongPassphrase",
                                               "that is not the passphrase");
                         state_ = "unlocked";
                         call.reply({});
                     }},
                {.name = "Set",
                 .handle =
                     [this, locked](Call call) {
                         if (state_ != "unlocked") return locked(call);
                         secrets_[text(call, "name")] = text(call, "value_base64");
                         call.reply({{"version", 1}});
                     }},
                {.name = "List",
                 .handle =
                     [this](Call call) {
                         json::array list;
                         for (const auto& [name, value] : secrets_)
                             list.push_back(json::object{{"name", name}, {"version", 1}});
                         call.reply({{"secrets", std::move(list)}});
                     }},
                {.name = "Grants", .handle = [this](Call call) { call.reply({{"grants", grants_}}); }},
                {.name = "Grant",
                 .handle =
                     [this](Call call) {
                         calls_ += cat("Grant ", text(call, "secret"), "\n");
                         grants_.push_back(call.parameters());
                         call.reply({});
                     }},
                {.name = "Revoke", .handle = [this](Call call) {
                     calls_ += cat("Revoke ", text(call, "secret"), "\n");
                     for (size_t i = grants_.size(); i-- > 0;)
                         if (grants_[i].at("secret").as_string() == text(call, "secret"))
                             grants_.erase(grants_.begin() + static_cast<ptrdiff_t>(i));
                     call.reply({});
                 }}};
    }

    std::vector<varlink::Method> ctxgraph_methods() {
        auto entry = [](const Call& call) {
            return json::object{
                {"id", "abc"},     {"namespace", text(call, "namespace")}, {"key", "k"},
                {"kind", "value"}, {"value", json::object{{"n", 1}}},      {"author", "agent:researcher"},
                {"time_ms", 0}};
        };
        return {{.name = "Put",
                 .handle =
                     [this](Call call) {
                         put_ = call.parameters();
                         call.reply({{"id", "abc"}, {"created", true}, {"position", 1}});
                     }},
                {.name = "Get",
                 .handle =
                     [entry](Call call) { call.reply({{"entry", entry(call)}, {"links", json::array()}}); }},
                {.name = "Watch", .handle = [entry](Call call) {
                     call.reply_continues({{"entries", json::array{entry(call)}}, {"position", 1}});
                     call.reply({{"entries", json::array{entry(call)}}, {"position", 2}});
                 }}};
    }

    json::object put_;
    std::string folder_, key_, fingerprint_, state_ = "locked", calls_;
    std::map<std::string, std::string> secrets_, paths_;
    json::array grants_;
    int uploads_ = 0;
    uint16_t port_ = 0;
    pid_t gate_ = -1;
    std::thread services_;
    std::atomic<bool> serving_ = false, stopping_ = false;
};

TEST_F(AgainstGate, TablesAndJson) {
    auto people = nullctl({"agent", "list"});
    EXPECT_EQ(people.status, 0) << people.err;
    EXPECT_EQ(people.out, "NAME        STATE    SAYS                         IMAGE   VERSION\n"
                          "researcher  running  runs \\x1b[2J\\x9b since noon  python  1\n");
    auto programs = nullctl({"--json", "agent", "list"});
    EXPECT_EQ(
        programs.out,
        "{\"agents\":[{\"name\":\"researcher\",\"state\":\"running\","
        "\"describe\":\"runs \\u001b[2J\xc2\x9b since noon\",\"image\":\"python\",\"version\":\"1\"}]}\n");
    auto status = nullctl({"status"});
    EXPECT_EQ(status.status, 0) << status.err;
    for (std::string_view part :
         {"box1: NullBox 0.1.0, Linux 6.12, up 1 min 5 s\n", "addresses: 192.0.2.7/24\n",
          "nothing is kept over a reboot\n", "problem: a problem\n",
          "cage     running  2.0 MB  2         agents: none\n", "vault: locked\n", "researcher  running"})
        EXPECT_TRUE(status.out.contains(part)) << part << " is not in\n" << status.out;
    auto logs = nullctl({"agent", "logs", "researcher"});
    EXPECT_TRUE(logs.out.contains(" stdout first\n")) << logs.out;
    EXPECT_TRUE(logs.out.contains(" stderr \\x1b]0;title\\x07\n")) << logs.out;
    auto lines = nullctl({"agent", "logs", "researcher", "--json"});
    EXPECT_EQ(std::ranges::count(lines.out, '\n'), 2);
    auto denials = nullctl({"egress", "denials"});
    auto document = nullctl({"egress", "denials", "--json"});
    EXPECT_TRUE(document.out.starts_with("{\"records\":[{") && document.out.ends_with("}]}\n"))
        << document.out;
    EXPECT_TRUE(denials.out.contains("researcher lookup denied evil.example 3 times: not on its list\n"
                                     "    to allow it: allow = [\"evil.example\"]\n"))
        << denials.out;
}

TEST_F(AgainstGate, HowItEndsMeansSomething) {
    EXPECT_EQ(nullctl({"agent", "start", "researcher"}).status, 0);
    auto refused = nullctl({"agent", "start", "nobody"});
    EXPECT_EQ(refused.status, 1);
    EXPECT_EQ(refused.err, "nullctl: no agent \"nobody\" (io.nullbox.cage.NoSuchAgent)\n");
    EXPECT_EQ(nullctl({"agent", "begin"}).status, 2);
    EXPECT_EQ(nullctl({"--box", "other", "status"}).status, 2);
    std::filesystem::remove(folder_ + "/ctxgraph/ctxgraph.sock");
    auto down = nullctl({"memory", "namespaces"});
    EXPECT_EQ(down.status, 1);
    EXPECT_TRUE(down.err.contains("nullctl status shows which service is down")) << down.err;
    // A reader may look, and no more.
    write_operator("reader");
    std::this_thread::sleep_for(1500ms); // gate looks once a second
    EXPECT_EQ(nullctl({"agent", "list"}).status, 0);
    auto reader = nullctl({"agent", "start", "researcher"});
    EXPECT_EQ(reader.status, 1);
    EXPECT_TRUE(reader.err.contains("needs the role operator; alice is reader")) << reader.err;
    // Struck off.
    ASSERT_TRUE(write_file_atomic(folder_ + "/machine.toml", "", 0644));
    std::this_thread::sleep_for(1500ms);
    auto out = nullctl({"agent", "list"});
    EXPECT_EQ(out.status, 4);
    EXPECT_TRUE(out.err.contains("does not let this key in")) << out.err;
}

TEST_F(AgainstGate, AnotherBoxIsNotTrusted) {
    auto settings = *Settings::load(config());
    auto wrong = cat("sha256:", std::string(64, '0'));
    ASSERT_TRUE(settings.put({.name = "box1", .host = "127.0.0.1", .port = port_, .fingerprint = wrong}));
    auto other = nullctl({"status"});
    EXPECT_EQ(other.status, 4);
    EXPECT_TRUE(other.err.contains(cat("it shows ", fingerprint_, ", known is ", wrong))) << other.err;
    // Nobody is there to compare; the fingerprint is shown and nothing is kept.
    auto address = cat("127.0.0.1:", port_);
    auto added = nullctl({"box", "add", "new", address});
    EXPECT_EQ(added.status, 4);
    EXPECT_TRUE(added.err.contains(fingerprint_)) << added.err;
    EXPECT_EQ(nullctl({"--box", "new", "agent", "list"}).status, 2);
    EXPECT_EQ(nullctl({"box", "add", "new", address, "--fingerprint", fingerprint_}).status, 0);
    EXPECT_EQ(nullctl({"--box", "new", "agent", "list"}).status, 0);
    // Nobody listens there.
    ASSERT_TRUE(settings.put({.name = "gone", .host = "127.0.0.1", .port = 1, .fingerprint = wrong}));
    auto gone = nullctl({"--box", "gone", "status"});
    EXPECT_EQ(gone.status, 3);
    EXPECT_TRUE(gone.err.contains("cannot reach gone (127.0.0.1 port 1)")) << gone.err;
}

TEST_F(AgainstGate, SecretsComeFromStandardInput) {
    auto locked = nullctl({"vault", "set", "KEY"}, "value\n");
    EXPECT_EQ(locked.status, 5);
    EXPECT_EQ(locked.err, "nullctl: the vault is locked. Open it: nullctl vault unlock\n");
    EXPECT_EQ(nullctl({"vault", "unlock"}, "wrong\n").status, 1);
    EXPECT_EQ(nullctl({"vault", "unlock"}, "").status, 1);
    EXPECT_EQ(nullctl({"vault", "unlock"}, "correct horse\n").status, 0);
    EXPECT_EQ(nullctl({"vault", "set", "KEY"}, "two\nlines\n").status, 0);
    EXPECT_EQ(*net::from_base64(secrets_["KEY"]), "two\nlines");
    auto list = nullctl({"vault", "list"});
    EXPECT_TRUE(list.out.contains("KEY")) << list.out;
    auto log = *read_file(folder_ + "/gate.log");
    EXPECT_TRUE(log.contains("alice: io.nullbox.warden/Set: 200")) << log;
    EXPECT_FALSE(log.contains("horse"));
    EXPECT_FALSE(log.contains(secrets_["KEY"]));
}

TEST_F(AgainstGate, MemoryIsWrittenAsTheOperator) {
    EXPECT_EQ(nullctl({"memory", "put", "research", "k", R"({"n":1})"}).out, "research/k is abc\n");
    EXPECT_EQ(put_,
              (json::object{
                  {"namespace", "research"}, {"key", "k"}, {"value", {{"n", 1}}}, {"operator", "alice"}}));
    EXPECT_EQ(
        nullctl({"memory", "put", "research", "k", "--stdin", "--text", "--if-head", ""}, "12\n").status, 0);
    EXPECT_EQ(put_.at("value"), "12");
    EXPECT_EQ(put_.at("if_head"), "");
    auto got = nullctl({"memory", "get", "research", "k"});
    EXPECT_EQ(got.out, "{\"n\":1}\n");
    EXPECT_TRUE(got.err.contains("agent:researcher")) << got.err;
    auto watched = nullctl({"memory", "watch", "research"});
    EXPECT_EQ(watched.status, 0);
    EXPECT_EQ(std::ranges::count(watched.out, '\n'), 2);
    EXPECT_TRUE(watched.out.contains("research/k by agent:researcher: {\"n\":1}")) << watched.out;
}

TEST_F(AgainstGate, DeploySaysWhatItMayDoAndDoesIt) {
    auto agent = folder_ + "/researcher";
    ASSERT_TRUE(make_directories(agent));
    ASSERT_TRUE(write_file_atomic(agent + "/main.py", "print()\n", 0644));
    std::string manifest =
        "[agent]\nname = \"researcher\"\nversion = \"1\"\nimage = \"python\"\ncommand = [\"/x\"]\n"
        "[capabilities.network]\nallow = [\"api.example.org\"]\n"
        "[capabilities.credentials.DEMO_KEY]\n"
        "inject = { host = \"api.example.org\", header = \"Authorization\", format = \"Bearer {secret}\" }\n";
    ASSERT_TRUE(write_file_atomic(agent + "/AGENT.toml", manifest, 0644));
    auto unasked = nullctl({"agent", "deploy", agent});
    EXPECT_EQ(unasked.status, 2);
    EXPECT_TRUE(
        unasked.out.contains("secrets   DEMO_KEY goes to api.example.org in the header Authorization"))
        << unasked.out;
    auto locked = nullctl({"agent", "deploy", agent, "--yes"});
    EXPECT_EQ(locked.status, 5);
    EXPECT_EQ(nullctl({"vault", "unlock"}, "correct horse\n").status, 0);
    auto missing = nullctl({"agent", "deploy", agent, "--yes"});
    EXPECT_EQ(missing.status, 1);
    EXPECT_TRUE(missing.err.contains("nullctl vault set DEMO_KEY")) << missing.err;
    EXPECT_EQ(calls_, ""); // nothing has happened yet
    EXPECT_EQ(nullctl({"vault", "set", "DEMO_KEY"}, "s3cret").status, 0);
    auto done = nullctl({"agent", "deploy", agent, "--yes"});
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_TRUE(
        done.out.ends_with("researcher: running for 1 s; its output: nullctl agent logs -f researcher\n"))
        << done.out;
    EXPECT_EQ(
        calls_,
        "Upload app/researcher\nGrant DEMO_KEY\nUpload manifest/researcher\nReload\nStart researcher\n");
    EXPECT_EQ(*read_file(paths_["manifest/researcher"]), manifest);
    EXPECT_TRUE(read_file(paths_["app/researcher"])->starts_with("hsqs"));
    ASSERT_EQ(grants_.size(), 1u);
    EXPECT_EQ(grants_[0].at("host"), "api.example.org");
    EXPECT_EQ(grants_[0].at("format"), "Bearer {secret}");
    // Again: the grant is right and stays. Without the credential: it is taken back.
    calls_.clear();
    EXPECT_EQ(nullctl({"agent", "deploy", agent, "--yes", "--no-start"}).status, 0);
    EXPECT_EQ(calls_, "Upload app/researcher\nUpload manifest/researcher\nReload\n");
    calls_.clear();
    ASSERT_TRUE(write_file_atomic(agent + "/AGENT.toml",
                                  manifest.substr(0, manifest.find("[capabilities.cred")), 0644));
    EXPECT_EQ(nullctl({"agent", "deploy", agent, "--yes", "--no-start"}).status, 0);
    EXPECT_TRUE(calls_.contains("Revoke DEMO_KEY\n")) << calls_;
    EXPECT_TRUE(grants_.empty());
    // Wrong in itself: said before anything is asked of the box.
    ASSERT_TRUE(write_file_atomic(agent + "/AGENT.toml", manifest + "colour = \"blue\"\n", 0644));
    calls_.clear();
    auto wrong = nullctl({"agent", "deploy", agent, "--yes"});
    EXPECT_EQ(wrong.status, 1);
    EXPECT_TRUE(wrong.err.contains("AGENT.toml:")) << wrong.err;
    EXPECT_EQ(calls_, "");
}

TEST_F(AgainstGate, ImagesGoToTheBoxWholeOrNotAtAll) {
    auto source = cat(folder_, "/My_Files");
    ASSERT_TRUE(make_directories(source));
    ASSERT_TRUE(write_file_atomic(source + "/run", "#!/x\n", 0755));
    EXPECT_EQ(nullctl({"image", "import", source, "Python"}).status, 2);
    auto done = nullctl({"image", "import", source});
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_TRUE(done.out.starts_with("took      a folder of files: 1 file, 0 folders, 5 B\n")) << done.out;
    EXPECT_TRUE(done.out.ends_with("image my-files is on the box.\n")) << done.out;
    EXPECT_TRUE(read_file(paths_["image/my-files"])->starts_with("hsqs"));
    auto image = cat(folder_, "/own.img");
    EXPECT_EQ(nullctl({"image", "import", source, "--output", image}).status, 0);
    EXPECT_EQ(*read_file(image), *read_file(paths_["image/my-files"]));
    EXPECT_EQ(nullctl({"image", "import", image, "--output", image}).status, 2); // it is one already
    EXPECT_EQ(nullctl({"image", "import", image, "--name", "as-it-is"}).status, 0);
    EXPECT_EQ(*read_file(paths_["image/as-it-is"]), *read_file(image));
    calls_.clear();
    auto wrong = nullctl({"image", "import", source + "/run", "--name", "python"});
    EXPECT_EQ(wrong.status, 1);
    EXPECT_TRUE(wrong.err.contains("it is no tar")) << wrong.err;
    EXPECT_EQ(nullctl({"image", "import", source + "/run", "--output", folder_ + "/none.img"}).status, 1);
    for (const auto* name : {"/none.img", "/none.img.partial"})
        EXPECT_FALSE(std::filesystem::exists(folder_ + name)) << name;
    EXPECT_EQ(nullctl({"image", "import", source, "--platform", "amd64"}).status, 1);
    EXPECT_EQ(calls_, ""); // nothing was begun on the box
    auto list = nullctl({"image", "list"});
    EXPECT_TRUE(list.out.contains("python") && list.out.contains("researcher, analyst")) << list.out;
    EXPECT_EQ(nullctl({"image", "remove", "idle"}).status, 0);
    auto refused = nullctl({"image", "remove", "python"});
    EXPECT_EQ(refused.status, 1);
    EXPECT_TRUE(refused.err.contains("in use by researcher")) << refused.err;
}

} // namespace
} // namespace nullbox::nullctl
