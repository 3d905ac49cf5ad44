// A shared folder as a Linux kernel uses it: the kernel's own FUSE client is mounted over /dev/fuse, and each
// of its requests goes through the device's queue. What differs from a guest is the way of the bytes only.
#include <csignal>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "cage/vmm/fs_test_guest.h"

namespace nullbox::cage {

namespace {
// Passes requests on until the file system is unmounted.
void serve_kernel(int fuse, FsTestGuest& guest) {
    constexpr uint64_t kRequest = 0x10000, kAnswer = 0x100000, kRoom = 0x90000;
    std::vector<std::byte> bytes(kRoom);
    for (;;) {
        ssize_t count = ::read(fuse, bytes.data(), bytes.size());
        if (count < 0 && (errno == EINTR || errno == ENOENT)) continue;
        if (count <= 0) return;
        auto length = static_cast<uint32_t>(count);
        std::memcpy(guest.memory.memory.range(kRequest, length)->data(), bytes.data(), length);
        uint32_t opcode = guest.driver->get<fuse_in_header>(kRequest).opcode;
        bool silent = opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
        std::vector<TestBuffer> buffers{{kRequest, length}};
        if (!silent) buffers.push_back({kAnswer, kRoom, true});
        guest.driver->add(buffers);
        guest.device->process(guest.queues);
        CHECK(guest.queues[1].fault() == nullptr && guest.driver->has_used());
        uint32_t written = guest.driver->take_used().written;
        if (!silent && opcode != FUSE_INTERRUPT)
            (void)!::write(fuse, guest.memory.memory.range(kAnswer, written)->data(), written);
    }
}

// The line that did not hold is the exit status.
#define HOLDS(condition)                                                                                     \
    if (!(condition)) return report(__LINE__, #condition)

int report(int line, const char* what) {
    std::fprintf(stderr, "line %d: %s (%s)\n", line, what, std::strerror(errno));
    return 1;
}

int use_files(const std::string& at) {
    struct stat status{};
    char text[16] = {};
    Fd file(::open((at + "/file").c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0755));
    HOLDS(file);
    HOLDS(::write(file.get(), "hello", 5) == 5);
    HOLDS(::pwrite(file.get(), "J", 1, 0) == 1);
    HOLDS(::fstat(file.get(), &status) == 0 && status.st_size == 5 && status.st_mode == (S_IFREG | 0777));
    HOLDS(status.st_uid == 1000 && status.st_gid == 1001);
    HOLDS(::rename((at + "/file").c_str(), (at + "/other").c_str()) == 0);
    HOLDS(::stat((at + "/file").c_str(), &status) < 0 && errno == ENOENT);
    HOLDS(::unlink((at + "/other").c_str()) == 0);
    // Longer than the kernel believes what it was told: it asks again for a file that has no name.
    ::usleep(1'100'000);
    HOLDS(::fstat(file.get(), &status) == 0 && status.st_size == 5);
    HOLDS(::pread(file.get(), text, sizeof text, 0) == 5 && std::string_view(text) == "Jello");
    HOLDS(::ftruncate(file.get(), 3) == 0 && ::fsync(file.get()) == 0);
    HOLDS(::fstat(file.get(), &status) == 0 && status.st_size == 3);
    return 0;
}

int use_folders(const std::string& at) {
    struct stat status{};
    HOLDS(::mkdir((at + "/d").c_str(), 0700) == 0);
    HOLDS(::mkdir((at + "/d").c_str(), 0700) < 0 && errno == EEXIST);
    for (int i = 0; i < 500; ++i) {
        Fd file(::open(cat(at, "/d/f", i).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
        HOLDS(file && ::write(file.get(), "content", 7) == 7);
    }
    DIR* folder = ::opendir((at + "/d").c_str());
    HOLDS(folder);
    int found = 0;
    while (auto* entry = ::readdir(folder))
        if (::stat(cat(at, "/d/", std::string_view(entry->d_name)).c_str(), &status) == 0) ++found;
    ::closedir(folder);
    HOLDS(found == 502);
    HOLDS(::rmdir((at + "/d").c_str()) < 0 && errno == ENOTEMPTY);
    HOLDS(::symlink("x", (at + "/link").c_str()) < 0 && errno == EPERM);
    HOLDS(::link((at + "/d/f1").c_str(), (at + "/second").c_str()) < 0 && errno == EPERM);
    HOLDS(::mkfifo((at + "/pipe").c_str(), 0666) < 0 && errno == EPERM);
    HOLDS(::chown((at + "/d/f1").c_str(), 0, 0) < 0 && errno == EPERM);
    HOLDS(::chmod((at + "/d/f1").c_str(), 0755) == 0);
    HOLDS(::stat((at + "/d/f1").c_str(), &status) == 0 && status.st_mode == (S_IFREG | 0777));
    HOLDS(::access((at + "/hidden").c_str(), F_OK) < 0 && errno == ENOENT);
    return 0;
}

int use_much_data(const std::string& at) {
    std::string block(1 << 20, 'z');
    Fd file(::open((at + "/big").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    for (int i = 0; i < 16; ++i) HOLDS(::write(file.get(), block.data(), block.size()) == 1 << 20);
    Fd again(::open((at + "/big").c_str(), O_RDONLY | O_CLOEXEC)); // and the pages are read anew
    std::string back(block.size(), '\0');
    for (int i = 0; i < 16; ++i)
        HOLDS(::read(again.get(), back.data(), back.size()) == 1 << 20 && back == block);
    HOLDS(::fallocate(file.get(), 0, 0, 20 << 20) == 0);
    HOLDS(::lseek(file.get(), 0, SEEK_HOLE) >= 16 << 20);
    struct statfs space{};
    HOLDS(::statfs(at.c_str(), &space) == 0 && space.f_blocks == (64u << 20) / 4096);
    HOLDS(::ftruncate(file.get(), 65 << 20) < 0 && errno == ENOSPC);
    // A program from the share, mapped and run.
    auto program = read_file("/bin/true", 4 << 20);
    HOLDS(program);
    Fd copy(::open((at + "/true").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0700));
    HOLDS(write_all(copy.get(), *program));
    copy.reset();
    pid_t child = ::fork();
    if (child == 0) {
        ::execl((at + "/true").c_str(), "true", nullptr);
        ::_exit(99);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    HOLDS(status == 0);
    return 0;
}

int mount_and_use(const FsTestFolder& folder) {
    HOLDS(::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    ::umask(0);
    FsTestGuest guest(folder.open(), true, {.most_bytes = 64 << 20, .most_files = 1000});
    int fuse = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
    HOLDS(fuse >= 0);
    auto at = folder.path + "/mount";
    HOLDS(::mkdir(at.c_str(), 0755) == 0);
    auto options = cat("fd=", fuse, ",rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions");
    HOLDS(::mount("work", at.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) == 0);
    std::thread server([&] { serve_kernel(fuse, guest); });
    int failed = use_files(at);
    if (!failed) failed = use_folders(at);
    if (!failed) failed = use_much_data(at);
    HOLDS(::umount(at.c_str()) == 0 || failed);
    if (failed) ::_exit(failed); // whatever is still open keeps the mount
    server.join();
    HOLDS(guest.device->operations().handles() == 0);
    return 0;
}
} // namespace

TEST(FsKernel, ALinuxClientWorksOnAShare) {
    if (::access("/dev/fuse", R_OK | W_OK) < 0 || ::geteuid() != 0)
        GTEST_SKIP() << "needs root and /dev/fuse";
    FsTestFolder folder;
    ASSERT_EQ(::symlink("/etc/passwd", folder.at("hidden").c_str()), 0);
    pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        ::_exit(mount_and_use(folder));
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(*read_file(folder.at("d/f7")), "content");
}

} // namespace nullbox::cage
