#include <filesystem>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "gate/answer_status.h"
#include "gate/box_key.h"
#include "gate/operators.h"
#include "gate/request_target.h"

namespace nullbox::gate {
namespace {

using Kind = Target::Kind;

TEST(RequestTarget, IsOneOfAFewTexts) {
    auto call = parse_target("POST", "/v1/io.nullbox.cage/Logs?more=1");
    EXPECT_EQ(call.kind, Kind::Call);
    EXPECT_EQ(call.first, "io.nullbox.cage");
    EXPECT_EQ(call.second, "Logs");
    EXPECT_TRUE(call.more);
    EXPECT_FALSE(parse_target("POST", "/v1/io.nullbox.cage/Logs?more=0").more);
    auto upload = parse_target("PUT", "/v1/upload/app/web-agent");
    EXPECT_EQ(upload.kind, Kind::Upload);
    EXPECT_EQ(upload.first, "app");
    EXPECT_EQ(upload.second, "web-agent");
    auto exec = parse_target("POST", "/v1/exec/web-agent");
    EXPECT_EQ(exec.kind, Kind::Exec);
    EXPECT_EQ(exec.first, "exec");
    EXPECT_EQ(exec.second, "web-agent");
    EXPECT_EQ(parse_target("POST", "/v1/copy/web-agent").first, "copy");
    EXPECT_EQ(parse_target("GET", "/v1/openapi.json").kind, Kind::Description);
    EXPECT_EQ(parse_target("GET", "/v1/io.nullbox.cage/List").kind, Kind::WrongVerb);
    EXPECT_EQ(parse_target("POST", "/v1/upload/app/x").first, "PUT");
}

TEST(RequestTarget, AnythingElseIsUnknown) {
    std::string long_name(65, 'a');
    for (const auto& target : {std::string(),
                               std::string("/"),
                               std::string("/v1"),
                               std::string("/v1/"),
                               std::string("/v2/io.nullbox.cage/List"),
                               std::string("/v1/io.nullbox.cage"),
                               std::string("/v1/io.nullbox.cage/"),
                               std::string("/v1/io.nullbox.cage/list"),
                               std::string("/v1/io.nullbox.cage/List/x"),
                               std::string("/v1/io..cage/List"),
                               std::string("/v1/IO.nullbox.cage/List"),
                               std::string("/v1/io.nullbox.cage/List?"),
                               std::string("/v1/io.nullbox.cage/List?more=1&x=2"),
                               std::string("/v1/io.nullbox.cage/List#x"),
                               std::string("/v1/io.nullbox.cage/Li%73t"),
                               std::string("http://box/v1/io.nullbox.cage/List"),
                               std::string("/v1/../v1/io.nullbox.cage/List"),
                               std::string("/v1/exec/"),
                               std::string("/v1/exec/a?more=1"),
                               std::string("/v1/exec/a/b"),
                               std::string("/v1/exec/.."),
                               std::string("/v1/upload/app/"),
                               std::string("/v1/upload/app/.."),
                               std::string("/v1/upload/app/a/b"),
                               std::string("/v1/upload/app/A"),
                               cat("/v1/upload/app/", long_name),
                               cat("/v1/a.", long_name, "/List"),
                               std::string("/v1/io.nullbox.cage/List\0x", 26)})
        EXPECT_EQ(parse_target("POST", target).kind, Kind::Unknown) << target;
}

TEST(RequestTarget, TheDigestIsRfc9530) {
    constexpr std::string_view kRight = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
    constexpr std::string_view kHex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    EXPECT_EQ(parse_digest(kRight), kHex);
    EXPECT_EQ(parse_digest(cat("sha-512=:YQ==:, ", kRight)), kHex);
    for (std::string_view wrong : {"", "sha-256=", "sha-256=::", "sha-256=:YQ==:", "sha-512=:YQ==:",
                                   "sha-256=ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="})
        EXPECT_FALSE(parse_digest(wrong).has_value()) << wrong;
}

TEST(AnswerStatus, FollowsTheErrorsName) {
    std::pair<std::string_view, unsigned> cases[] = {{"org.varlink.service.InvalidParameter", 400},
                                                     {"org.varlink.service.PermissionDenied", 403},
                                                     {"io.nullbox.cage.NoSuchAgent", 404},
                                                     {"org.varlink.service.MethodNotFound", 404},
                                                     {"io.nullbox.warden.Locked", 423},
                                                     {"io.nullbox.warden.WrongPassphrase", 403},
                                                     {"io.nullbox.warden.NoVault", 404},
                                                     {"io.nullbox.cage.CannotStart", 409},
                                                     {"io.nullbox.nulld.ShuttingDown", 503},
                                                     {"io.nullbox.nulld.TooManyFollowers", 429},
                                                     {"io.nullbox.ctxgraph.NotFound", 404},
                                                     {"io.nullbox.ctxgraph.QuotaUsedUp", 507},
                                                     {"io.nullbox.ctxgraph.TooLarge", 413},
                                                     {"io.nullbox.ctxgraph.Conflict", 409},
                                                     {"io.nullbox.warden.TooSoon", 429},
                                                     {"io.nullbox.Internal", 500},
                                                     {"", 409}};
    for (auto [name, status] : cases) EXPECT_EQ(status_of_refusal(name), status) << name;
    EXPECT_EQ(status_of_silence({.code = ENOENT}).status, 503u);
    EXPECT_EQ(status_of_silence({.code = ETIMEDOUT}).status, 504u);
    EXPECT_EQ(status_of_silence({.code = 0}).status, 502u);
}

class Files : public testing::Test {
protected:
    void SetUp() override {
        folder_ = cat(testing::TempDir(), "gate_", ::getpid());
        ASSERT_TRUE(make_directories(folder_));
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    std::string folder_;
};

TEST_F(Files, TheBoxKeepsItsKey) {
    auto path = folder_ + "/key.pem";
    auto made = box_key(path);
    ASSERT_TRUE(made.has_value()) << made.error().message;
    struct stat facts{};
    ASSERT_EQ(::stat(path.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 07777, 0600u);
    EXPECT_EQ(box_key(path)->public_key(), made->public_key());
    // A file that holds no key is not lost, and does not lock everybody out.
    ASSERT_TRUE(write_file_atomic(path, "garbage", 0600));
    auto other = box_key(path);
    ASSERT_TRUE(other.has_value()) << other.error().message;
    EXPECT_NE(other->public_key(), made->public_key());
    EXPECT_EQ(*read_file(path + ".bad"), "garbage");
    EXPECT_EQ(box_key(path)->public_key(), other->public_key());
    EXPECT_FALSE(box_key(folder_ + "/missing/key.pem").has_value());
}

TEST_F(Files, OperatorsFollowTheirFile) {
    auto path = folder_ + "/machine.toml";
    Operators operators(path);
    EXPECT_TRUE(operators.all().empty());
    ASSERT_EQ(operators.problems().size(), 1u);
    EXPECT_TRUE(operators.problems()[0].starts_with("nobody may come in: "));
    EXPECT_FALSE(operators.refresh());
    auto key = *net::Identity::make();
    auto entry = [&](std::string_view name, std::string_view role) {
        return cat("[operators.", name, "]\npublic_key = \"", net::base64(key.public_key()), "\"\nrole = \"",
                   role, "\"\n");
    };
    ASSERT_TRUE(write_file_atomic(path, cat("[gate]\nport = 9443\n", entry("alice", "operator")), 0644));
    EXPECT_TRUE(operators.refresh());
    ASSERT_NE(operators.find(key.public_key()), nullptr);
    EXPECT_EQ(operators.find(key.public_key())->name, "alice");
    EXPECT_EQ(operators.named("alice")->role, Role::Operator);
    EXPECT_EQ(operators.port(), 9443);
    EXPECT_EQ(operators.find("other"), nullptr);
    EXPECT_FALSE(operators.refresh());
    // Two names for one key: the second is left out, and said.
    ASSERT_TRUE(write_file_atomic(path, cat(entry("alice", "reader"), entry("bob", "admin")), 0644));
    EXPECT_TRUE(operators.refresh());
    EXPECT_EQ(operators.all().size(), 1u);
    EXPECT_EQ(operators.problems(),
              (std::vector<std::string>{"operator bob is left out: its key is alice's"}));
    ASSERT_EQ(::unlink(path.c_str()), 0);
    EXPECT_TRUE(operators.refresh());
    EXPECT_TRUE(operators.all().empty());
}

} // namespace
} // namespace nullbox::gate
