// Agents against real processes: everything of cage's but the VM itself, for which test_vm.cpp stands.
#include "cage/agent.h"

#include <algorithm>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "cage/test_services.h"

namespace nullbox::cage {
namespace {

using namespace std::chrono_literals;

class AgentTest : public testing::Test {
protected:
    void SetUp() override {
        folder_ = cat(testing::TempDir(), "cage_test_", ::getpid());
        ASSERT_TRUE(make_directories(folder_));
        // A SquashFS superblock that says how long the file is.
        std::string image(kImageBytes, '\0');
        image.replace(0, 4, "hsqs");
        image[20] = 6; // zstd
        image[28] = 4;
        image[40] = static_cast<char>(kImageBytes & 0xff);
        image[41] = static_cast<char>(kImageBytes >> 8);
        ASSERT_TRUE(write_file_atomic(folder_ + "/tiny.img", image, 0644));
        host_.image_folders = {folder_};
        host_.guest_kernel = folder_ + "/kernel";
        host_.guest_initramfs = folder_ + "/tiny.img";
        host_.kvm = "";
        host_.vmm_argv = {NULLBOX_TEST_VM};
        host_.first_jail_uid = 0;
        host_.limits.start_timeout = 2s;
        host_.limits.restart_delay = 20ms;
        host_.sockets = services_.sockets;
        host_.share_root = folder_ + "/shared";
        vm("normal");
    }
    void TearDown() override {
        agent_.reset();
        std::filesystem::remove_all(folder_);
    }

