#include "cage/cage.h"

#include <csignal>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::cage {
namespace {

class CageTest : public testing::Test {
protected:
    void SetUp() override {
        folder_ = cat(testing::TempDir(), "cage_folder_", ::getpid());
        ASSERT_TRUE(make_directories(folder_));
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    void put(const std::string& name, std::string_view more) {
        auto text = cat("[agent]\nname = \"", name,
                        "\"\nversion = \"1\"\nimage = \"none\"\ncommand = [\"/x\"]\n", more);
        ASSERT_TRUE(write_file_atomic(cat(folder_, "/", name, ".toml"), text, 0644));
    }
    std::unique_ptr<Loop> loop_ = *Loop::make();
    std::string folder_;
};

TEST_F(CageTest, StartsWhatIsToStartAtBootAndSaysHowItWent) {
    put("automatic", "");
    put("manual", "start = \"manual\"\n");
    put("wrong", "colour = \"blue\"\n");
    auto cage = *Cage::make(*loop_, {.image_folders = {folder_}}, {folder_});
    cage->read_agents();
    cage->start_at_boot();
    EXPECT_TRUE(cage->status_line().starts_with(
        cat("agents: automatic failed: image \"none\" is missing: neither ", folder_,
            "/none.img exists, manual stopped, "
            "wrong invalid: wrong.toml:")))
        << cage->status_line();
    EXPECT_EQ(cage->find("nobody"), nullptr);
    bool stopped = false;
    cage->stop_all(std::chrono::milliseconds(100), [&] { stopped = true; });
    EXPECT_TRUE(stopped);
}

TEST_F(CageTest, AfterACrashStartsWhatWasWantedAndNothingElse) {
    put("automatic", "");
    put("manual", "start = \"manual\"\n[capabilities.network]\nallow = [\"example.org\"]\n");
    HostSetup host{.image_folders = {folder_}, .survivors_file = folder_ + "/wanted"};
    host.sockets = {.egress = folder_ + "/e", .warden = folder_ + "/w", .ctxgraph = folder_ + "/c"};
    auto begin = [&] {
        auto cage = *Cage::make(*loop_, host, {folder_});
        cage->read_agents();
        cage->start_at_boot();
        return cage;
    };
    auto first = begin();
    EXPECT_TRUE(first->status_line().contains("manual stopped"));
    first->find("manual")->start([](const Result<>&) {}); // waits for egress, which is not there
    EXPECT_EQ(*read_file(host.survivors_file), "\nmanual\n") << "automatic has failed, for good";
    first.reset(); // without stop_all: a crash

    auto second = begin();
    EXPECT_TRUE(second->status_line().contains("automatic stopped, manual waits for the network"))
        << second->status_line();
    EXPECT_EQ(second->find("manual")->life().lost(), "cage ended unexpectedly, and the VM with it");
    second->find("manual")->stop([] {});
    second.reset();

    auto third = begin();
    EXPECT_TRUE(third->status_line().contains("manual stopped")) << "a stop is never undone";
    third->find("manual")->start([](const Result<>&) {});
    bool stopped = false;
    third->stop_all(std::chrono::milliseconds(100), [&] { stopped = true; });
    EXPECT_TRUE(stopped);
    third.reset();

    auto fourth = begin();
    EXPECT_TRUE(fourth->status_line().contains("automatic failed")) << "after an end in order it is a boot";
    EXPECT_TRUE(fourth->status_line().contains("manual stopped"));
}

TEST_F(CageTest, AtBootTheOthersComeFirst) {
    put("automatic", "");
    HostSetup host{.image_folders = {folder_}};
    host.sockets = {.egress = folder_ + "/e", .warden = folder_ + "/w", .ctxgraph = folder_ + "/c"};
    auto cage = *Cage::make(*loop_, std::move(host), {folder_});
    cage->read_agents();
    auto begun = [&] { return !cage->status_line().contains("stopped"); };
    cage->start_at_boot(std::chrono::milliseconds(10'000));
    auto run_for = [&](int ms) {
        auto end = loop_->after(std::chrono::milliseconds(ms), [&] { loop_->stop(); });
        ASSERT_TRUE(loop_->run());
    };
    run_for(100);
    EXPECT_FALSE(begun()) << cage->status_line();
    for (const char* name : {"/e", "/w", "/c"}) ASSERT_TRUE(write_file_atomic(folder_ + name, "", 0644));
    run_for(100);
    EXPECT_TRUE(begun()) << cage->status_line();
}

TEST_F(CageTest, AtBootTheOthersAreNotWaitedForWithoutEnd) {
    put("automatic", "");
    HostSetup host{.image_folders = {folder_}};
    host.sockets.egress = folder_ + "/missing";
    auto cage = *Cage::make(*loop_, std::move(host), {folder_});
    cage->read_agents();
    cage->start_at_boot(std::chrono::milliseconds(50));
    auto end = loop_->after(std::chrono::milliseconds(300), [&] { loop_->stop(); });
    ASSERT_TRUE(loop_->run());
    EXPECT_FALSE(cage->status_line().contains("stopped")) << cage->status_line();
}

TEST_F(CageTest, NoAgentsIsSaid) {
    auto cage = *Cage::make(*loop_, {}, {folder_});
    cage->read_agents();
    EXPECT_EQ(cage->status_line(), "agents: none (no manifest in /agent or /var/agents)");
}

// Where this machine has its version 2 control groups; a machine may have both versions.
std::string cgroup2_mount() {
    auto mounts = read_file("/proc/mounts").value_or("");
    for (auto line : split(mounts, '\n'))
        if (auto fields = split(line, ' '); fields.size() > 2 && fields[2] == "cgroup2")
            return std::string(fields[1]);
    return "/no-cgroup2";
}

// A process that does nothing, in the group; gone with this object in any case.
struct Sleeper {
    pid_t pid = ::fork();
    Sleeper() {
        if (pid != 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) ::pause();
    }
    ~Sleeper() {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    bool killed() const {
        siginfo_t info{};
        return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
               info.si_pid == pid;
    }
};

TEST_F(CageTest, WhatAnEarlierCageLeftIsKilledFirst) {
    auto root = cat(cgroup2_mount(), "/nullbox_cage_test_", ::getpid());
    auto group = sandbox::Cgroup::create(root);
    if (!group) GTEST_SKIP() << "needs to be allowed to make control groups: " << group.error().message;
    Sleeper sleeper;
    {
        auto left = *sandbox::Cgroup::create(root + "/hello");
        ASSERT_TRUE(left.add(sleeper.pid));
    }
    auto cage = Cage::make(*loop_, {.cgroup_root = root}, {folder_});
    EXPECT_TRUE(cage) << cage.error().message;
    EXPECT_TRUE(sleeper.killed());
    EXPECT_FALSE(std::filesystem::exists(root + "/hello"));
    EXPECT_TRUE(group->remove());
}

} // namespace
} // namespace nullbox::cage
