// Each test applies one concept in a child and looks at what the child can still do.
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "sandbox/capabilities.h"
#include "sandbox/cgroup.h"
#include "sandbox/landlock.h"
#include "sandbox/namespaces.h"
#include "sandbox/rlimits.h"
#include "sandbox/seccomp.h"

namespace nullbox::sandbox {

// The wait status of a child that ran body and ended with its value.
template <typename Body>
static int status_of(Body body) {
    pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
}
template <typename Body>
static int exit_of(Body body) {
    int status = status_of(body);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
#define NEEDS_ROOT()                                                                                         \
    if (::geteuid() != 0) GTEST_SKIP() << "needs root"

static SyscallFilter filter_of(const std::vector<std::string>& names) {
    return SyscallFilter::compile(resolve_syscalls(names).value()).value();
}
static bool enter(const SyscallFilter& filter) {
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && filter.install() == 0;
}

TEST(Seccomp, WhatIsNotListedKillsTheProcess) {
    auto filter = filter_of({"@basic"});
    EXPECT_EQ(exit_of([&] { return enter(filter) && ::getpid() > 0 ? 7 : 1; }), 7);
    EXPECT_EQ(exit_of([&] {
                  if (!enter(filter)) return 1;
                  ::mkdir("/tmp/never", 0700);
                  return 0;
              }),
              -SIGSYS);
}

TEST(Seccomp, EveryGroupCompilesAndAllTogether) {
    std::vector<std::string> all;
    for (auto group : syscall_group_names()) {
        all.emplace_back(group);
        EXPECT_GT(filter_of({std::string(group)}).program().size(), 4u) << group;
    }
    EXPECT_GT(filter_of(all).program().size(), 100u);
}

TEST(Seccomp, MemoryIsNeverExecutable) {
    auto filter = filter_of({"@basic"});
    auto map = [&](int protection) {
        return exit_of([&] {
            if (!enter(filter)) return 1;
            return ::mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 2
                                                                                                       : 0;
        });
    };
    EXPECT_EQ(map(PROT_READ | PROT_WRITE), 0);
    EXPECT_EQ(map(PROT_READ | PROT_EXEC), -SIGSYS);
}

TEST(Seccomp, UnixSocketsOnlyMeansThat) {
    auto filter = filter_of({"@basic", "@unix"});
    EXPECT_EQ(exit_of([&] { return enter(filter) && ::socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? 0 : 1; }), 0);
    EXPECT_EQ(exit_of([&] { return enter(filter) && ::socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1; }),
              -SIGSYS);
}

TEST(Seccomp, ThreadsButNoProcesses) {
    auto filter = filter_of({"@basic", "@threads"});
    EXPECT_EQ(exit_of([&] {
                  if (!enter(filter)) return 1;
                  int seen = 0;
                  std::thread([&] { seen = 5; }).join();
                  return seen;
              }),
              5);
    EXPECT_EQ(exit_of([&] { return enter(filter) && ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) ? 0 : 1; }),
              -SIGSYS);
}

TEST(Seccomp, AllowingWinsOverRefusingAndConditions) {
    // @threads refuses clone3 and checks clone's flags; @process allows both outright.
    auto filter = filter_of({"@basic", "@threads", "@process"});
    EXPECT_EQ(exit_of([&] {
                  if (!enter(filter)) return 1;
                  clone_args arguments{.exit_signal = SIGCHLD};
                  long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
                  if (child == 0) ::_exit(3);
                  int status = 0;
                  ::waitpid(static_cast<pid_t>(child), &status, 0);
                  return WEXITSTATUS(status);
              }),
              3);
}

TEST(Seccomp, AllThreadsGetIt) {
    EXPECT_EQ(exit_of([&] {
                  auto rules = resolve_syscalls({"@basic", "@threads"}).value();
                  int ends[2];
                  (void)!::pipe(ends);
                  std::thread other([&] {
                      char byte = 0;
                      (void)!::read(ends[0], &byte, 1);
                      ::mkdir("/tmp/never", 0700);
                  });
                  if (!install_syscall_filter(rules, Threads::All)) return 1;
                  (void)!::write(ends[1], "x", 1);
                  other.join();
                  return 0;
              }),
              -SIGSYS);
}

TEST(Seccomp, UnknownNamesSuggest) {
    EXPECT_NE(resolve_syscalls({"@basics"}).error().message.find("did you mean \"@basic\""),
              std::string::npos);
    EXPECT_NE(resolve_syscalls({"ftruncat"}).error().message.find("\"ftruncate\""), std::string::npos);
    EXPECT_NE(resolve_syscalls({"@nothing-like-it"}).error().message.find("@network"), std::string::npos);
    EXPECT_TRUE(resolve_syscalls({"ftruncate", "@kvm"}).has_value());
}

TEST(Capabilities, NamesBothWaysAndSuggestions) {
    auto set = CapabilitySet::parse({"CAP_NET_ADMIN", "CAP_CHOWN"}).value();
    EXPECT_TRUE(set.has(CAP_NET_ADMIN));
    EXPECT_EQ(set.names(), (std::vector<std::string>{"CAP_CHOWN", "CAP_NET_ADMIN"}));
    EXPECT_NE(CapabilitySet::parse({"CAP_NET_ADMN"}).error().message.find("CAP_NET_ADMIN"),
              std::string::npos);
}

// The Cap lines of /proc/self/status as "Inh Prm Eff Bnd Amb".
static std::string capability_lines() {
    std::string out, status = read_file("/proc/self/status").value_or("");
    for (auto line : split(status, '\n'))
        if (line.starts_with("Cap")) out += cat(trim(line.substr(7)).substr(8), " ");
    return out;
}

TEST(Capabilities, ExactlyTheGivenSetInEverySet) {
    NEEDS_ROOT();
    auto keep = CapabilitySet::parse({"CAP_NET_ADMIN"}).value();
    EXPECT_EQ(exit_of([&] {
                  if (limit_bounding_set(keep) || become_user({.uid = 4711, .gid = 4712}, keep)) return 1;
                  if (::getuid() != 4711 || ::getegid() != 4712 || ::getgroups(0, nullptr) != 0) return 2;
                  if (::setuid(0) == 0) return 3;
                  // CAP_NET_ADMIN is bit 12.
                  return capability_lines() == "00001000 00001000 00001000 00001000 00001000 " ? 0 : 4;
              }),
              0);
    EXPECT_EQ(exit_of([&] {
                  if (limit_bounding_set({}) || become_user({.uid = 4711, .gid = 4711}, {})) return 1;
                  return capability_lines() == "00000000 00000000 00000000 00000000 00000000 " ? 0 : 4;
              }),
              0);
}

TEST(Capabilities, KeepOnlyDropsTheRest) {
    NEEDS_ROOT();
    EXPECT_EQ(exit_of([&] {
                  if (keep_only(CapabilitySet().add(CAP_CHOWN))) return 1;
                  if (effective_capabilities().value() != CapabilitySet().add(CAP_CHOWN)) return 2;
                  return ::sethostname("x", 1) < 0 && errno == EPERM ? 0 : 3;
              }),
              0);
}

class Landlock : public ::testing::Test {
protected:
    void SetUp() override {
        if (landlock_version() == 0) GTEST_SKIP() << "this kernel has no Landlock";
        char name[] = "/tmp/nullbox-landlock-XXXXXX";
        ASSERT_NE(::mkdtemp(name), nullptr);
        folder_ = name;
        ASSERT_TRUE(make_directories(folder_ + "/in/deep"));
        ASSERT_TRUE(make_directories(folder_ + "/out"));
        ASSERT_TRUE(write_file_atomic(folder_ + "/in/file", "x", 0600));
        ASSERT_TRUE(write_file_atomic(folder_ + "/out/file", "x", 0600));
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    int opened(const LandlockPolicy& policy, const std::string& path, int flags) {
        return exit_of([&] {
            if (!enforce_landlock(policy)) return 99;
            return ::open(path.c_str(), flags, 0600) >= 0 ? 0 : errno;
        });
    }
    std::string folder_;
};

TEST_F(Landlock, OnlyWhatIsListed) {
    auto policy = LandlockPolicy().read(folder_ + "/in");
    EXPECT_EQ(opened(policy, folder_ + "/in/file", O_RDONLY), 0);
    EXPECT_EQ(opened(policy, folder_ + "/in/file", O_WRONLY), EACCES);
    EXPECT_EQ(opened(policy, folder_ + "/in/new", O_WRONLY | O_CREAT), EACCES);
    EXPECT_EQ(opened(policy, folder_ + "/out/file", O_RDONLY), EACCES);
    EXPECT_EQ(opened(policy, "/etc/passwd", O_RDONLY), EACCES);
    auto writer = LandlockPolicy().write(folder_ + "/in");
    EXPECT_EQ(opened(writer, folder_ + "/in/deep/new", O_WRONLY | O_CREAT | O_TRUNC), 0);
    EXPECT_EQ(opened(writer, folder_ + "/out/new", O_WRONLY | O_CREAT), EACCES);
}

TEST_F(Landlock, AMissingPathIsNamedUnlessOptional) {
    auto policy = LandlockPolicy().read("/nowhere/at/all");
    auto failure = policy.enforce();
    EXPECT_EQ(failure.code, ENOENT);
    ASSERT_NE(failure.rule, nullptr);
    EXPECT_EQ(failure.rule->path, "/nowhere/at/all");
    EXPECT_EQ(opened(LandlockPolicy().read("/nowhere").optional(), "/etc/passwd", O_RDONLY), EACCES);
}

TEST(LandlockMissing, FailsClosed) {
    if (landlock_version() != 0) GTEST_SKIP() << "this kernel has Landlock";
    EXPECT_NE(LandlockPolicy().enforce().code, 0);
}

TEST(Limits, NothingCanBeRaised) {
    EXPECT_EQ(exit_of([&] {
                  if (apply_limits({.open_files = 12})) return 1;
                  rlimit core{}, files{};
                  ::getrlimit(RLIMIT_CORE, &core);
                  ::getrlimit(RLIMIT_NOFILE, &files);
                  return core.rlim_max == 0 && files.rlim_max == 12 && files.rlim_cur == 12 ? 0 : 2;
              }),
              0);
}

TEST(Namespaces, FlagsAndSuggestions) {
    EXPECT_EQ(namespace_flags({"mount", "net"}).value(), uint64_t{CLONE_NEWNS | CLONE_NEWNET});
    EXPECT_NE(namespace_flags({"mont"}).error().message.find("\"mount\""), std::string::npos);
}

TEST(Namespaces, LoopbackComesUpInANewOne) {
    NEEDS_ROOT();
    EXPECT_EQ(exit_of([&] {
                  if (::unshare(CLONE_NEWNET) < 0) return 77; // containers may forbid it
                  if (loopback_up()) return 1;
                  auto flags = read_file("/proc/self/net/dev_mcast", 65536);
                  return flags ? 0 : 2;
              }) % 77,
              0);
}

// The cgroup tests need a cgroup v2 folder that we may write; the folder of a hybrid layout does.
static std::string cgroup_base() {
    for (const char* path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
        if (::access(cat(path, "/cgroup.controllers").c_str(), F_OK) == 0 && ::access(path, W_OK) == 0)
            return path;
    return {};
}

TEST(CgroupTree, KillsForkedChildrenAndIsRemovedWithWhatIsBelow) {
    std::string base = cgroup_base();
    if (base.empty()) GTEST_SKIP() << "no writable cgroup v2 here";
    auto group = Cgroup::create(cat(base, "/nullbox-test-", ::getpid())).value();
    auto below = Cgroup::create(group.path() + "/below").value();
    EXPECT_FALSE(group.populated());
    pid_t child = ::fork();
    if (child == 0) {
        if (!below.add(::getpid())) ::_exit(1);
        if (::fork() == 0) ::pause();
        ::pause();
    }
    for (int i = 0; i < 500 && !group.populated(); i++) ::usleep(1000);
    EXPECT_TRUE(group.populated());
    if (::access((group.path() + "/cgroup.kill").c_str(), F_OK) == 0) {
        ASSERT_TRUE(group.kill().has_value());
    } else {
        ::kill(child, SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
    for (int i = 0; i < 500 && group.populated(); i++) ::usleep(1000);
    EXPECT_FALSE(group.populated());
    auto removed = group.remove();
    EXPECT_TRUE(removed.has_value()) << removed.error().message;
    EXPECT_NE(::access(group.path().c_str(), F_OK), 0);
}

} // namespace nullbox::sandbox
