#include "cage/interface.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "cage/end_reason.h"
#include "cage/io.nullbox.cage.varlink.h"
#include "cage/manifest_words.h"
#include "cage/sha256.h"
#include "varlink/description.h"
#include "varlink/pending.h"

namespace nullbox::cage {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using namespace std::chrono_literals;

class InterfaceTest : public testing::Test {
protected:
    void SetUp() override {
        char made[] = "/tmp/nullbox-cage-XXXXXX";
        ASSERT_NE(::mkdtemp(made), nullptr);
        root_ = made;
        for (const char* folder : {"/system", "/agents", "/images"}) fs::create_directories(root_ + folder);
        put("/system/fixed.toml", manifest("fixed"));
        put("/agents/own.toml", manifest("own"));
        HostSetup host{.image_folders = {root_ + "/images"}};
        host.uploads = {.image_folder = root_ + "/images",
                        .agent_folder = root_ + "/agents",
                        .fixed_image_folders = {},
                        .fixed_agent_folders = {root_ + "/system"}};
        cage_ = *Cage::make(*loop_, host, {root_ + "/system", root_ + "/agents"});
        cage_->read_agents();
        server_ = *serve_interface(*loop_, *cage_, root_ + "/cage.sock", {::getuid()});
    }
    void TearDown() override {
        server_.reset();
        cage_.reset();
        fs::remove_all(root_);
    }
    static std::string manifest(std::string_view name, std::string_view more = "") {
        return cat("[agent]\nname = \"", name, "\"\nversion = \"1\"\nimage = \"none\"\ncommand = [\"/x\"]\n",
                   more);
    }
    void put(const std::string& path, std::string_view text) { std::ofstream(root_ + path) << text; }
    varlink::Answer call(std::string method, json::object parameters) {
        std::optional<Result<varlink::Answer>> answer;
        auto pending =
            varlink::call_in_background(*loop_,
                                        {.socket_path = root_ + "/cage.sock",
                                         .method = "io.nullbox.cage." + method,
                                         .parameters = std::move(parameters),
                                         .refusals_as_answers = true},
                                        [&](Result<varlink::Answer> got) { answer = std::move(got); });
        for (int i = 0; i < 1000 && !answer; i++) EXPECT_TRUE(loop_->run_once(5ms));
        if (!answer || !*answer) {
            ADD_FAILURE() << method << ": " << (answer ? answer->error().message : "no answer");
            return {};
        }
        return *std::move(*answer);
    }
    std::string text(const varlink::Answer& answer) {
        return answer.error + json::serialize(answer.parameters);
    }