    void vm(std::string_view kind) { ASSERT_TRUE(write_file_atomic(host_.guest_kernel, kind, 0644)); }
    Agent& agent(std::string script, manifest::RestartPolicy restart = manifest::RestartPolicy::Never) {
        auto manifest = manifest_;
        manifest.image = image_;
        manifest.command = {"sh", "-c", std::move(script)};
        manifest.environment = {{"PATH", "/usr/bin:/bin"}, {"WHO", "world"}};
        manifest.uid = manifest.gid = ::getuid();
        manifest.has_user = true;
        manifest.restart = restart;
        manifest.max_memory_mb = 64;
        CatalogueEntry entry{.name = "t", .manifest_path = "/agent/t.toml", .manifest = manifest};
        agent_ = std::make_unique<Agent>(AgentContext{.loop = *loop_,
                                                      .host = host_,
                                                      .promised_bytes = [] { return 0; },
                                                      .changed = [] {},
                                                      .vault = vault_,
                                                      .egress = egress_,
                                                      .turns = turns_},
                                         std::move(entry));
        return *agent_;
    }
    template <typename Done>
    bool until(Done done, std::chrono::milliseconds limit = 10s) {
        for (auto end = Clock::now() + limit; Clock::now() < end;) {
            if (done()) return true;
            EXPECT_TRUE(loop_->run_once(20ms));
        }
        return done();
    }
    // What Start answers.
    std::string start() {
        std::optional<Result<>> answer;
        agent_->start([&](Result<> done) { answer = std::move(done); });
        EXPECT_TRUE(until([&] { return answer.has_value(); }));
        return !answer ? "no answer" : *answer ? "ok" : answer->error().message;
    }
    std::string pause() {
        std::optional<Result<>> answer;
        agent_->pause([&](Result<> done) { answer = std::move(done); });
        EXPECT_TRUE(until([&] { return answer.has_value(); }));
        return !answer ? "no answer" : *answer ? "ok" : answer->error().message;
    }
    std::string end() {
        EXPECT_TRUE(until([&] { return !agent_->life().alive(); }));
        return agent_->life().describe();
    }
    std::vector<std::string> lines(LogStream stream) {
        std::vector<std::string> texts;
        for (const auto& line : agent_->log().last(10'000))
            if (line.stream == stream) texts.push_back(line.text);
        return texts;
    }

    static constexpr size_t kImageBytes = 4096;
    std::unique_ptr<Loop> loop_ = *Loop::make();
    std::string folder_, image_ = "tiny";
    HostSetup host_;
    TestServices services_{*loop_};
    manifest::AgentManifest manifest_{.name = "t", .version = "1"};
    VaultWatch vault_{*loop_, services_.sockets.warden, [this] { agent_->try_again(); }};
    EgressWatch egress_{*loop_, services_.sockets.egress, [this] { agent_->network_lost("egress ended"); }};
    StartTurns turns_{*loop_, {.few = 1}};
    std::unique_ptr<Agent> agent_;
};

TEST_F(AgentTest, RunsToItsEndWithItsOutputInTheLog) {
    agent("echo hello $WHO; echo problem >&2; exit 3");
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(end(), "exited 3");
    EXPECT_EQ(lines(LogStream::Stdout), std::vector<std::string>{"hello world"});
    EXPECT_EQ(lines(LogStream::Stderr), std::vector<std::string>{"problem"});
    EXPECT_EQ(lines(LogStream::Vm), std::vector<std::string>{"kernel: booting"});
    EXPECT_EQ(lines(LogStream::Cage), (std::vector<std::string>{"starting", "running", "exited 3"}));
    EXPECT_GE(agent_->start_times().first_output_ms, agent_->start_times().vm_spawned_ms);
    EXPECT_EQ(agent_->vm_pid(), 0);
}

TEST_F(AgentTest, StartAnswersWhyTheCommandDoesNotStart) {
    agent("");
    const_cast<CatalogueEntry&>(agent_->entry()).manifest->command = {"no-such"};
    EXPECT_EQ(start(), "cannot start: command not found: no-such (PATH /usr/bin:/bin)");
    EXPECT_EQ(end(), "failed: cannot start: command not found: no-such (PATH /usr/bin:/bin)");
}

TEST_F(AgentTest, NoCommandAnywhereIsSaid) {
    agent("");
    auto& manifest = *const_cast<CatalogueEntry&>(agent_->entry()).manifest;
    manifest.command.clear();
    constexpr std::string_view kWhy = "the manifest has no command, and the image names none";
    EXPECT_EQ(start(), kWhy);
    EXPECT_EQ(end(), cat("failed: ", kWhy));
}

TEST_F(AgentTest, WithSharedFoldersTheUserIsNeverTheImages) {
    agent("id -u");
    auto& manifest = *const_cast<CatalogueEntry&>(agent_->entry()).manifest;
    manifest.has_user = false;
    auto plan = [&] {
        auto made = plan_launch(agent_->entry(), host_, {}, {});
        EXPECT_TRUE(made) << made.error().message;
        return made ? made->start : guest_link::Start{};
    };
    EXPECT_EQ(plan().uid, guest_link::kImageDecides);
    EXPECT_EQ(plan().gid, guest_link::kImageDecides);
    manifest.has_group = true;
    EXPECT_EQ(plan().gid, manifest.gid);
    manifest.read_paths = {"/data/in"};
    EXPECT_EQ(plan().uid, manifest.uid);
    EXPECT_EQ(plan().working_directory, "");
}

TEST_F(AgentTest, GuestIsToldWhenTheClockIsSet) {
    agent("sleep 60");
    agent_->clock_set(); // nobody is there to be told
    EXPECT_EQ(start(), "ok");
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    agent_->clock_set();
    auto told = [&]() -> int64_t {
        for (const auto& line : lines(LogStream::Vm))
            if (line.starts_with("clock set to ")) return *parse_number(line.substr(13), 0, INT64_MAX);
        return 0;
    };
    EXPECT_TRUE(until([&] { return told() != 0; }));
    EXPECT_NEAR(static_cast<double>(told()) / 1e9, static_cast<double>(now.tv_sec), 10);
    agent_->stop([] {});
    end();
}

TEST_F(AgentTest, MissingAndTruncatedImages) {
    image_ = "nowhere";
    agent("true");
    EXPECT_EQ(start(), cat("image \"nowhere\" is missing: neither ", folder_, "/nowhere.img exists"));
    EXPECT_EQ(::truncate((folder_ + "/tiny.img").c_str(), 3000), 0);
    image_ = "tiny";
    agent("true");
    EXPECT_EQ(start(),
              cat("image ", folder_,
                  "/tiny.img: truncated: it says that it has 4096 bytes, the file has 3000: copy it again"));
    EXPECT_EQ(agent_->life().state(), State::Failed);
}

TEST_F(AgentTest, NotEnoughMemory) {
    agent("true");
    const_cast<CatalogueEntry&>(agent_->entry()).manifest->max_memory_mb = 1 << 30;
    EXPECT_TRUE(start().starts_with("needs 1073741848 MB, ")) << agent_->life().describe();
}

TEST_F(AgentTest, NoKvmIsOneLineWithTheRemedy) {
    host_.kvm = "/no/such/kvm";
    agent("true");
    EXPECT_TRUE(start().starts_with("no /no/such/kvm: enable virtualisation"));
}

TEST_F(AgentTest, StopEndsItInOrder) {
    agent("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done");
    EXPECT_EQ(start(), "ok");
    ASSERT_TRUE(until([&] { return lines(LogStream::Stdout).size() == 1; }));
    bool stopped = false;
    agent_->stop([&] { stopped = true; });
    EXPECT_TRUE(until([&] { return stopped; }));
    EXPECT_EQ(agent_->life().describe(), "stopped");
    EXPECT_EQ(lines(LogStream::Stdout), (std::vector<std::string>{"up", "bye"}));
    EXPECT_EQ(agent_->vm_pid(), 0);
}

TEST_F(AgentTest, MisbehavingVmsFailWithAReasonAndLeaveNothing) {
    const std::vector<std::pair<std::string, std::string>> kinds{
        {"die", "failed: its VM process died by signal 9"},
        {"hang", "failed: did not start within 2 s: see the agent's log for its kernel's messages"},
        {"channel-nonsense", "failed: its VM process was killed"},
        {"link-nonsense", "failed: nonsense on the guest's link: frame of 1094795585 bytes, at most 65536"},
        {"output-before-start", "failed: nonsense on the guest's link: a frame out of order"},
        {"panic", "failed: the guest was stopped: kernel panic?[2J"},
        {"host-failure", "failed: KVM cannot run the vCPU"},
        {"out-of-memory", "failed: out of memory in the guest: max_memory_mb = 64 (the guest was stopped: "
                          "Kernel panic - not syncing: System is deadlocked on memory)"},
    };
    const std::map<std::string, EndReason> reasons{{"die", EndReason::VmEnded},
                                                   {"hang", EndReason::StartTimeout},
                                                   {"channel-nonsense", EndReason::VmEnded},
                                                   {"link-nonsense", EndReason::GuestFailed},
                                                   {"output-before-start", EndReason::GuestFailed},
                                                   {"panic", EndReason::GuestPanic},
                                                   {"host-failure", EndReason::HostFailure},
                                                   {"out-of-memory", EndReason::GuestOutOfMemory}};
    for (const auto& [kind, expected] : kinds) {
        vm(kind);
        agent("echo never");
        EXPECT_NE(start(), "ok") << kind;
        EXPECT_EQ(end(), expected) << kind;
        EXPECT_EQ(agent_->life().last_end()->reason, reasons.at(kind)) << kind;
        EXPECT_TRUE(lines(LogStream::Stdout).empty()) << kind;
        EXPECT_EQ(agent_->vm_pid(), 0) << kind;
    }
}

TEST_F(AgentTest, OtherPortsAreClosed) {
    vm("other-ports");
    agent("echo fine");
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(end(), "exited 0");
}

TEST_F(AgentTest, AVmProcessThatIsKilledIsNoticed) {
    agent("echo up; sleep 60");
    EXPECT_EQ(start(), "ok");
    ::kill(agent_->vm_pid(), SIGKILL);
    EXPECT_EQ(end(), "failed: its VM process died by signal 9");
}

TEST_F(AgentTest, RestartsOnFailureUntilStopped) {
    agent("exit 1", manifest::RestartPolicy::OnFailure);
    EXPECT_EQ(start(), "ok");
    EXPECT_TRUE(until([&] { return agent_->life().restarts() >= 2; }));
    agent_->stop([] {});
    EXPECT_TRUE(until([&] { return !agent_->life().alive(); }));
    EXPECT_FALSE(agent_->life().restart_pending());
    EXPECT_FALSE(until([&] { return agent_->life().alive(); }, 300ms));
}

TEST_F(AgentTest, PausesResumesAndStopsWhilePaused) {
    agent("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done");
    EXPECT_EQ(pause(), "agent t is stopped: only one that runs can be paused");
    EXPECT_EQ(start(), "ok");
    ASSERT_TRUE(until([&] { return lines(LogStream::Stdout).size() == 1; }));
    EXPECT_EQ(pause(), "ok");
    EXPECT_EQ(agent_->life().describe(), "paused");
    EXPECT_EQ(pause(), "ok") << "it is";
    EXPECT_EQ(start(), "ok") << "it is left alone";
    EXPECT_EQ(agent_->life().state(), State::Paused);
    EXPECT_TRUE(agent_->resume());
    EXPECT_EQ(agent_->life().describe(), "running");
    EXPECT_TRUE(agent_->resume()) << "it does";
    EXPECT_EQ(pause(), "ok");
    agent_->stop([] {});
    EXPECT_EQ(end(), "stopped");
    auto vm = lines(LogStream::Vm);
    std::erase_if(vm, [](const auto& line) { return line.starts_with("clock"); });
    EXPECT_EQ(vm,
              (std::vector<std::string>{"kernel: booting", "pause 1", "resume 1", "pause 2", "resume 2"}));
    EXPECT_EQ(lines(LogStream::Stdout), (std::vector<std::string>{"up", "bye"}));
    EXPECT_EQ(agent_->resume().error().message, "agent t is stopped, not paused");
    ASSERT_TRUE(agent_->last_run());
    auto ended = agent_->last_run()->ended;
    EXPECT_EQ(agent_->last_run()->ended, ended) << "its time stands still now";
}

TEST_F(AgentTest, AVmThatDoesNotPauseIsEnded) {
    vm("deaf");
    host_.limits.pause_timeout = 100ms;
    agent("sleep 60");
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(pause(), "it was not paused: it is failed: its VM did not pause within 0 s");
    EXPECT_EQ(agent_->vm_pid(), 0);
    EXPECT_EQ(agent_->life().last_end()->reason, EndReason::VmFault);
}

TEST_F(AgentTest, AnIllAgentIsStartedAgainWithTheReason) {
    manifest_.health_check = {{.kind = "tcp", .port = 1, .interval = 20ms, .failures = 3, .grace = 2s}};
    agent("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done",
          manifest::RestartPolicy::OnFailure);
    EXPECT_EQ(agent_->health(), "unknown");
    EXPECT_EQ(start(), "ok");
    EXPECT_TRUE(until([&] { return agent_->life().restarts() == 1; }));
    const auto& last = agent_->life().last_end();
    ASSERT_TRUE(last);
    EXPECT_EQ(last->reason, EndReason::Health);
    EXPECT_EQ(last->text, "health: connection to 127.0.0.1:1: connection refused, 3 times in a row");
    auto said = lines(LogStream::Cage);
    EXPECT_TRUE(std::ranges::contains(said, "health: failing (2 of 3): connection refused"));
    EXPECT_EQ(lines(LogStream::Stdout).at(1), "bye") << "it is asked to end first";
    bool stopped = false;
    agent_->stop([&] { stopped = true; });
    EXPECT_TRUE(until([&] { return stopped; }));
    EXPECT_EQ(agent_->life().last_end()->reason, EndReason::Stopped);
}

TEST_F(AgentTest, AHealthyAgentIsLeftAloneAndAPausedOneIsNotAsked) {
    Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(::listen(listener.get(), 64), 0);
    ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    manifest_.health_check = {
        {.kind = "tcp", .port = ntohs(address.sin_port), .interval = 20ms, .failures = 2, .grace = 0ms}};
    agent("sleep 60");
    EXPECT_EQ(start(), "ok");
    EXPECT_TRUE(until([&] { return agent_->health() == "healthy"; }));
    EXPECT_EQ(pause(), "ok");
    listener.reset();
    EXPECT_FALSE(until([&] { return agent_->health() != "healthy"; }, 300ms));
    EXPECT_EQ(agent_->life().state(), State::Paused);
    EXPECT_TRUE(agent_->resume());
    EXPECT_EQ(end(), "failed: health: connection to 127.0.0.1:" + std::to_string(ntohs(address.sin_port)) +
                         ": connection refused, 2 times in a row");
}

TEST_F(AgentTest, WhenItRanIsKnownDuringAndAfterIt) {
    agent("sleep 0.2; exit 1", manifest::RestartPolicy::OnFailure);
    EXPECT_FALSE(agent_->last_run());
    EXPECT_EQ(start(), "ok");
    EXPECT_TRUE(until([&] { return agent_->life().restart_pending(); }));
    ASSERT_TRUE(agent_->next_try());
    auto run = *agent_->last_run();
    EXPECT_GE(run.ended - run.began, 150ms);
    EXPECT_LE(run.ended, Clock::now());
    EXPECT_TRUE(until([&] { return agent_->life().restarts() == 1; }));
    agent_->stop([] {});
    EXPECT_TRUE(until([&] { return !agent_->life().alive(); }));
    EXPECT_FALSE(agent_->next_try());
}

TEST_F(AgentTest, AFloodIsSlowedDownAndArrivesWhole) {
    agent("seq 30000");
    std::vector<std::string> followed;
    agent_->follow([&](const LogLine& line) {
        if (line.stream == LogStream::Stdout) followed.push_back(line.text);
    });
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(end(), "exited 0");
    ASSERT_EQ(followed.size(), 30'000U);
    EXPECT_EQ(followed.back(), "30000");
    EXPECT_GT(agent_->log().dropped(), 0U) << "the ring is bounded";
}

TEST_F(AgentTest, TheVmGetsItsNetworkAndItsFolders) {
    vm("describe");
    services_.start_egress();
    manifest_.network_allow = {"api.example.org"};
    manifest_.write_paths = {"/data/out"};
    std::filesystem::create_directories(host_.share_root + "/data/out");
    std::ofstream(host_.share_root + "/data/out/note") << "x";
    agent("echo up; sleep 60");
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(agent_->address(), "10.88.1.2");
    EXPECT_EQ(lines(LogStream::Vm),
              (std::vector<std::string>{"kernel: booting", "net 1 mtu 1400 mac 2:7", "tap of egress",
                                        cat("share share0 rw uid ", ::getuid(), " holds note")}));
    bool stopped = false;
    agent_->stop([&] { stopped = true; });
    EXPECT_TRUE(until([&] { return stopped && agent_->idle(); }));
    EXPECT_EQ(services_.asked.back(), "Detach");
    EXPECT_EQ(agent_->address(), "");
}

TEST_F(AgentTest, WithoutADestinationThereIsNoCard) {
    vm("describe");
    services_.start_egress();
    agent("true");
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(end(), "exited 0");
    EXPECT_EQ(lines(LogStream::Vm), (std::vector<std::string>{"kernel: booting", "net 0 mtu 1500 mac 0:0"}));
    EXPECT_TRUE(services_.asked.empty());
}

TEST_F(AgentTest, AnAgentWaitsForTheVaultAndGoesOnByItself) {
    services_.start_egress();
    services_.start_warden();
    services_.vault = "locked";
    manifest_.network_allow = {"api.example.org"};
    manifest_.credentials = {{.name = "KEY",
                              .variable = "KEY",
                              .inject = {{.host = "api.example.org", .header = "X", .format = "{secret}"}}}};
    agent("echo $KEY; sleep 60");
    EXPECT_EQ(start(), "ok") << "waiting is no failure";
    EXPECT_EQ(agent_->life().describe(), "waits for the vault: nullctl vault unlock");
    EXPECT_EQ(agent_->vm_pid(), 0);
    services_.set_vault("unlocked");
    EXPECT_TRUE(until([&] { return lines(LogStream::Stdout).size() == 1; }));
    EXPECT_TRUE(lines(LogStream::Stdout).at(0).starts_with("nullbox-KEY-"));
    EXPECT_EQ(lines(LogStream::Cage),
              (std::vector<std::string>{"waiting", "waits for the vault: nullctl vault unlock", "starting",
                                        "running"}));
}

TEST_F(AgentTest, AnExposedSecretIsInTheEnvironmentAndNoWhereElse) {
    services_.start_warden();
    services_.exposed_base64 = "dG9wIHNlY3JldA=="; // top secret
    manifest_.credentials = {{.name = "KEY", .variable = "WHO", .exposed = true}};
    agent("[ \"$WHO\" = 'top secret' ] && echo yes");
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(end(), "exited 0");
    EXPECT_EQ(lines(LogStream::Stdout), std::vector<std::string>{"yes"}) << "it replaces the manifest's";
    for (const auto& line : agent_->log().last(100)) EXPECT_FALSE(line.text.contains("secret")) << line.text;
}

TEST_F(AgentTest, AStopEndsTheWaiting) {
    manifest_.network_allow = {"api.example.org"}; // and no egress
    agent("true");
    EXPECT_EQ(start(), "ok");
    EXPECT_TRUE(agent_->life().describe().starts_with("waits for the network: connect to "));
    bool stopped = false;
    agent_->stop([&] { stopped = true; });
    EXPECT_TRUE(stopped);
    services_.start_egress();
    EXPECT_FALSE(until([&] { return agent_->life().state() != State::Stopped; }, 600ms));
}

TEST_F(AgentTest, WhenEgressEndsTheAgentStartsAnewWithTheReason) {
    services_.start_egress();
    manifest_.network_allow = {"api.example.org"};
    agent("echo up; exec sleep 60");
    EXPECT_EQ(start(), "ok");
    ASSERT_TRUE(until([&] { return lines(LogStream::Stdout).size() == 1; }));
    services_.egress.reset();
    EXPECT_TRUE(until([&] { return agent_->life().state() == State::Waiting; }));
    EXPECT_EQ(agent_->vm_pid(), 0);
    services_.start_egress();
    EXPECT_TRUE(until([&] { return lines(LogStream::Stdout).size() == 2; }));
    EXPECT_EQ(agent_->life().restarts(), 1U);
    auto said = lines(LogStream::Cage);
    EXPECT_TRUE(std::ranges::contains(said, "stopping to start anew: egress ended"));
    EXPECT_EQ(agent_->life().lost(), "egress ended");
}

TEST_F(AgentTest, MemoryIsHandedToCtxgraphWithWhatTheManifestSays) {
    vm("memory");
    services_.start_ctxgraph();
    manifest_.memory_read = {"research", "notes"};
    manifest_.memory_write = {"research"};
    agent("true");
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(end(), "exited 0");
    EXPECT_EQ(lines(LogStream::Stdout), std::vector<std::string>{"has memory true, heard: answer"});
    EXPECT_EQ(services_.asked, std::vector<std::string>{
                                   R"(Serve {"agent":"t","read":["research","notes"],"write":["research"],)"
                                   R"("max_entries":10000,"max_bytes":67108864})"});
    char question[16] = {};
    ASSERT_EQ(services_.served.size(), 1U);
    EXPECT_EQ(::read(services_.served[0].get(), question, sizeof question), 8);
    EXPECT_STREQ(question, "question");
}

TEST_F(AgentTest, WithoutMemoryInTheManifestThePortIsClosed) {
    vm("memory");
    services_.start_ctxgraph();
    agent("true");
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(end(), "exited 0");
    EXPECT_EQ(lines(LogStream::Stdout), std::vector<std::string>{"has memory false, heard: "});
    EXPECT_TRUE(services_.asked.empty());
}

TEST_F(AgentTest, AMemoryThatIsNotThereIsSaidAndTheAgentGoesOn) {
    vm("memory");
    manifest_.memory_read = {"research"};
    agent("true");
    EXPECT_EQ(start(), "ok");
    EXPECT_EQ(end(), "exited 0");
    EXPECT_EQ(lines(LogStream::Stdout), std::vector<std::string>{"has memory true, heard: "});
    auto said = lines(LogStream::Cage);
    EXPECT_TRUE(std::ranges::any_of(said, [](const auto& line) {
        return line.starts_with("memory: io.nullbox.ctxgraph.Serve: connect to ");
    }));
}

TEST_F(AgentTest, ANewManifestCountsFromTheNextStart) {
    agent("echo old; sleep 60");
    EXPECT_EQ(start(), "ok");
    ASSERT_TRUE(until([&] { return lines(LogStream::Stdout).size() == 1; }));
    auto entry = agent_->entry();
    entry.manifest->command = {"sh", "-c", "echo new"};
    agent_->update(entry);
    EXPECT_TRUE(agent_->next_entry());
    std::optional<Result<>> answer;
    agent_->restart([&](Result<> done) { answer = std::move(done); });
    EXPECT_TRUE(until([&] { return answer.has_value(); }));
    EXPECT_FALSE(agent_->next_entry());
    EXPECT_EQ(end(), "exited 0");
    EXPECT_EQ(lines(LogStream::Stdout), (std::vector<std::string>{"old", "new"}));
}

// Control: same_but_network(), and that egress's answer is waited for.
TEST_F(AgentTest, ANetworkThatAloneDiffersChangesUnderTheAgent) {
    services_.start_egress();
    manifest_.network_allow = {"api.example.org"};
    agent("echo up; sleep 60");
    EXPECT_EQ(start(), "ok");
    pid_t pid = agent_->vm_pid();
    auto entry = agent_->entry();
    auto update = [&](std::string text) {
        entry.text = std::move(text);
        std::optional<bool> answer;
        agent_->update(entry, [&](bool in_effect) { answer = in_effect; });
        EXPECT_TRUE(until([&] { return answer.has_value(); }));
        return answer.value_or(false);
    };
    entry.manifest->version = "2";
    entry.manifest->network_allow = {"other.example.org"};
    entry.manifest->network_rules = {{.host = "other.example.org", .methods = {"GET"}}};
    EXPECT_TRUE(update("second"));
    EXPECT_FALSE(agent_->next_entry());
    EXPECT_EQ(agent_->entry().text, "second");
    EXPECT_EQ(agent_->entry().manifest, entry.manifest);
    EXPECT_TRUE(services_.asked.back().starts_with(R"(Update {"agent":"t","allow":["other.example.org"])"));
    EXPECT_EQ(lines(LogStream::Cage).back(), "network: the new rules are in effect; 2 connections ended");
    // Egress refuses: all is as it was, and said.
    services_.refusal = "no";
    entry.manifest->network_allow = {"third.example.org"};
    EXPECT_FALSE(update("third"));
    ASSERT_TRUE(agent_->next_entry());
    EXPECT_EQ(agent_->entry().text, "second");
    EXPECT_TRUE(lines(LogStream::Cage).back().starts_with("network: the new rules are not in effect before"));
    // Something else as well: egress is not asked.
    services_.refusal.clear();
    auto asked = services_.asked.size();
    entry.manifest->max_memory_mb++;
    EXPECT_FALSE(update("fourth"));
    EXPECT_TRUE(agent_->next_entry());
    EXPECT_EQ(services_.asked.size(), asked);
    EXPECT_EQ(agent_->vm_pid(), pid);
}

TEST_F(AgentTest, AManifestThatBecomesWrongStopsNoAgentButItsNextStart) {
    agent("echo up; sleep 60");
    EXPECT_EQ(start(), "ok");
    auto right = agent_->entry();
    auto wrong = right;
    wrong.manifest.reset();
    wrong.diagnostics = "t.toml:1:1: broken";
    agent_->update(wrong);
    EXPECT_EQ(agent_->life().state(), State::Running);
    bool stopped = false;
    agent_->stop([&] { stopped = true; });
    EXPECT_TRUE(until([&] { return stopped; }));
    EXPECT_EQ(start(), "its manifest is wrong: t.toml:1:1: broken");
    agent_->update(right);
    EXPECT_EQ(start(), "ok") << "mended";
}

// A turn is taken when all else is there, and free again when the command runs, or cannot.
TEST_F(AgentTest, StartsWhenItsTurnComes) {
    services_.start_egress();
    manifest_.network_allow = {"api.example.org"};
    char other = 0;
    bool others = false;
    auto turn_is_free = [&] {
        turns_.enter(&other, [&] { others = true; });
        return std::exchange(others, false);
    };
    agent("echo up; sleep 60");
    ASSERT_TRUE(turn_is_free());
    std::optional<Result<>> answer;
    agent_->start([&](Result<> done) { answer = std::move(done); });
    until([] { return false; }, 300ms);
    EXPECT_FALSE(answer);
    EXPECT_EQ(agent_->life().describe(), "waiting");
    // What it was given goes while it waits: it is asked for again.
    auto asked = services_.asked.size();
    agent_->network_lost("egress ended");
    EXPECT_TRUE(until([&] { return services_.asked.size() > asked; }));
    EXPECT_EQ(agent_->life().describe(), "waiting");
    turns_.leave(&other);
    EXPECT_TRUE(until([&] { return answer.has_value(); }));
    EXPECT_TRUE(*answer) << (*answer).error().message;
    EXPECT_EQ(agent_->life().state(), State::Running);
    EXPECT_TRUE(turn_is_free());
    turns_.leave(&other);
    bool stopped = false;
    agent_->stop([&] { stopped = true; });
    EXPECT_TRUE(until([&] { return stopped; }));
    // Stopped before its turn.
    ASSERT_TRUE(turn_is_free());
    agent_->start([](const Result<>&) {});
    until([] { return false; }, 100ms);
    EXPECT_EQ(agent_->life().describe(), "waiting");
    agent_->stop([] {});
    EXPECT_EQ(agent_->life().describe(), "stopped");
    turns_.leave(&other);
    until([] { return false; }, 100ms);
    EXPECT_EQ(agent_->life().describe(), "stopped");
    EXPECT_TRUE(turn_is_free());
    turns_.leave(&other);
    // One that cannot start.
    vm("hang");
    EXPECT_NE(start(), "ok");
    EXPECT_TRUE(until([&] { return turn_is_free(); }));
}

TEST_F(AgentTest, AnAgentThatIsDroppedTakesItsVmWithIt) {
    agent("echo up; sleep 60");
    EXPECT_EQ(start(), "ok");
    pid_t pid = agent_->vm_pid();
    agent_.reset();
    bool ended = false;
    for (int i = 0; i < 100 && !ended; i++) {
        ended = ::waitpid(pid, nullptr, WNOHANG) == pid;
        ::usleep(10'000);
    }
    EXPECT_TRUE(ended);
}

TEST_F(AgentTest, ACommandBesideTheAgentIsRunAndWrittenDown) {
    agent("sleep 60");
    ExecOrder order{.operator_name = "alice",
                    .what = guest_link::ExecRequest{.command = {"sh", "-c", "echo hello $WHO; exit 4"}}};
    auto early = agent_->exec(order);
    ASSERT_FALSE(early);
    EXPECT_EQ(early.error().message, "agent t is not running: stopped");
    EXPECT_EQ(start(), "ok");
    auto opened = agent_->exec(order);
    ASSERT_TRUE(opened) << opened.error().message;
    guest_link::ExecGuestFrameReader reader;
    std::string out;
    std::optional<guest_link::Ended> ended;
    EXPECT_TRUE(until([&] {
        std::byte bytes[4096];
        ssize_t count = ::read(opened->stream.get(), bytes, sizeof bytes);
        if (count > 0) reader.feed(std::span(bytes).first(static_cast<size_t>(count)));
        while (auto frame = *reader.next()) {
            if (const auto* output = std::get_if<guest_link::ExecOutput>(&*frame)) out += output->bytes;
            if (const auto* end = std::get_if<guest_link::Ended>(&*frame)) ended = *end;
        }
        return ended.has_value() && lines(LogStream::Cage).size() == 4;
    }));
    EXPECT_EQ(out, "hello world\n");
    EXPECT_EQ(ended, (guest_link::Ended{.by_signal = false, .value = 4}));
    auto said = lines(LogStream::Cage);
    ASSERT_EQ(said.size(), 4U);
    EXPECT_EQ(said[2], "exec 1 by alice: sh -c 'echo hello $WHO; exit 4'");
    EXPECT_TRUE(said[3].starts_with("exec 1 by alice: exited 4 after ")) << said[3];
    EXPECT_EQ(agent_->life().state(), State::Running); // the agent itself goes on
}

} // namespace
} // namespace nullbox::cage
