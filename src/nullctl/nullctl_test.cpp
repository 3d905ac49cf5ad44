#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "nullctl/box.h"
#include "nullctl/command_line.h"
#include "nullctl/fields.h"
#include "nullctl/pack.h"
#include "nullctl/powers.h"
#include "nullctl/visible.h"

namespace nullbox::nullctl {
namespace {

TEST(Visible, ControlsAreShownNotObeyed) {
    EXPECT_EQ(visible("plain text, äöü, 漢字"), "plain text, äöü, 漢字");
    EXPECT_EQ(visible("\x1b[31mred\x1b[0m\r\n\a"), "\\x1b[31mred\\x1b[0m\\x0d\\x0a\\x07");
    EXPECT_EQ(visible("\x7f \xc2\x9b"
                      "1m"),
              "\\x7f \\x9b1m");                                                       // DEL, C1 CSI
    EXPECT_EQ(visible("\xff\xc0\xaf\xed\xa0\x80"), "\\xff\\xc0\\xaf\\xed\\xa0\\x80"); // not UTF-8
    EXPECT_EQ(visible("a\xe2\x80\xae"
                      "b"),
              "a\\u202eb");                                // turns writing around
    EXPECT_EQ(visible("\xf3\xa0\x81\x81"), "\\U000e0041"); // an invisible tag
    EXPECT_EQ(visible("a\n\tb\x1b", Lines::Several), "a\n\tb\\x1b");
    EXPECT_EQ(visible(std::string_view("a\0b", 3)), "a\\x00b");
}

TEST(Visible, JsonStaysTheSameJson) {
    EXPECT_EQ(visible_json("{\"a\":\"\xc2\x9b\x7f\xe2\x80\xae\"}"), R"({"a":"\u009b\u007f\u202e"})");
    EXPECT_EQ(visible_json("\xf3\xa0\x81\x81"), "\\udb40\\udc41");
    EXPECT_EQ(visible_json(R"({"text":"ä"})"), R"({"text":"ä"})");
}

TEST(Visible, WidthsAreColumns) {
    EXPECT_EQ(width_of("abc"), 3u);
    EXPECT_EQ(width_of("漢字"), 4u);
    EXPECT_EQ(width_of("e\xcc\x81"), 1u);
    EXPECT_EQ(cut_to("abcdef", 6), "abcdef");
    EXPECT_EQ(cut_to("abcdefg", 6), "abcde…");
    EXPECT_EQ(cut_to("漢字漢字", 5), "漢字…");
    EXPECT_EQ(cut_to("abc", 0), "");
}

TEST(Terminal, TablesLineUp) {
    Terminal terminal;
    terminal.table({"NAME", "SAYS"}, {{"a", "x"}, {"longer", "y\nz"}, {"漢", "w"}});
    EXPECT_EQ(terminal.captured(), "NAME    SAYS\na       x\nlonger  y\\x0az\n漢      w\n");
}

TEST(Fields, AreForPeople) {
    EXPECT_EQ(size_text(999), "999 B");
    EXPECT_EQ(size_text(1'500), "1.5 kB");
    EXPECT_EQ(size_text(12'345'678), "12.3 MB");
    EXPECT_EQ(span_text(950), "950 ms");
    EXPECT_EQ(span_text(12'340), "12.3 s");
    EXPECT_EQ(span_text(3'661'000), "1 h 1 min");
    EXPECT_EQ(span_text(90'000'000), "1 d 1 h");
    Terminal terminal;
    show_list(terminal, {json::object{{"name", "x"}, {"state", "running"}, {"list", json::array{"a", "b"}}}},
              {"name=AGENT", "state", "list", "missing"});
    EXPECT_EQ(terminal.captured(), "AGENT  STATE    LIST  MISSING\nx      running  a, b\n");
}

std::string powers_text(std::string_view manifest) {
    auto parsed = manifest::parse_agent(manifest, "agent.toml");
    auto* good = std::get_if<manifest::AgentManifest>(&parsed);
    if (!good) return manifest::to_text(std::get<std::vector<manifest::Diagnostic>>(parsed));
    std::string text;
    for (const auto& power : powers_of(*good))
        text += cat(power.tone == Tone::Danger    ? "!"
                    : power.tone == Tone::Caution ? "?"
                                                  : "",
                    power.text, "\n");
    return text;
}

TEST(Powers, NothingIsSaidAsNothing) {
    EXPECT_EQ(
        powers_text(
            "[agent]\nname = \"agent\"\nversion = \"1\"\nimage = \"python\"\ncommand = [\"/x\", \"y\"]\n"
            "start = \"manual\"\n"),
        "agent agent 1\n"
        "runs      /x y\n"
        "          in its own VM from the image python, when it is started by hand\n"
        "uses      at most 128 MB of memory and 100% of a processor\n"
        "network   reaches nothing\n"
        "secrets   none\n"
        "memory    none\n"
        "folders   none of the box's; what it writes is gone when it ends\n");
}

TEST(Powers, EveryGrantHasItsLine) {
    auto text = powers_text(R"([agent]
name = "agent"
version = "1"
image = "python"
command = ["/x"]
restart = "always"
[capabilities.network]
allow = ["api.example.org", "*.example.net", "nas.lan:445"]
allow_private = ["nas.lan"]
budget = { mb_per_hour = 100, requests_per_hour = 7 }
[[capabilities.network.rule]]
host = "api.example.org"
methods = ["GET", "HEAD"]
paths = ["/v1/*"]
[capabilities.credentials.DEMO_KEY]
inject = { host = "api.example.org", header = "Authorization", format = "Bearer {secret}" }
[capabilities.credentials.OPEN]
exposed = true
[capabilities.memory]
read = ["research"]
write = ["research", "notes"]
[capabilities.filesystem]
read = ["/data/in"]
write = ["/data/out"]
)");
    for (std::string_view line :
         {"network   reaches api.example.org\n", "?          and     *.example.net (every name below it)\n",
          "          of      api.example.org only GET, HEAD /v1/*\n", "          at most 100 MiB an hour\n",
          "          at most 7 requests an hour\n",
          "?          nas.lan may be an address inside your own network\n",
          "secrets   DEMO_KEY goes to api.example.org in the header Authorization; the agent sees a "
          "placeholder in $DEMO_KEY\n",
          "!          OPEN is EXPOSED: the agent is told its value in $OPEN and can pass it on\n",
          "memory    reads research\n", "          writes research, notes, at most 10000 entries and 64 MB\n",
          "folders   reads /data/in\n", "          reads and writes /data/out\n",
          "at every boot, again whenever it ends\n"})
        EXPECT_TRUE(text.contains(line)) << line << "is not in\n" << text;
}

TEST(Refusal, SaysWhatWhyAndWhatToDo) {
    auto locked = refusal_of(
        423, {{"error", "io.nullbox.warden.Locked"}, {"parameters", {{"message", "the vault is locked"}}}});
    EXPECT_EQ(exit_of(locked), Exit::Locked);
    EXPECT_EQ(locked.message, "the vault is locked. Open it: nullctl vault unlock");
    auto wrong = refusal_of(400, {{"error", "org.varlink.service.InvalidParameter"},
                                  {"parameters", {{"parameter", "name"}, {"message", "is too long"}}}});
    EXPECT_EQ(exit_of(wrong), Exit::Failed);
    EXPECT_EQ(wrong.message, "name: is too long (org.varlink.service.InvalidParameter)");
    EXPECT_EQ(refusal_of(500, {}).message, "the box refuses: status 500");
}

class Files : public testing::Test {
protected:
    void SetUp() override {
        folder_ = cat(testing::TempDir(), "nullctl_", ::getpid());
        ASSERT_TRUE(make_directories(folder_));
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    void put(const std::string& name, std::string_view text, mode_t mode = 0644) {
        ASSERT_TRUE(make_directories(std::filesystem::path(folder_ + "/" + name).parent_path()));
        ASSERT_TRUE(write_file_atomic(folder_ + "/" + name, text, mode));
    }
    std::string folder_;
};

TEST_F(Files, BoxesAreKept) {
    auto settings = Settings::load(folder_ + "/config");
    ASSERT_TRUE(settings.has_value());
    EXPECT_EQ(settings->box("").error().message, "no box is known yet: nullctl box add NAME ADDRESS");
    std::string fingerprint = cat("sha256:", std::string(64, 'a'));
    ASSERT_TRUE(settings->put({.name = "b1", .host = "192.0.2.7", .port = 9000, .fingerprint = fingerprint}));
    auto again = Settings::load(folder_ + "/config");
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_EQ(again->box("")->host, "192.0.2.7"); // the only one
    EXPECT_EQ(again->box("b1")->port, 9000);
    ASSERT_TRUE(again->put({.name = "my.box", .host = "2001:db8::7", .fingerprint = fingerprint}));
    again = Settings::load(folder_ + "/config");
    EXPECT_EQ(again->boxes().size(), 2u);
    EXPECT_EQ(again->box("my.box")->host, "2001:db8::7");
    EXPECT_EQ(exit_of(again->box("").error()), Exit::Usage);
    EXPECT_EQ(again->box("b2").error().message, "no box \"b2\"; did you mean b1?");
    EXPECT_FALSE(again->put({.name = "a b", .host = "h", .fingerprint = fingerprint}));
    ASSERT_TRUE(again->remove("b1"));
    EXPECT_FALSE(again->remove("b1"));
    put("config/boxes.toml", "[box.x]\nhost = \"h\"\nfingerprint = \"sha256:short\"\n");
    EXPECT_FALSE(Settings::load(folder_ + "/config").has_value());
}

TEST_F(Files, TheKeyIsMadeOnceAndIsNobodyElses) {
    auto settings = *Settings::load(folder_ + "/config");
    EXPECT_EQ(exit_of(settings.key().error()), Exit::Usage);
    auto made = settings.key_or_new();
    ASSERT_TRUE(made.has_value()) << made.error().message;
    EXPECT_EQ(settings.key_or_new()->public_key(), made->public_key());
    struct stat facts{};
    ASSERT_EQ(::stat((folder_ + "/config/key.pem").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 07777, 0600u);
    ASSERT_EQ(::chmod((folder_ + "/config/key.pem").c_str(), 0644), 0);
    EXPECT_TRUE(settings.key().error().message.contains("can be read by others"));
}

TEST(Settings, AddressesHaveThreeForms) {
    EXPECT_EQ(parse_address("box1")->port, 8443);
    EXPECT_EQ(parse_address("192.0.2.7:9000")->port, 9000);
    EXPECT_EQ(parse_address("[2001:db8::7]:9000")->host, "2001:db8::7");
    EXPECT_EQ(parse_address("2001:db8::7")->host, "2001:db8::7");
    for (auto wrong : {"", ":1", "box:0", "box:65536", "box:x", "[::1", "a b", "https://box", "[::1]9"})
        EXPECT_FALSE(parse_address(wrong).has_value()) << wrong;
}

std::string bytes_of(int fd) {
    ::lseek(fd, 0, SEEK_SET);
    return *read_fd(fd, size_t{1} << 24);
}

TEST_F(Files, TheSameFilesGiveTheSameImage) {
    for (std::string one : {"a", "b"}) {
        put(one + "/main.py", "print()\n", one == "a" ? 0600 : 0664);
        put(one + "/run", "#!/x\n", one == "a" ? 0700 : 0775);
        put(one + "/lib/x.py", "x\n");
        put(one + "/AGENT.toml", one); // differs, and is not in it
        put(one + "/test_main.py", one);
        put(one + "/.git/x", one);
        put(one + "/__pycache__/x", one);
    }
    auto first = pack_folder(folder_ + "/a"), second = pack_folder(folder_ + "/b");
    ASSERT_TRUE(first.has_value()) << first.error().message;
    ASSERT_TRUE(second.has_value()) << second.error().message;
    EXPECT_EQ(first->files, 4u); // main.py, run, lib, lib/x.py
    auto image = bytes_of(first->image.get());
    EXPECT_TRUE(image.starts_with("hsqs"));
    EXPECT_EQ(image, bytes_of(second->image.get()));
    put("c/AGENT.toml", "x");
    auto empty = pack_folder(folder_ + "/c");
    ASSERT_TRUE(empty.has_value());
    EXPECT_FALSE(empty->image);
    ASSERT_EQ(::mkfifo((folder_ + "/c/pipe").c_str(), 0600), 0);
    EXPECT_TRUE(pack_folder(folder_ + "/c").error().message.contains("neither a file"));
}

TEST_F(Files, PackingRunsNoProgram) {
    put("a/main.py", "print()\n");
    std::string before = std::getenv("PATH");
    ::setenv("PATH", folder_.c_str(), 1);
    auto packed = pack_folder(folder_ + "/a");
    ::setenv("PATH", before.c_str(), 1);
    EXPECT_TRUE(packed.has_value()) << packed.error().message;
}

struct Ran {
    Exit status;
    std::string out;
};
Ran run_here(const std::vector<std::string>& arguments, const std::string& folder) {
    Terminal terminal;
    Tool tool(terminal, folder);
    auto status = run(arguments, tool);
    return {status, terminal.captured()};
}

TEST_F(Files, WrongWordsEndWithUsage) {
    for (const auto& words :
         std::vector<std::vector<std::string>>{{},
                                               {"nonsense"},
                                               {"agent"},
                                               {"agent", "start"},
                                               {"agent", "start", "a", "b"},
                                               {"status", "--what"},
                                               {"completions", "tcsh"},
                                               {"agent", "logs", "x", "-n", "5000"},
                                               {"memory", "put", "a", "b", "c", "--stdin"}}) {
        auto ran = run_here(words, folder_);
        EXPECT_EQ(ran.status, Exit::Usage);
        EXPECT_TRUE(ran.out.contains("nullctl: ")) << ran.out;
    }
    EXPECT_EQ(run_here({"--help"}, folder_).status, Exit::Good);
    EXPECT_EQ(run_here({"--version"}, folder_).out, "nullctl 0.1.0\n");
    EXPECT_EQ(run_here({"status"}, folder_).status, Exit::Usage); // no box is known
}

TEST_F(Files, KeygenPrintsWhatTheBoxWants) {
    auto ran = run_here({"keygen", "--name", "alice", "--role", "operator"}, folder_);
    EXPECT_EQ(ran.status, Exit::Good);
    auto key = Settings::load(folder_)->key();
    ASSERT_TRUE(key.has_value());
    EXPECT_TRUE(ran.out.ends_with(cat("[operators.alice]\npublic_key = \"", net::base64(key->public_key()),
                                      "\"\nrole = \"operator\"\n")))
        << ran.out;
}

TEST_F(Files, CompletionsAreScripts) {
    for (std::string shell : {"bash", "zsh", "fish"}) {
        auto ran = run_here({"completions", shell}, folder_);
        EXPECT_EQ(ran.status, Exit::Good);
        for (auto word : {"vault", "deploy", "denials", "follow", "box"})
            EXPECT_TRUE(ran.out.contains(word)) << shell;
    }
    put("script", run_here({"completions", "bash"}, folder_).out);
    auto asks = [&](const std::string& words, const std::string& index) {
        auto command = cat("bash -c '. ", folder_, "/script; COMP_WORDS=(", words, "); COMP_CWORD=", index,
                           "; _nullctl; echo \"${COMPREPLY[*]}\"' > ", folder_, "/out 2>&1");
        EXPECT_EQ(::system(command.c_str()), 0);
        return *read_file(folder_ + "/out");
    };
    EXPECT_EQ(asks("nullctl va", "1"), "vault\n");
    EXPECT_EQ(asks("nullctl vault un", "2"), "unlock\n");
    EXPECT_EQ(asks("nullctl --json agent st", "3"), "start stop status\n");
}

} // namespace
} // namespace nullbox::nullctl
