#include "cage/uploads.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "cage/catalogue.h"
#include "cage/sha256.h"

namespace nullbox::cage {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr std::string_view kManifest =
    "[agent]\nname = \"new\"\nversion = \"1\"\nimage = \"i\"\ncommand = [\"/x\"]\n";

std::string sha256(std::string_view text) {
    Sha256 digest;
    digest.update(std::as_bytes(std::span(text)));
    return digest.finish_hex();
}

// A SquashFS by its superblock, as long as that says.
std::string image(size_t bytes) {
    std::string text(bytes, '\x5a');
    text.replace(0, 4, "hsqs");
    std::fill(text.begin() + 28, text.begin() + 48, '\0');
    text[20] = 6; // zstd
    text[21] = '\0';
    text[28] = 4;
    for (size_t i = 0; i < 8; i++) text[40 + i] = static_cast<char>(bytes >> (8 * i) & 0xff);
    return text;
}

class UploadsTest : public testing::Test {
protected:
    void SetUp() override {
        for (const char* folder : {"/images", "/agents", "/fixed"}) fs::create_directories(root_ + folder);
        remake();
    }
    void TearDown() override {
        uploads_.reset();
        fs::remove_all(root_);
    }
    void remake() {
        uploads_ = std::make_unique<Uploads>(*loop_, UploadPlaces{.image_folder = root_ + "/images",
                                                                  .agent_folder = root_ + "/agents",
                                                                  .fixed_image_folders = {root_ + "/fixed"},
                                                                  .fixed_agent_folders = {root_ + "/fixed"},
                                                                  .patience = patience_});
    }
    Result<Uploads::Begun> begin(UploadKind kind, std::string_view text, std::string name = "new") {
        return uploads_->begin(
            {.kind = kind, .name = std::move(name), .size_bytes = text.size(), .sha256 = sha256(text)});
    }
    void turn(int rounds = 20) {
        for (int i = 0; i < rounds; i++) EXPECT_TRUE(loop_->run_once(1ms));
    }
    // Everything into the pipe, while the other side takes it.
    void send(Fd& end, std::string_view text) {
        ASSERT_TRUE(set_nonblocking(end.get()));
        while (!text.empty()) {
            ssize_t count = ::write(end.get(), text.data(), text.size());
            if (count > 0) text.remove_prefix(static_cast<size_t>(count));
            EXPECT_TRUE(loop_->run_once(0ms));
        }
    }
    std::string commit(uint64_t number) {
        std::optional<Result<>> answer;
        uploads_->commit(number, [&](Result<> done) { answer = std::move(done); });
        for (int i = 0; i < 200 && !answer; i++) turn(1);
        return !answer ? "no answer" : *answer ? "ok" : answer->error().message;
    }
    std::string upload(UploadKind kind, std::string_view text, std::string name = "new") {
        auto begun = begin(kind, text, std::move(name));
        if (!begun) return begun.error().message;
        send(begun->write_end, text);
        begun->write_end.reset();
        return commit(begun->number);
    }
    std::vector<std::string> files() {
        std::vector<std::string> names;
        for (const char* folder : {"/images", "/agents"})
            for (const auto& entry : fs::directory_iterator(root_ + folder))
                names.push_back(entry.path().filename());
        std::ranges::sort(names);
        return names;
    }
    std::string root_ = cat(testing::TempDir(), "uploads_", ::getpid());
    std::unique_ptr<Loop> loop_ = *Loop::make();
    std::chrono::milliseconds patience_{30'000};
    std::unique_ptr<Uploads> uploads_;
};

// Control: put_in_place(). An agent's files that are the same are no reason to start it anew.
TEST_F(UploadsTest, TheSameFilesStayTheFileTheyAre) {
    auto stamp = [&] {
        struct stat facts{};
        EXPECT_EQ(::stat((root_ + "/agents/new.app.img").c_str(), &facts), 0);
        return facts.st_ino;
    };
    auto content = image(200'000);
    EXPECT_EQ(upload(UploadKind::App, content), "ok");
    auto before = stamp();
    EXPECT_EQ(upload(UploadKind::App, content), "ok");
    EXPECT_EQ(stamp(), before);
    content[150'000] = 'z';
    EXPECT_EQ(upload(UploadKind::App, content), "ok");
    EXPECT_NE(stamp(), before);
    EXPECT_EQ(*read_file(root_ + "/agents/new.app.img"), content);
    EXPECT_EQ(files(), std::vector<std::string>{"new.app.img"});
}

TEST_F(UploadsTest, EachKindHasItsPlace) {
    auto large = image(3 << 20);
    EXPECT_EQ(upload(UploadKind::Image, large, "python"), "ok");
    EXPECT_EQ(upload(UploadKind::App, image(5000)), "ok");
    EXPECT_EQ(upload(UploadKind::Manifest, kManifest), "ok");
    EXPECT_EQ(files(), (std::vector<std::string>{"new.app.img", "new.toml", "python.img"}));
    EXPECT_EQ(*read_file(root_ + "/images/python.img", 8 << 20), large);
}

TEST_F(UploadsTest, AReplacedOneIsReplacedWhole) {
    EXPECT_EQ(upload(UploadKind::App, image(5000)), "ok");
    EXPECT_EQ(upload(UploadKind::App, image(9000)), "ok");
    EXPECT_EQ(fs::file_size(root_ + "/agents/new.app.img"), 9000U);
    EXPECT_EQ(files().size(), 1U);
}

TEST_F(UploadsTest, WhatIsWrongLeavesTheOldOneAndNothingElse) {
    ASSERT_EQ(upload(UploadKind::App, image(5000)), "ok");
    auto begun = *begin(UploadKind::App, image(6000));
    send(begun.write_end, image(6000).replace(100, 1, "!"));
    EXPECT_TRUE(commit(begun.number).starts_with("its SHA-256 is "));
    EXPECT_EQ(upload(UploadKind::App, "no image at all"),
              "neither SquashFS nor EROFS: make it with mksquashfs or mkfs.erofs");
    EXPECT_TRUE(upload(UploadKind::App, image(6000).substr(0, 3000)).starts_with("truncated: "));
    EXPECT_TRUE(upload(UploadKind::Manifest, "[agent]\nname = 1\n").contains("new.toml:2:8: agent.name: "));
    EXPECT_TRUE(upload(UploadKind::Manifest, kManifest, "other").contains("must be the file's name"));
    auto hides = cat(kManifest, "[capabilities.filesystem]\nread = [\"/etc\"]\n");
    EXPECT_TRUE(upload(UploadKind::Manifest, hides).contains("would hide part of the guest's system"));
    EXPECT_EQ(files(), std::vector<std::string>{"new.app.img"});
    EXPECT_EQ(fs::file_size(root_ + "/agents/new.app.img"), 5000U);
}

TEST_F(UploadsTest, MoreOrLessThanAnnounced) {
    auto begun = *begin(UploadKind::App, image(5000));
    send(begun.write_end, image(5000) + "x");
    EXPECT_EQ(commit(begun.number), "more than the 5000 bytes that were announced");
    begun = *begin(UploadKind::App, image(5000));
    send(begun.write_end, image(5000).substr(0, 4000));
    begun.write_end.reset();
    turn();
    EXPECT_TRUE(files().empty()) << "cut off: gone before anybody commits";
    EXPECT_EQ(commit(begun.number), "ended after 4000 of 5000 bytes: send it again");
    EXPECT_EQ(commit(begun.number),
              cat("there is no upload ", begun.number, ": it was given up, or another cage began it"));
}

TEST_F(UploadsTest, ACommitWaitsForWhatIsStillInThePipe) {
    auto begun = *begin(UploadKind::App, image(5000));
    std::optional<Result<>> answer;
    uploads_->commit(begun.number, [&](Result<> done) { answer = std::move(done); });
    turn();
    EXPECT_FALSE(answer);
    send(begun.write_end, image(5000));
    turn();
    ASSERT_TRUE(answer);
    EXPECT_TRUE(*answer) << "the pipe may still be open: all that was announced is there";
}

TEST_F(UploadsTest, ASenderThatSleepsLosesItsPlace) {
    patience_ = 30ms;
    remake();
    auto begun = *begin(UploadKind::App, image(5000));
    EXPECT_EQ(files().size(), 1U);
    for (int i = 0; i < 100 && !files().empty(); i++) turn(1);
    EXPECT_TRUE(files().empty());
    EXPECT_TRUE(commit(begun.number).starts_with("there is no upload"));
}

TEST_F(UploadsTest, AtMostSoManyAndSoLarge) {
    std::vector<Uploads::Begun> kept;
    for (size_t i = 0; i < kMostUploads; i++)
        kept.push_back(*begin(UploadKind::App, image(5000), cat("n", i)));
    EXPECT_TRUE(begin(UploadKind::App, image(5000)).error().message.contains("the most at a time"));
    ASSERT_TRUE(uploads_->abort(kept[0].number));
    EXPECT_FALSE(uploads_->abort(kept[0].number));
    EXPECT_EQ(files().size(), kMostUploads - 1);
    EXPECT_TRUE(begin(UploadKind::App, image(5000)));
    remake();
    EXPECT_TRUE(files().empty()) << "they go with cage";
    auto refused = [&](const UploadRequest& request) {
        auto begun_one = uploads_->begin(request);
        return begun_one ? std::string("begun") : begun_one.error().message;
    };
    EXPECT_EQ(refused({.kind = UploadKind::Manifest, .name = "n", .size_bytes = kMaxManifestBytes + 1}),
              cat("it has ", kMaxManifestBytes + 1, " bytes, at most ", kMaxManifestBytes));
    EXPECT_EQ(refused({.name = "n", .size_bytes = 0}), "it is empty");
    EXPECT_TRUE(
        refused({.name = "n", .size_bytes = uint64_t{8} << 30}).starts_with("no room: needs 8192 MB") ||
        fs::space(root_).available > uint64_t{9} << 30);
}

TEST_F(UploadsTest, WhatIsPartOfTheSystemImageIsNotHidden) {
    std::ofstream(root_ + "/fixed/new.toml") << kManifest;
    std::ofstream(root_ + "/fixed/python.img") << "x";
    EXPECT_TRUE(upload(UploadKind::Manifest, kManifest).contains("agent new is part of the system image"));
    EXPECT_TRUE(upload(UploadKind::App, image(5000)).contains("agent new is part of the system image"));
    EXPECT_TRUE(upload(UploadKind::Image, image(5000), "python").contains("image python is part of"));
    EXPECT_EQ(upload(UploadKind::App, image(5000), "python"), "ok") << "an agent and an image are two things";
}

TEST_F(UploadsTest, LeftoversOfACrashAreRemoved) {
    std::ofstream(root_ + "/agents/.upload-7") << "half";
    std::ofstream(root_ + "/images/.upload-1") << "half";
    std::ofstream(root_ + "/images/kept.img") << "x";
    EXPECT_TRUE(uploads_->clean_up());
    EXPECT_EQ(files(), std::vector<std::string>{"kept.img"});
}

TEST_F(UploadsTest, ATemporaryNameThatIsALinkIsNotFollowed) {
    fs::create_symlink(root_ + "/elsewhere", root_ + "/agents/.upload-1");
    EXPECT_FALSE(begin(UploadKind::App, image(5000)));
    EXPECT_FALSE(fs::exists(root_ + "/elsewhere"));
}

// FIPS 180-4's examples, and one of many pieces.
TEST(Sha256, Examples) {
    EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    Sha256 digest;
    std::string piece(1000, 'a');
    for (int i = 0; i < 1000; i++) digest.update(std::as_bytes(std::span(piece)));
    EXPECT_EQ(digest.finish_hex(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

} // namespace
} // namespace nullbox::cage