    std::string root_;
    std::unique_ptr<Loop> loop_ = *Loop::make();
    std::unique_ptr<Cage> cage_;
    std::unique_ptr<varlink::Server> server_;
};

TEST_F(InterfaceTest, TheDescriptionIsTheTables) {
    auto table = interface_table(*cage_, {});
    auto checked = varlink::check_interface(table);
    EXPECT_TRUE(checked) << checked.error().message;
    for (const auto& method : table.methods) EXPECT_FALSE(method.allowed_uids.empty()) << method.name;
}

static const varlink::Type& described_type(const varlink::Description& description, std::string_view name) {
    auto found = std::ranges::find(description.types, name, &varlink::Declared::name);
    EXPECT_NE(found, description.types.end()) << name;
    return found->type;
}

TEST_F(InterfaceTest, AStatusHasWhatIsDescribed) {
    auto description = *varlink::parse_description(kInterfaceDescription);
    auto expect_fields = [&](const json::object& object, std::string_view type) {
        std::set<std::string> described, seen;
        for (const auto& field : described_type(description, type).fields) {
            described.insert(field.name);
            bool may_be_null = field.type.kind == varlink::Type::Kind::Optional;
            if (!may_be_null && object.contains(field.name))
                EXPECT_FALSE(object.at(field.name).is_null()) << field.name;
        }
        for (const auto& field : object) seen.insert(std::string(field.key()));
        EXPECT_EQ(seen, described) << type;
    };
    expect_fields(call("Status", {{"name", "own"}}).parameters.at("agent").as_object(), "AgentStatus");
    expect_fields(call("List", {}).parameters.at("agents").at(0).as_object(), "AgentSummary");
    expect_fields(call("Inspect", {{"name", "own"}}).parameters.at("manifest").as_object(), "Manifest");
    manifest::AgentManifest with_check{.health_check = {{.kind = "tcp", .port = 1}}};
    expect_fields(manifest_as_json(with_check).at("health_check").as_object(), "HealthCheck");
}

TEST_F(InterfaceTest, TheReasonsForAnEndAreAClosedList) {
    auto description = *varlink::parse_description(kInterfaceDescription);
    std::vector<std::string> words;
    for (int i = 0; i <= static_cast<int>(EndReason::NeedLost); i++)
        words.emplace_back(end_reason_name(static_cast<EndReason>(i)));
    EXPECT_EQ(described_type(description, "EndReason").values, words);
}

TEST_F(InterfaceTest, OnlyWhatRunsCanBePaused) {
    auto pause = call("Pause", {{"name", "own"}});
    EXPECT_EQ(pause.error, "io.nullbox.cage.CannotPause");
    EXPECT_EQ(pause.parameters.at("message"), "agent own is stopped: only one that runs can be paused");
    EXPECT_EQ(call("Resume", {{"name", "own"}}).error, "io.nullbox.cage.CannotResume");
    EXPECT_EQ(call("Pause", {{"name", "nobody"}}).error, "io.nullbox.cage.NoSuchAgent");
}

TEST_F(InterfaceTest, InspectSaysWhatTheAgentMayDo) {
    auto answer = call("Inspect", {{"name", "own"}});
    EXPECT_EQ(answer.parameters.at("manifest").at("image"), "none");
    EXPECT_EQ(answer.parameters.at("in_effect"), true);
    EXPECT_EQ(json::serialize(answer.parameters.at("may")),
              R"(["reach nothing: it has no network","use 128 MB of memory and 100 % of a processor"])");
    EXPECT_EQ(call("Inspect", {{"name", "nobody"}}).error, "io.nullbox.cage.NoSuchAgent");
}

TEST_F(InterfaceTest, EveryPermissionIsALine) {
    manifest::AgentManifest manifest{.name = "t"};
    manifest.network_allow = {"api.example.org", "nas.lan"};
    manifest.network_allow_private = {"nas.lan"};
    manifest.network_rules = {{.host = "api.example.org", .methods = {"GET", "HEAD"}, .paths = {"/v1/*"}},
                              {.host = "nas.lan", .methods = {"GET"}}};
    manifest.network_budget = {.bytes = uint64_t{5} << 20, .requests = 9};
    manifest.credentials = {
        {.name = "A", .variable = "A", .inject = {{.host = "api.example.org", .header = "X-Key"}}},
        {.name = "B", .variable = "BEE", .exposed = true},
        {.name = "C", .variable = "C"}};
    manifest.memory_read = {"research"};
    manifest.memory_write = {"notes"};
    manifest.read_paths = {"/data/in"};
    manifest.write_paths = {"/data/out"};
    EXPECT_EQ(
        may_do(manifest),
        (std::vector<std::string>{
            "reach api.example.org", "reach nas.lan, also at a private address",
            "of api.example.org ask only: GET, HEAD /v1/*", "of nas.lan ask only: GET any path",
            "move at most 5 MiB an hour over the network", "make at most 9 requests an hour",
            "use the secret A without seeing it: only for api.example.org in the header X-Key",
            "see the exposed secret B itself, in its variable BEE",
            "hold a stand-in for the secret C, which nobody gets", "read the memory research",
            "write the memory notes", "read the shared folder /data/in",
            "read and write the shared folder /data/out", "use 128 MB of memory and 100 % of a processor"}));
}

TEST_F(InterfaceTest, ReloadFindsWhatIsNewGoneChangedAndWrong) {
    put("/agents/new.toml", manifest("new"));
    put("/agents/bad.toml", "[agent]\n");
    put("/system/fixed.toml", manifest("fixed", "restart = \"always\"\n"));
    fs::remove(root_ + "/agents/own.toml");
    EXPECT_EQ(
        text(call("Reload", {})),
        R"({"added":["bad","new"],"changed":["fixed"],"removed":["own"],"invalid":["bad"],"updated":[]})");
    for (int i = 0; i < 10; i++) EXPECT_TRUE(loop_->run_once(10ms));
    EXPECT_EQ(cage_->find("own"), nullptr);
    EXPECT_EQ(text(call("Reload", {})),
              R"({"added":[],"changed":[],"removed":[],"invalid":["bad"],"updated":[]})");
    put("/agents/new.app.img", "x");
    EXPECT_EQ(text(call("Reload", {})),
              R"({"added":[],"changed":["new"],"removed":[],"invalid":["bad"],"updated":[]})");
    // Their numbers, and with them uids and CIDs, stay apart.
    EXPECT_NE(cage_->find("new")->number(), cage_->find("fixed")->number());
    EXPECT_NE(cage_->find("new")->number(), cage_->find("bad")->number());
}

TEST_F(InterfaceTest, RemoveLeavesNothing) {
    put("/agents/own.app.img", "x");
    EXPECT_EQ(text(call("Remove", {{"name", "own"}})), "{}");
    EXPECT_EQ(cage_->find("own"), nullptr);
    EXPECT_TRUE(fs::is_empty(root_ + "/agents"));
    auto refused = call("Remove", {{"name", "fixed"}});
    EXPECT_EQ(refused.error, "io.nullbox.cage.CannotRemove");
    EXPECT_TRUE(fs::exists(root_ + "/system/fixed.toml"));
}

TEST_F(InterfaceTest, ImagesAreListedWithTheirUsersAndGoWhenNobodyUsesThem) {
    put("/images/none.img", "12345");
    put("/images/idle.img", "1");
    put("/images/.upload-3", "1");
    put("/images/No Name.img", "1");
    fs::create_directory(root_ + "/images/folder.img");
    EXPECT_EQ(text(call("ListImages", {})),
              R"({"images":[{"name":"idle","bytes":1,"fixed":false,"used_by":[]},)"
              R"({"name":"none","bytes":5,"fixed":false,"used_by":["fixed","own"]}]})");
    auto refused = call("RemoveImage", {{"name", "none"}});
    EXPECT_EQ(refused.error, "io.nullbox.cage.CannotRemove");
    EXPECT_EQ(refused.parameters.at("message"),
              "image none is in use by fixed, own: remove those agents first");
    EXPECT_EQ(text(call("RemoveImage", {{"name", "idle"}})), "{}");
    EXPECT_FALSE(fs::exists(root_ + "/images/idle.img"));
    EXPECT_TRUE(fs::exists(root_ + "/images/none.img"));
    for (const char* name : {"idle", "../images/none", "folder", ".upload-3"})
        EXPECT_TRUE(call("RemoveImage", {{"name", name}}).error.starts_with("io.nullbox.cage.NoSuchImage"))
            << name;
    EXPECT_EQ(call("RemoveImage", {{"name", ""}}).error, "org.varlink.service.InvalidParameter");
    EXPECT_TRUE(fs::exists(root_ + "/images/.upload-3"));
}

TEST_F(InterfaceTest, ASilentManifestLeavesToTheImage) {
    put("/agents/silent.toml", "[agent]\nname = \"silent\"\nversion = \"1\"\nimage = \"none\"\n");
    call("Reload", {});
    auto answer = call("Inspect", {{"name", "silent"}});
    const auto& manifest = answer.parameters.at("manifest").as_object();
    EXPECT_EQ(json::serialize(manifest.at("command")), "[]");
    for (const char* key : {"user", "group", "working_directory"})
        EXPECT_TRUE(manifest.at(key).is_null()) << key;
}

TEST_F(InterfaceTest, AFollowedLogEndsWithItsAgent) {
    bool ended = false;
    auto pending = varlink::follow_in_background(*loop_,
                                                 {.socket_path = root_ + "/cage.sock",
                                                  .method = "io.nullbox.cage.Logs",
                                                  .parameters = {{"name", "own"}, {"follow", true}}},
                                                 [&](Result<varlink::Answer> answer, bool last) {
                                                     EXPECT_TRUE(answer) << answer.error().message;
                                                     ended = last;
                                                 });
    for (int i = 0; i < 10; i++) EXPECT_TRUE(loop_->run_once(5ms));
    EXPECT_FALSE(ended);
    call("Remove", {{"name", "own"}});
    for (int i = 0; i < 10 && !ended; i++) EXPECT_TRUE(loop_->run_once(5ms));
    EXPECT_TRUE(ended);
}

TEST_F(InterfaceTest, AManifestFromUploadToInspect) {
    auto document = manifest("sent");
    Sha256 digest;
    digest.update(std::as_bytes(std::span(document)));
    auto begun = call("BeginUpload", {{"kind", "manifest"},
                                      {"name", "sent"},
                                      {"size_bytes", document.size()},
                                      {"sha256", digest.finish_hex()}});
    ASSERT_EQ(begun.fds.size(), 1U) << text(begun);
    EXPECT_TRUE(write_all(begun.fds[0].get(), document));
    begun.fds.clear();
    EXPECT_EQ(text(call("CommitUpload", {{"upload", begun.parameters.at("upload")}})), "{}");
    EXPECT_EQ(text(call("Reload", {})),
              R"({"added":["sent"],"changed":[],"removed":[],"invalid":[],"updated":[]})");
    EXPECT_EQ(call("Inspect", {{"name", "sent"}}).parameters.at("manifest").at("name"), "sent");
    EXPECT_EQ(call("CommitUpload", {{"upload", 99}}).error, "io.nullbox.cage.CannotUpload");
    EXPECT_EQ(call("AbortUpload", {{"upload", 99}}).error, "io.nullbox.cage.CannotUpload");
}

TEST_F(InterfaceTest, UploadsAreCheckedBeforeAnythingIsMade) {
    std::string sum(64, 'a');
    const std::vector<json::object> wrong{
        {{"kind", "kernel"}, {"name", "x"}, {"size_bytes", 1}, {"sha256", sum}},
        {{"kind", "app"}, {"name", "../x"}, {"size_bytes", 1}, {"sha256", sum}},
        {{"kind", "app"}, {"name", std::string(33, 'x')}, {"size_bytes", 1}, {"sha256", sum}},
        {{"kind", "app"}, {"name", "x"}, {"size_bytes", 0}, {"sha256", sum}},
        {{"kind", "app"}, {"name", "x"}, {"size_bytes", -1}, {"sha256", sum}},
        {{"kind", "app"}, {"name", "x"}, {"size_bytes", 1}, {"sha256", std::string(64, 'G')}},
        {{"kind", "app"}, {"name", "x"}, {"size_bytes", 1}, {"sha256", "aa"}},
        {{"kind", "app"}, {"name", "x"}, {"size_bytes", 1}},
    };
    for (const auto& one : wrong)
        EXPECT_EQ(call("BeginUpload", one).error, "org.varlink.service.InvalidParameter")
            << json::serialize(one);
    EXPECT_EQ(std::distance(fs::directory_iterator(root_ + "/agents"), {}), 1);
}

TEST_F(InterfaceTest, CommandsAreCheckedBeforeAnyAgentHears) {
    auto invalid = [&](std::string method, json::object parameters) {
        auto answer = call(std::move(method), std::move(parameters));
        return answer.error == "org.varlink.service.InvalidParameter"
                   ? std::string(answer.parameters.at("parameter").as_string())
                   : text(answer);
    };
    auto exec = [](json::object more) {
        json::object all{{"name", "own"}, {"operator", "alice"}, {"command", json::array{"x"}}};
        for (const auto& [name, value] : more) all[name] = value;
        return all;
    };
    EXPECT_EQ(invalid("Exec", exec({{"command", json::array()}})), "command");
    EXPECT_EQ(invalid("Exec", exec({{"command", json::array{""}}})), "command");
    EXPECT_EQ(invalid("Exec", exec({{"environment", json::array{"NO_VALUE"}}})), "environment");
    EXPECT_EQ(invalid("Exec", exec({{"environment", json::array{"1A=x"}}})), "environment");
    EXPECT_EQ(invalid("Exec", exec({{"working_directory", "app"}})), "working_directory");
    EXPECT_EQ(invalid("Exec", exec({{"rows", 0}})), "rows");
    EXPECT_EQ(invalid("Exec", exec({{"user", std::string(65, 'u')}})), "user");
    EXPECT_EQ(invalid("Exec", {{"name", "own"}, {"command", json::array{"x"}}}), "operator");
    json::object copy{{"name", "own"}, {"operator", "alice"}, {"direction", "sideways"}, {"path", "/x"}};
    EXPECT_EQ(invalid("Copy", copy), "direction");
    copy["direction"] = "in";
    copy["source_name"] = "../x";
    EXPECT_EQ(invalid("Copy", copy), "source_name");
    auto answer = call("Exec", exec({}));
    EXPECT_EQ(answer.error, "io.nullbox.cage.CannotExec");
    EXPECT_EQ(answer.parameters.at("message"), "agent own is not running: stopped");
    EXPECT_TRUE(answer.fds.empty());
    EXPECT_EQ(call("Exec", {{"name", "nobody"}, {"operator", "a"}, {"command", json::array{"x"}}}).error,
              "io.nullbox.cage.NoSuchAgent");
    EXPECT_EQ(invalid("Logs", {{"name", "own"}, {"stream", "all"}}), "stream");
}

} // namespace
} // namespace nullbox::cage
