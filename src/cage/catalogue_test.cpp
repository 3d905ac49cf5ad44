#include "cage/catalogue.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::cage {
namespace {

constexpr std::string_view kRight =
    "[agent]\nname = \"NAME\"\nversion = \"1\"\nimage = \"i\"\ncommand = [\"/x\"]\n";

class CatalogueTest : public testing::Test {
protected:
    void SetUp() override {
        root_ = cat(testing::TempDir(), "catalogue_", ::getpid());
        for (const char* folder : {"/a", "/b"}) ASSERT_TRUE(make_directories(root_ + folder));
    }
    void TearDown() override { std::filesystem::remove_all(root_); }
    void put(const std::string& path, std::string text) {
        auto name = std::filesystem::path(path).stem().string();
        if (auto at = text.find("NAME"); at != std::string::npos) text.replace(at, 4, name);
        ASSERT_TRUE(write_file_atomic(cat(root_, "/", path), text, 0644));
    }
    std::vector<CatalogueEntry> read() {
        return read_catalogue({root_ + "/a", root_ + "/missing", root_ + "/b"});
    }
    std::string root_;
};

TEST_F(CatalogueTest, SortedWithAppImages) {
    put("a/zeta.toml", std::string(kRight));
    put("a/alpha.toml", std::string(kRight));
    put("a/notes.txt", "not an agent");
    put("b/beta.toml", std::string(kRight));
    put("b/beta.app.img", "x");
    auto entries = read();
    ASSERT_EQ(entries.size(), 3U);
    EXPECT_EQ(entries[0].name, "alpha");
    EXPECT_EQ(entries[1].name, "zeta");
    EXPECT_EQ(entries[2].name, "beta");
    EXPECT_EQ(entries[0].app_image_path, "");
    EXPECT_EQ(entries[2].app_image_path, root_ + "/b/beta.app.img");
    for (const auto& entry : entries) EXPECT_TRUE(entry.manifest) << entry.diagnostics;
}

TEST_F(CatalogueTest, AWrongManifestLeavesTheOthersAlone) {
    put("a/good.toml", std::string(kRight));
    put("a/bad.toml", "[agent]\nnmae = \"bad\"\n");
    put("a/other-name.toml", "[agent]\nname = \"x\"\nversion = \"1\"\nimage = \"i\"\ncommand = [\"/x\"]\n");
    put("a/huge.toml", std::string(300 << 10, '#'));
    auto entries = read();
    ASSERT_EQ(entries.size(), 4U);
    EXPECT_FALSE(entries[0].manifest);
    EXPECT_NE(entries[0].diagnostics.find("bad.toml"), std::string::npos) << entries[0].diagnostics;
    EXPECT_TRUE(entries[1].manifest);
    EXPECT_FALSE(entries[2].manifest);
    EXPECT_FALSE(entries[3].manifest) << "the name must be the file's";
}

TEST_F(CatalogueTest, ADuplicateIsReportedAndTheFirstCounts) {
    put("a/twin.toml", std::string(kRight));
    put("b/twin.toml", std::string(kRight));
    auto entries = read();
    ASSERT_EQ(entries.size(), 1U);
    EXPECT_EQ(entries[0].manifest_path, root_ + "/a/twin.toml");
    EXPECT_NE(entries[0].diagnostics.find("defined twice"), std::string::npos);
}

} // namespace
} // namespace nullbox::cage
