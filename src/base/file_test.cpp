#include "base/file.h"

#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

namespace nullbox {

class File : public ::testing::Test {
protected:
    void SetUp() override {
        char name[] = "/tmp/nullbox-file-test-XXXXXX";
        ASSERT_NE(::mkdtemp(name), nullptr);
        folder_ = name;
    }
    void TearDown() override { (void)!std::system(("rm -r " + folder_).c_str()); }
    std::string folder_;
};

TEST_F(File, AtomicWriteReplacesWhole) {
    std::string path = folder_ + "/a";
    ASSERT_TRUE(write_file_atomic(path, "one", 0600));
    ASSERT_TRUE(write_file_atomic(path, "second", 0600));
    EXPECT_EQ(*read_file(path), "second");
    struct stat status{};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    EXPECT_NE(::access((path + ".new").c_str(), F_OK), 0);
}

TEST_F(File, ReadHasALimit) {
    std::string path = folder_ + "/a";
    ASSERT_TRUE(write_file_atomic(path, "12345", 0600));
    EXPECT_EQ(*read_file(path, 5), "12345");
    auto over = read_file(path, 4);
    ASSERT_FALSE(over.has_value());
    EXPECT_EQ(over.error().code, EFBIG);
    EXPECT_NE(over.error().message.find(path), std::string::npos);
}

TEST_F(File, BeneathRefusesEscapes) {
    ASSERT_TRUE(write_file_atomic(folder_ + "/inside", "x", 0600));
    ASSERT_EQ(::symlink("/etc/passwd", (folder_ + "/link").c_str()), 0);
    Fd directory(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY));
    EXPECT_TRUE(open_beneath(directory.get(), "inside", O_RDONLY).has_value());
    for (const char* escape : {"/etc/passwd", "../../etc/passwd", "link"})
        EXPECT_FALSE(open_beneath(directory.get(), escape, O_RDONLY).has_value()) << escape;
}

TEST_F(File, MakeDirectoriesIsIdempotent) {
    EXPECT_TRUE(make_directories(folder_ + "/a/b/c").has_value());
    EXPECT_TRUE(make_directories(folder_ + "/a/b/c").has_value());
    EXPECT_FALSE(make_directories("/proc/nullbox/x").has_value());
}

} // namespace nullbox
