// What the image says and what the manifest says, against each other.
#include "agent_init/image_defaults.h"

#include <gtest/gtest.h>

namespace nullbox::agent_init {
namespace {

using guest_link::ImageConfig;
using guest_link::kImageDecides;
using guest_link::Start;

constexpr std::string_view kPasswd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:34:www:/var/www:/bin/sh\n"
                                     "broken:x\nodd:x:nine:nine:::\n";
constexpr std::string_view kGroup = "root:x:0:\nstaff:x:50:\n";

Start silent() { return {.uid = kImageDecides, .gid = kImageDecides, .working_directory = ""}; }

ImageConfig image() {
    return {.command = {"/bin/serve", "--now"},
            .environment = {"PATH=/opt/bin", "MODE=image"},
            .user = "www-data",
            .working_directory = "/srv"};
}

Start filled(Start start, const ImageConfig& config) {
    auto done = fill_in(start, config, kPasswd, kGroup);
    EXPECT_TRUE(done) << done.error().message;
    return start;
}

std::string refused(const std::string& user) {
    auto start = silent();
    auto config = image();
    config.user = user;
    auto done = fill_in(start, config, kPasswd, kGroup);
    return done ? "not refused" : done.error().message;
}

TEST(ImageDefaults, ASilentManifestTakesAllFromTheImage) {
    auto start = filled(silent(), image());
    EXPECT_EQ(start.command, (std::vector<std::string>{"/bin/serve", "--now"}));
    EXPECT_EQ(start.environment, (std::vector<std::string>{"PATH=/opt/bin", "MODE=image"}));
    EXPECT_EQ(start.uid, 33U);
    EXPECT_EQ(start.gid, 34U);
    EXPECT_EQ(start.working_directory, "/srv");
}

TEST(ImageDefaults, TheManifestGoesFirstKeyByKey) {
    Start said{.command = {"/own"},
               .environment = {"MODE=manifest"},
               .uid = 7,
               .gid = 8,
               .working_directory = "/own"};
    auto start = filled(said, image());
    EXPECT_EQ(start.command, std::vector<std::string>{"/own"});
    EXPECT_EQ(start.environment, (std::vector<std::string>{"MODE=manifest", "PATH=/opt/bin"}));
    EXPECT_EQ(start.uid, 7U);
    EXPECT_EQ(start.gid, 8U);
    EXPECT_EQ(start.working_directory, "/own");
    Start group_only = silent();
    group_only.gid = 9;
    EXPECT_EQ(filled(group_only, image()).uid, 33U);
    EXPECT_EQ(filled(group_only, image()).gid, 9U);
}

TEST(ImageDefaults, AVariableIsTheSameByItsWholeName) {
    auto start = silent();
    start.environment = {"MODERN=1"};
    EXPECT_EQ(filled(start, image()).environment,
              (std::vector<std::string>{"MODERN=1", "PATH=/opt/bin", "MODE=image"}));
}

TEST(ImageDefaults, UsersByNameAndNumber) {
    struct Case {
        const char* user;
        uint32_t uid, gid;
    };
    for (const auto& one : {Case{"www-data", 33, 34}, Case{"0", 0, 0}, Case{"33", 33, 34},
                            Case{"1234", 1234, 0}, Case{"1000:1001", 1000, 1001},
                            Case{"www-data:staff", 33, 50}, Case{"5:staff", 5, 50}, Case{"", 1000, 1000}}) {
        auto config = image();
        config.user = one.user;
        auto start = filled(silent(), config);
        EXPECT_EQ(start.uid, one.uid) << one.user;
        EXPECT_EQ(start.gid, one.gid) << one.user;
    }
}

TEST(ImageDefaults, WhoIsNotThereIsNamed) {
    EXPECT_EQ(refused("nobody-here"),
              "the image's user \"nobody-here\" is not in its /etc/passwd: set user in the manifest");
    EXPECT_EQ(refused("0:nogroup"),
              "the image's group \"nogroup\" is not in its /etc/group: set group in the manifest");
    EXPECT_TRUE(refused("broken").contains("is not in its /etc/passwd"));
    EXPECT_TRUE(refused("4294967295").contains("is not in its /etc/passwd")); // no user's number
}

TEST(ImageDefaults, NoCommandAnywhereIsSaid) {
    auto start = silent();
    auto done = fill_in(start, {}, "", "");
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().message, "the manifest has no command, and the image names none");
    start.command = {"/x"};
    ASSERT_TRUE(fill_in(start, {}, "", ""));
    EXPECT_EQ(start.uid, kDefaultId);
    EXPECT_EQ(start.working_directory, "/");
}

TEST(ImageConfigText, GoesAndComesBack) {
    auto config = image();
    config.command.push_back("two\nlines \\n and a backslash\\");
    config.command.emplace_back("");
    config.environment.emplace_back("EMPTY=");
    auto read = guest_link::parse_image_config(guest_link::write_image_config(config));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, config);
    EXPECT_EQ(*guest_link::parse_image_config(guest_link::write_image_config({})), ImageConfig{});
}

TEST(ImageConfigText, WrongOnesAreRefusedWithTheLine) {
    auto wrong = [](std::string_view text) {
        auto read = guest_link::parse_image_config(text);
        return read ? "not refused" : read.error().message;
    };
    EXPECT_EQ(wrong(""), "its first line is not \"nullbox image 1\"");
    EXPECT_EQ(wrong("nullbox image 1\nuser a\nuser b\n"), "line 3: user is said twice");
    EXPECT_EQ(wrong("nullbox image 1\nenvironment nothing\n"), "line 2: environment must be NAME=VALUE");
    EXPECT_EQ(wrong("nullbox image 1\nworking_directory x\n"), "line 2: working_directory must begin with /");
    EXPECT_TRUE(wrong("nullbox image 1\ncommand \\x\n").starts_with("line 2: has a backslash"));
    EXPECT_TRUE(wrong(std::string("nullbox image 1\ncommand a\0b\n", 28)).starts_with("line 2: has a NUL"));
    std::string many = "nullbox image 1\n";
    for (size_t i = 0; i <= guest_link::kMostImageCommand; i++) many += "command x\n";
    EXPECT_TRUE(wrong(many).contains("more than 256 lines of command"));
    EXPECT_EQ(wrong(std::string(guest_link::kMostImageConfigBytes + 1, 'x')), "more than 524288 bytes");
    EXPECT_EQ(wrong("nullbox image 1\nlater thing\n"), "not refused"); // of a later version
}

} // namespace
} // namespace nullbox::agent_init
