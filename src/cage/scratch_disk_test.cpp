// A scratch disk's file system, judged by e2fsck, which shares no code with what wrote it; the guest's kernel
// judges it in tests/cage.
#include "cage/scratch_disk.h"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "cage/empty_ext4.h"

namespace nullbox::cage {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kMb = uint64_t{1} << 20;

class ScratchTest : public testing::Test {
protected:
    void SetUp() override { fs::create_directories(folder_); }
    void TearDown() override { fs::remove_all(folder_); }
    // Sparse, so that a disk of a terabyte is a few blocks.
    std::string image_of(uint64_t bytes) {
        auto path = folder_ + "/disk";
        Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
        for (const Extent& extent : empty_ext4(bytes))
            EXPECT_EQ(::pwrite(file.get(), extent.bytes.data(), extent.bytes.size(),
                               static_cast<off_t>(extent.offset)),
                      static_cast<ssize_t>(extent.bytes.size()));
        return path;
    }
    std::string said() { return read_file(folder_ + "/said").value_or("nothing"); }
    int run(const std::string& command) {
        int status =
            std::system(cat("PATH=$PATH:/usr/sbin:/sbin; ", command, " >", folder_, "/said 2>&1").c_str());
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    std::string folder_ = cat(testing::TempDir(), "scratch_", ::getpid());
};

TEST_F(ScratchTest, E2fsckFindsNothingWrong) {
    for (uint64_t megabytes :
         std::initializer_list<uint64_t>{16, 17, 100, 127, 128, 129, 131, 256, 1000, 4097, 70'001, 1 << 20}) {
        auto path = image_of(megabytes * kMb);
        EXPECT_EQ(run(cat("e2fsck -fn ", path)), 0) << megabytes << " MB: " << said();
    }
}

TEST_F(ScratchTest, OnlyAFewBlocksAreWritten) {
    auto path = image_of(64 * 1024 * kMb);
    struct stat info{};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_LE(info.st_blocks * 512, 64 << 10);
}

TEST_F(ScratchTest, AnotherToolFillsItAndItIsStillRight) {
    auto path = image_of(200 * kMb);
    std::ofstream(folder_ + "/big") << std::string(150 * kMb, 'x'); // more than one group
    ASSERT_EQ(run(cat("debugfs -w -R 'write ", folder_, "/big big' ", path)), 0) << said();
    ASSERT_EQ(run(cat("debugfs -R 'dump big ", folder_, "/back' ", path)), 0) << said();
    EXPECT_EQ(run(cat("cmp ", folder_, "/big ", folder_, "/back")), 0) << said();
    EXPECT_EQ(run(cat("e2fsck -fn ", path)), 0) << said();
}

TEST_F(ScratchTest, ItHasNoNameAndItsSpaceIsTaken) {
    auto file = make_scratch_file(folder_, 32 * kMb);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_TRUE(fs::is_empty(folder_));
    struct stat info{};
    ASSERT_EQ(::fstat(file->get(), &info), 0);
    EXPECT_EQ(info.st_nlink, 0u);
    EXPECT_EQ(info.st_size, static_cast<off_t>(32 * kMb));
    EXPECT_GE(info.st_blocks * 512, static_cast<off_t>(32 * kMb));
    // Nor can it get one.
    EXPECT_LT(::linkat(AT_FDCWD, cat("/proc/self/fd/", file->get()).c_str(), AT_FDCWD,
                       (folder_ + "/name").c_str(), AT_SYMLINK_FOLLOW),
              0);
}

TEST_F(ScratchTest, MoreThanThereIsIsRefusedWithTheRemedy) {
    auto space = fs::space(folder_);
    if (space.available / kMb >= kMostExt4Bytes / kMb)
        GTEST_SKIP() << "a file system with more than a terabyte free";
    auto file = make_scratch_disk(folder_, 1 << 20);
    ASSERT_FALSE(file);
    EXPECT_TRUE(file.error().message.contains("lower scratch_mb") ||
                file.error().message.contains("needs a data partition"))
        << file.error().message;
}

TEST_F(ScratchTest, ATmpfsIsRefused) {
    auto file = make_scratch_disk(cat("/dev/shm/scratch_", ::getpid()), 16);
    fs::remove_all(cat("/dev/shm/scratch_", ::getpid()));
    ASSERT_FALSE(file);
    EXPECT_TRUE(file.error().message.contains("needs a data partition")) << file.error().message;
}

} // namespace
} // namespace nullbox::cage
