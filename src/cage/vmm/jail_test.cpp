// A VM process in its jail, for real: what it still reaches of its shares, and that it reaches nothing else.
#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cage/vmm/fs_test_guest.h"
#include "cage/vmm/jail.h"

namespace nullbox::cage {

namespace {
constexpr uint32_t kUid = 234567;

// The body's value, or minus the signal that ended it.
template <typename Body>
int in_child(Body body) {
    pid_t child = ::fork();
    // By its number: before a function that does not return, the sanitizers make a call of their own, and the
    // filter would end us for it.
    if (child == 0) ::syscall(SYS_exit_group, body());
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// The line that did not hold is the exit status.
#define HOLDS(condition)                                                                                     \
    if (!(condition)) return __LINE__ % 200 + 1

int open_raw(int folder, const char* name, uint64_t flags, uint64_t resolve = 0) {
    open_how how{};
    how.flags = flags;
    how.mode = flags & O_CREAT ? 0666 : 0;
    how.resolve = resolve;
    auto fd = static_cast<int>(::syscall(SYS_openat2, folder, name, &how, sizeof how));
    return fd < 0 ? -errno : fd;
}

// As cage leaves it: a share that everybody may write, below a folder that only its owner may enter.
struct JailTest : testing::Test {
    FsTestFolder writable, read_only;

    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        ::umask(0);
        for (auto* folder : {&writable, &read_only}) ::chmod(folder->path.c_str(), 0700);
        std::ofstream(writable.path + "/secret") << "secret";
        std::ofstream(read_only.at("data")) << "data";
        ::chmod(read_only.at("data").c_str(), 0666);
    }
    // Enters the jail; then `body` runs with both guests, under the device thread's filter if so told.
    template <typename Body>
    int jailed(bool filtered, Body body) {
        return in_child([&] {
            FsTestGuest rw(writable.open(), true), ro(read_only.open(), false);
            Fd rw_folder = writable.open(), ro_folder = read_only.open();
            JailOptions jail{.uid = kUid,
                             .folders = {{.descriptor = rw_folder.get(), .writable = true},
                                         {.descriptor = ro_folder.get(), .writable = false}}};
            auto filter = device_filter(jail);
            HOLDS(filter);
            auto entered = enter_jail(jail);
            if (!entered) (void)!::write(2, entered.error().message.data(), entered.error().message.size());
            HOLDS(entered);
            if (filtered) HOLDS(filter->install() == 0);
            return body(rw, ro, rw_folder.get(), ro_folder.get());
        });
    }
};

TEST_F(JailTest, SharesWorkInTheJail) {
    EXPECT_EQ(
        jailed(true,
               [](FsTestGuest& rw, FsTestGuest& ro, int, int) {
                   HOLDS(rw.init().error == 0 && ro.init().error == 0);
                   uint64_t d = rw.mkdir(kRootNode, "d").as<fuse_entry_out>().nodeid;
                   auto file = rw.create(d, "file", O_RDWR, 0755);
                   HOLDS(file.error == 0);
                   uint64_t handle = FsTestGuest::created_handle(file);
                   HOLDS(rw.write(handle, 0, "from the jail").error == 0);
                   HOLDS(rw.read(handle, 5, 100).payload == "the jail");
                   uint64_t node = file.as<fuse_entry_out>().nodeid;
                   HOLDS(rw.set(node, {.valid = FATTR_MODE | FATTR_MTIME, .mtime = 1, .mode = 0}).error == 0);
                   HOLDS(rw.set(node, {.valid = FATTR_SIZE, .size = 4}).error == 0);
                   HOLDS(rw.ask(FUSE_FSYNC, 0, FsTestGuest::raw(fuse_fsync_in{.fh = handle})).error == 0);
                   HOLDS(
                       rw.ask(FUSE_FSYNC, 0, FsTestGuest::raw(fuse_fsync_in{.fh = handle, .fsync_flags = 1}))
                           .error == 0);
                   HOLDS(rw.ask(FUSE_FALLOCATE, 0,
                                FsTestGuest::raw(fuse_fallocate_in{.fh = handle, .length = 8192}))
                             .error == 0);
                   HOLDS(rw.ask(FUSE_LSEEK, 0,
                                FsTestGuest::raw(fuse_lseek_in{.fh = handle, .whence = SEEK_HOLE}))
                             .error == 0);
                   HOLDS(rw.ask(FUSE_STATFS, kRootNode, "").error == 0);
                   HOLDS(rw.release(handle).error == 0);
                   HOLDS(rw.rename(d, "file", kRootNode, "up").error == 0); // between folders
                   HOLDS(rw.ask(FUSE_RMDIR, kRootNode, FsTestGuest::named("d")).error == 0);
                   uint64_t listing = rw.open_folder(kRootNode).as<fuse_open_out>().fh;
                   HOLDS(rw.read(listing, 0, 4096, FUSE_READDIRPLUS).payload.contains("up"));
                   HOLDS(rw.ask(FUSE_FSYNCDIR, 0, FsTestGuest::raw(fuse_fsync_in{.fh = listing})).error == 0);
                   HOLDS(rw.create(kRootNode, "temporary").error == 0);
                   HOLDS(rw.unlink(kRootNode, "temporary").error == 0);
                   uint64_t data = ro.open(ro.node("data"), O_RDONLY).as<fuse_open_out>().fh;
                   HOLDS(ro.read(data, 0, 100).payload == "data");
                   return 0;
               }),
        0);
    struct stat status{};
    ASSERT_EQ(::stat(writable.at("up").c_str(), &status), 0);
    EXPECT_EQ(status.st_uid, kUid);
    EXPECT_EQ(status.st_mode, S_IFREG | 0666u);
    EXPECT_EQ(status.st_size, 8192);
}

TEST_F(JailTest, TheQuotaIsCountedInTheJail) {
    std::filesystem::create_directories(writable.at("a/b"));
    std::filesystem::permissions(writable.at("a/b"), std::filesystem::perms::all);
    EXPECT_EQ(jailed(true,
                     [&](FsTestGuest&, FsTestGuest&, int rw, int) {
                         FsTestGuest limited(Fd(rw), true, {.most_bytes = 4096, .most_files = 3});
                         HOLDS(limited.init().error == 0);
                         HOLDS(limited.create(limited.node("a/b"), "c").error == 0);
                         HOLDS(limited.create(kRootNode, "d").error == ENOSPC);
                         return 0;
                     }),
              0);
}

// A VM process that has been taken over, and makes system calls of its own.
TEST_F(JailTest, LandlockHoldsWithoutTheDevice) {
    EXPECT_EQ(jailed(false,
                     [](FsTestGuest&, FsTestGuest&, int rw, int ro) {
                         HOLDS(open_raw(rw, "new", O_WRONLY | O_CREAT) >= 0);
                         HOLDS(open_raw(ro, "data", O_RDONLY) >= 0);
                         HOLDS(open_raw(ro, "data", O_WRONLY) == -EACCES);
                         HOLDS(open_raw(ro, "data", O_RDONLY | O_TRUNC) == -EACCES);
                         HOLDS(open_raw(ro, "new", O_WRONLY | O_CREAT) == -EACCES);
                         HOLDS(::unlinkat(ro, "data", 0) < 0 && errno == EACCES);
                         HOLDS(::mkdirat(ro, "new", 0777) < 0 && errno == EACCES);
                         HOLDS(::renameat(rw, "new", ro, "new") < 0); // EXDEV or EACCES
                         HOLDS(::linkat(ro, "data", rw, "data", 0) < 0);
                         // No way up, whoever may enter the folder above.
                         HOLDS(open_raw(rw, "../secret", O_RDONLY) == -EACCES);
                         HOLDS(open_raw(rw, "..", O_RDONLY | O_DIRECTORY) == -EACCES);
                         HOLDS(open_raw(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY) == -EACCES);
                         // Nothing that another reader of the folder would fall for.
                         HOLDS(::symlinkat("/etc/passwd", rw, "link") < 0 && errno == EACCES);
                         HOLDS(::mknodat(rw, "pipe", S_IFIFO | 0666, 0) < 0 && errno == EACCES);
                         HOLDS(::mknodat(rw, "socket", S_IFSOCK | 0666, 0) < 0 && errno == EACCES);
                         HOLDS(::mknodat(rw, "device", S_IFCHR | 0666, makedev(1, 3)) < 0);
                         return 0;
                     }),
              0);
}

TEST_F(JailTest, TheFilterHasNoOtherWayToAFile) {
    auto killed_by = [&](auto call) {
        return jailed(true, [&](FsTestGuest&, FsTestGuest&, int rw, int) {
            call(rw);
            return 0;
        });
    };
    EXPECT_EQ(killed_by([](int rw) { ::openat(rw, "x", O_RDONLY); }), -SIGSYS);
    EXPECT_EQ(killed_by([](int rw) { ::symlinkat("x", rw, "y"); }), -SIGSYS);
    EXPECT_EQ(killed_by([](int rw) { ::mknodat(rw, "x", S_IFIFO | 0666, 0); }), -SIGSYS);
    EXPECT_EQ(killed_by([](int rw) { ::fchownat(rw, "x", 0, 0, 0); }), -SIGSYS);
    EXPECT_EQ(killed_by([](int) { ::chdir("/"); }), -SIGSYS);
    EXPECT_EQ(killed_by([](int) { ::socket(AF_INET, SOCK_STREAM, 0); }), -SIGSYS);
}

TEST_F(JailTest, WithoutSharesNoFileCallIsLeft) {
    auto run = [&](std::vector<JailOptions::Folder> folders, auto call) {
        return in_child([&] {
            Fd folder = writable.open();
            JailOptions jail{.uid = kUid, .folders = std::move(folders)};
            for (auto& each : jail.folders) each.descriptor = folder.get();
            auto filter = device_filter(jail);
            HOLDS(filter && enter_jail(jail) && filter->install() == 0);
            call(folder.get());
            return 0;
        });
    };
    auto opens = [](int folder) { open_raw(folder, "x", O_RDONLY); };
    auto makes = [](int folder) { ::mkdirat(folder, "x", 0777); };
    EXPECT_EQ(run({}, opens), -SIGSYS);
    EXPECT_EQ(run({{-1, false}}, opens), 0);
    EXPECT_EQ(run({{-1, false}}, makes), -SIGSYS);
    EXPECT_EQ(run({{-1, true}}, makes), 0);
}

TEST_F(JailTest, OfIoctlsOnlyTheTapsOffloadsAndOnlyWithATap) {
    auto run = [&](bool has_net, unsigned long request) {
        return in_child([&] {
            JailOptions jail{.uid = kUid, .has_net = has_net};
            auto filter = device_filter(jail);
            HOLDS(filter && enter_jail(jail) && filter->install() == 0);
            ::ioctl(0, request, 0);
            return 0;
        });
    };
    EXPECT_EQ(run(true, TUNSETOFFLOAD), 0);
    EXPECT_EQ(run(true, TUNSETIFF), -SIGSYS);
    EXPECT_EQ(run(false, TUNSETOFFLOAD), -SIGSYS);
}
} // namespace

} // namespace nullbox::cage
