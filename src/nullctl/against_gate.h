// The program nullctl against the program gate, over TLS, with services that are real Varlink servers here,
// and one agent whose commands and copies a real agent-init does. For tests.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
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
#include "guest_link/exec_frames.h"
#include "net/identity.h"
#include "nullctl/exit_status.h"
#include "nullctl/settings.h"
#include "nullctl/test_guest.h"
#include "varlink/client.h"
#include "varlink/server.h"

namespace nullbox::nullctl {

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
            {{.name = "Denials",
              .handle =
                  [](Call call) {
                      call.reply({{"records", json::array{json::object{{"time_ms", 0},
                                                                       {"agent", "researcher"},
                                                                       {"kind", "lookup"},
                                                                       {"verdict", "denied"},
                                                                       {"name", "evil.example"},
                                                                       {"port", 443},
                                                                       {"reason", "not on its list"},
                                                                       {"add", "allow = [\"evil.example\"]"},
                                                                       {"count", 3}}}}});
                  }},
             {.name = "Status", .handle = [](Call call) {
                  call.reply({{"uplink", json::object{{"name", "eth0"}, {"state", "no cable"}}},
                              {"problems", json::array{"no DNS server answers"}}});
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
                                                              {"health", "healthy"},
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
                                                        {"describe", "running for 1 s"},
                                                        {"health", "failing (2 of 3): connection refused"},
                                                        {"uptime_ms", 192'000},
                                                        {"cpu_time_ms", 12'300},
                                                        {"max_cpu_percent", 150},
                                                        {"vcpus", 2},
                                                        {"vm_memory_bytes", 80'100'000},
                                                        {"max_memory_mb", 256},
                                                        {"restarts", 1},
                                                        {"reason", "health"},
                                                        {"last_end", "health: \x1b[2J"},
                                                        {"started_anew_because", nullptr}}}});
                 }},
            {.name = "Pause",
             .handle =
                 [this](Call call) {
                     calls_ += cat("Pause ", text(call, "name"), "\n");
                     call.reply({{"describe", "paused"}});
                 }},
            {.name = "Resume",
             .handle =
                 [](Call call) {
                     call.error("io.nullbox.cage.CannotResume", "agent researcher is running, not paused");
                 }},
            {.name = "Reload",
             .handle =
                 [this](Call call) {
                     calls_ += "Reload\n";
                     call.reply({{"updated", json::array(updated_.begin(), updated_.end())}});
                 }},
            {.name = "Logs",
             .handle =
                 [this](Call call) {
                     logs_asked_ = json::serialize(call.parameters());
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
            {.name = "AbortUpload", .handle = [](Call call) { call.reply({}); }},
            {.name = "Exec", .handle = [this](Call call) { run_in_agent(std::move(call), false); }},
            {.name = "Copy", .handle = [this](Call call) { run_in_agent(std::move(call), true); }}};
    }
    // What cage does: a stream to the guest, with the request on it first, and a lease.
    void run_in_agent(Call call, bool copy) {
        const auto& said = call.parameters();
        auto text_or = [&](const char* name) {
            return said.contains(name) ? text(call, name) : std::string();
        };
        auto flag = [&](const char* name) { return said.contains(name) && said.at(name).as_bool(); };
        auto number = [&](const char* name) {
            return static_cast<uint16_t>(said.contains(name) ? said.at(name).as_int64() : 0);
        };
        calls_ += cat(copy ? "Copy " : "Exec ", text(call, "name"), " by ", text(call, "operator"), "\n");
        if (text(call, "name") != "researcher")
            return call.error("io.nullbox.cage.NoSuchAgent", "no agent \"nobody\"");
        guest_link::CallerFrame request;
        if (copy) {
            bool in = text(call, "direction") == "in";
            request = guest_link::CopyRequest{.direction = in ? guest_link::Direction::IntoGuest
                                                              : guest_link::Direction::OutOfGuest,
                                              .path = text(call, "path"),
                                              .name = text_or("source_name"),
                                              .user = text_or("user")};
        } else {
            guest_link::ExecRequest exec{.user = text_or("user"),
                                         .working_directory = text_or("working_directory"),
                                         .terminal = flag("terminal"),
                                         .interactive = flag("interactive"),
                                         .rows = number("rows"),
                                         .columns = number("columns")};
            for (const auto& one : said.at("command").as_array()) exec.command.emplace_back(one.as_string());
            if (said.contains("environment"))
                for (const auto& one : said.at("environment").as_array())
                    exec.environment.emplace_back(one.as_string());
            request = exec;
        }
        auto pair = *make_socket_pair(SOCK_STREAM);
        auto lease = *make_pipe();
        EXPECT_TRUE(write_all(pair.first.get(), *guest_link::encode(request)));
        if (hostile_.empty())
            guest_.take(std::move(pair.second));
        else // a guest that says what it likes
            EXPECT_TRUE(write_all(pair.second.get(), hostile_));
        std::vector<Fd> fds;
        fds.push_back(std::move(pair.first));
        fds.push_back(std::move(lease.write));
        call.reply({}, std::move(fds));
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

    TestGuest guest_; // first: forked before there are threads
    std::string hostile_, logs_asked_;
    json::object put_;
    std::string folder_, key_, fingerprint_, state_ = "locked", calls_;
    std::vector<std::string> updated_; // agents whose network alone is another, at the next Reload
    std::map<std::string, std::string> secrets_, paths_;
    json::array grants_;
    int uploads_ = 0;
    uint16_t port_ = 0;
    pid_t gate_ = -1;
    std::thread services_;
    std::atomic<bool> serving_ = false, stopping_ = false;
};

} // namespace nullbox::nullctl
