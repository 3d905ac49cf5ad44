#include "cage/shares.h"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::cage {
namespace {

namespace fs = std::filesystem;

class SharesTest : public testing::Test {
protected:
    void TearDown() override { fs::remove_all(root_); }
    unsigned mode(const std::string& path) {
        struct stat info{};
        EXPECT_EQ(::stat((root_ + path).c_str(), &info), 0) << path;
        return info.st_mode & 07777;
    }
    std::string root_ = cat(testing::TempDir(), "shares_", ::getpid());
    manifest::AgentManifest manifest_{.name = "t", .uid = 7};
};

TEST_F(SharesTest, FoldersAreMadeForAllBelowARootForCage) {
    manifest_.read_paths = {"/data/reports", "/notes"};
    manifest_.write_paths = {"/data"};
    auto shares = open_shares(root_, manifest_);
    ASSERT_TRUE(shares) << shares.error().message;
    ASSERT_EQ(shares->size(), 3U);
    EXPECT_EQ((*shares)[0].guest,
              (guest_link::StartShare{.tag = "share0", .path = "/data", .read_only = false}));
    EXPECT_EQ((*shares)[1].guest,
              (guest_link::StartShare{.tag = "share1", .path = "/data/reports", .read_only = true}));
    EXPECT_EQ((*shares)[2].vm.guest_uid, 7U);
    EXPECT_STREQ((*shares)[2].vm.tag, "share2");
    EXPECT_EQ((*shares)[0].vm.read_only, 0U);
    EXPECT_EQ((*shares)[1].vm.read_only, 1U);
    EXPECT_GT((*shares)[0].vm.most_bytes, 0U);
    EXPECT_EQ(mode(""), 0700U);
    EXPECT_EQ(mode("/data"), 0777U);
    EXPECT_EQ(mode("/data/reports"), 0777U);
    // The descriptors are those folders.
    EXPECT_TRUE(open_beneath((*shares)[1].folder.get(), "x", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    EXPECT_TRUE(fs::exists(root_ + "/data/reports/x"));
    ASSERT_TRUE(open_shares(root_, manifest_)) << "they are there already";
}

TEST_F(SharesTest, AFolderThatIsOnlyOnTheWayIsNotOpenToAll) {
    manifest_.read_paths = {"/a/b"};
    ASSERT_TRUE(open_shares(root_, manifest_));
    EXPECT_EQ(mode("/a"), 0755U);
    EXPECT_EQ(mode("/a/b"), 0777U);
}

TEST_F(SharesTest, WhatAnAgentMadeIsNotFollowed) {
    fs::create_directories(root_ + "/data");
    fs::create_directory_symlink("/etc", root_ + "/data/etc");
    std::ofstream(root_ + "/data/file") << "x";
    for (const char* path : {"/data/etc", "/data/etc/ssl", "/data/file"}) {
        manifest_.read_paths = {path};
        auto shares = open_shares(root_, manifest_);
        ASSERT_FALSE(shares) << path;
        EXPECT_TRUE(shares.error().message.starts_with(cat("shared folder ", path, ": ")))
            << shares.error().message;
    }
}

TEST_F(SharesTest, FoldersThatWouldHideTheSystemAreRefused) {
    for (const char* path : {"/proc", "/sys/x", "/dev", "/app", "/app/data", "/etc", "/usr/local", "/tmp",
                             "/var", "/home", "/run/x", "/lib64"}) {
        manifest_.write_paths = {path};
        EXPECT_TRUE(wrong_shares(manifest_).contains(cat("the folder ", path, " would hide"))) << path;
    }
    manifest_.write_paths = {"/data", "/var/lib/x", "/home/agent", "/tmp/x", "/process", "/application"};
    EXPECT_EQ(wrong_shares(manifest_), "");
    for (int i = 0; i < 3; i++) manifest_.read_paths.push_back(cat("/r", i));
    EXPECT_TRUE(wrong_shares(manifest_).contains("names 9 folders, a VM takes at most 8"));
}

TEST_F(SharesTest, APathInBothListsMayBeWritten) {
    manifest_.read_paths = manifest_.write_paths = {"/data"};
    auto folders = shared_folders(manifest_);
    ASSERT_EQ(folders.size(), 1U);
    EXPECT_FALSE(folders[0].read_only);
}

} // namespace
} // namespace nullbox::cage
