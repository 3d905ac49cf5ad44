// The program nullctl against the program gate: see against_gate.h.
#include "nullctl/against_gate.h"

namespace nullbox::nullctl {
namespace {

TEST_F(AgainstGate, TablesAndJson) {
    auto people = nullctl({"agent", "list"});
    EXPECT_EQ(people.status, 0) << people.err;
    EXPECT_EQ(people.out, "NAME        STATE    SAYS                         HEALTH   IMAGE   VERSION\n"
                          "researcher  running  runs \\x1b[2J\\x9b since noon  healthy  python  1\n");
    auto programs = nullctl({"--json", "agent", "list"});
    EXPECT_EQ(programs.out, "{\"agents\":[{\"name\":\"researcher\",\"state\":\"running\","
                            "\"describe\":\"runs \\u001b[2J\xc2\x9b since "
                            "noon\",\"health\":\"healthy\",\"image\":\"python\",\"version\":\"1\"}]}\n");
    auto status = nullctl({"status"});
    EXPECT_EQ(status.status, 0) << status.err;
    for (std::string_view part :
         {"box1: NullBox 0.1.0, Linux 6.12, up 1 min 5 s\n", "addresses: 192.0.2.7/24\n",
          "nothing is kept over a reboot\n", "problem: a problem\n", "network: eth0, no cable\n",
          "network problem: no DNS server answers\n", "cage     running  2.0 MB  2         agents: none\n",
          "vault: locked\n", "researcher  running"})
        EXPECT_TRUE(status.out.contains(part)) << part << " is not in\n" << status.out;
    auto logs = nullctl({"agent", "logs", "researcher"});
    EXPECT_TRUE(logs.out.contains(" stdout first\n")) << logs.out;
    EXPECT_TRUE(logs.out.contains(" stderr \\x1b]0;title\\x07\n")) << logs.out;
    auto lines = nullctl({"agent", "logs", "researcher", "--json"});
    EXPECT_EQ(std::ranges::count(lines.out, '\n'), 2);
    // One stream is what it says; gate carries the rest to cage.
    EXPECT_EQ(nullctl({"agent", "logs", "researcher", "--stream", "stdout"}).out,
              "first\n\\x1b]0;title\\x07\n");
    EXPECT_EQ(nullctl({"agent", "logs", "researcher", "--stream", "stdout", "-t"}).out,
              "1970-01-01T00:00:00.000Z first\n1970-01-01T00:00:00.000Z \\x1b]0;title\\x07\n");
    logs_asked_.clear();
    nullctl({"agent", "logs", "researcher", "--since", "10m", "--stream", "vm"});
    EXPECT_EQ(logs_asked_,
              R"({"name":"researcher","lines":100,"follow":false,"stream":"vm","within_ms":600000})");
    nullctl({"agent", "logs", "researcher", "--since", "1970-01-02T00:00:01Z"});
    EXPECT_TRUE(logs_asked_.contains(R"("since_ms":86401000)")) << logs_asked_;
    EXPECT_EQ(nullctl({"agent", "logs", "researcher", "--since", "yesterday"}).status, 2);
    auto denials = nullctl({"egress", "denials"});
    auto document = nullctl({"egress", "denials", "--json"});
    EXPECT_TRUE(document.out.starts_with("{\"records\":[{") && document.out.ends_with("}]}\n"))
        << document.out;
    EXPECT_TRUE(denials.out.contains("researcher lookup denied evil.example 3 times: not on its list\n"
                                     "    to allow it: allow = [\"evil.example\"]\n"))
        << denials.out;
}

TEST_F(AgainstGate, AnAgentsStatusInPlainWords) {
    auto status = nullctl({"agent", "status", "researcher"});
    EXPECT_EQ(status.status, 0) << status.err;
    EXPECT_EQ(status.out, "researcher: running for 1 s, up 3 min 12 s\n"
                          "health: failing (2 of 3): connection refused\n"
                          "processor: 12.3 s used, at most 150 % of one, as 2 vCPUs\n"
                          "memory: 80.1 MB used, at most 256 MiB in the guest\n"
                          "restarts: 1\n"
                          "last run ended: health: \\x1b[2J (health)\n");
    EXPECT_TRUE(nullctl({"--json", "agent", "status", "researcher"}).out.contains("\"cpu_time_ms\":12300"));
    EXPECT_EQ(nullctl({"agent", "pause", "researcher"}).out, "researcher: paused\n");
    auto refused = nullctl({"agent", "resume", "researcher"});
    EXPECT_EQ(refused.status, 1);
    EXPECT_TRUE(refused.err.contains("agent researcher is running, not paused")) << refused.err;
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
    // Only its network is another: cage has seen to it, and it is not restarted.
    calls_.clear();
    updated_ = {"researcher"};
    auto network = nullctl({"agent", "deploy", agent, "--yes"});
    EXPECT_EQ(calls_, "Upload app/researcher\nUpload manifest/researcher\nReload\n");
    EXPECT_TRUE(network.out.contains("the new rules are in effect, without a restart")) << network.out;
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
