// Both ends over a socket pair, and a receiver against a sender that means no good.
#include "guest_link/copy_tree.h"

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::guest_link {
namespace {

namespace fs = std::filesystem;

class CopyTree : public testing::Test {
protected:
    void SetUp() override {
        char made[] = "/tmp/nullbox-copy-XXXXXX";
        ASSERT_NE(::mkdtemp(made), nullptr);
        root_ = made;
        fs::create_directories(root_ + "/to");
    }
    void TearDown() override {
        fs::permissions(root_, fs::perms::owner_all);
        fs::remove_all(root_);
    }
    void put(const std::string& path, std::string_view text, mode_t mode = 0644) {
        fs::create_directories(fs::path(root_ + path).parent_path());
        std::ofstream(root_ + path) << text;
        ::chmod((root_ + path).c_str(), mode);
    }
    std::string content(const std::string& path) const {
        return read_file(root_ + path, 64 << 20).value_or("(none)");
    }
    mode_t mode(const std::string& path) const {
        struct stat info{};
        EXPECT_EQ(::lstat((root_ + path).c_str(), &info), 0) << path;
        return info.st_mode & 07777;
    }
    std::vector<std::string> names(const std::string& path) const {
        std::vector<std::string> out;
        for (const auto& entry : fs::recursive_directory_iterator(root_ + path))
            out.push_back(fs::relative(entry.path(), root_ + path));
        std::ranges::sort(out);
        return out;
    }
    // The receiver's result with what the frames say, then the end of the stream.
    Result<> receive(const std::vector<CopyFrame>& frames, Destination to, ReceiveBounds bounds = {}) {
        auto pair = *make_socket_pair(SOCK_STREAM);
        for (const auto& frame : frames) EXPECT_TRUE(write_all(pair.first.get(), *encode(frame)));
        pair.first.reset();
        CopyStream stream(pair.second.get());
        report_ = {};
        return receive_tree(stream, to, bounds, report_,
                            {.skipped = [this](std::string_view path, std::string_view why) {
                                skipped_.push_back(cat(path, ": ", why));
                            }});
    }
    std::string refusal(const std::vector<CopyFrame>& frames, ReceiveBounds bounds = {}) {
        auto done = receive(frames, {.path = root_ + "/to", .name = "x"}, bounds);
        return done ? "taken" : done.error().message;
    }
    Result<> copy(const std::string& from, Destination to, ReceiveBounds bounds = {}) {
        auto pair = *make_socket_pair(SOCK_STREAM);
        CopyReport sent;
        std::thread sender([&, socket = std::move(pair.first)] {
            CopyStream stream(socket.get());
            auto done = send_tree(stream, from, sent, {});
            if (!done && done.error().code != ECANCELED)
                (void)stream.send(Failed{.message = done.error().message});
        });
        CopyStream stream(pair.second.get());
        report_ = {};
        auto done = receive_tree(stream, to, bounds, report_,
                                 {.skipped = [this](std::string_view path, std::string_view why) {
                                     skipped_.push_back(cat(path, ": ", why));
                                 }});
        pair.second.reset();
        sender.join();
        if (done) EXPECT_EQ(sent.bytes, report_.bytes);
        return done;
    }

    std::string root_;
    CopyReport report_;
    std::vector<std::string> skipped_;
};

const CopyFrame kFolder = Entry{.kind = EntryKind::Folder, .mode = 0755};

TEST_F(CopyTree, ATreeArrivesAsItIs) {
    std::string large(3'000'001, '\0');
    for (size_t i = 0; i < large.size(); i++) large[i] = static_cast<char>(i * 7 + i / 251);
    put("/from/large.bin", large, 0600);
    put("/from/empty", "");
    put("/from/run.sh", "#!/bin/sh\n", 0755);
    put("/from/a/b/c/deep", "deep");
    put("/from/closed/inside", "in", 0444);
    ::chmod((root_ + "/from/closed").c_str(), 0555);
    fs::create_symlink("../run.sh", root_ + "/from/a/link");
    fs::create_symlink("nowhere", root_ + "/from/dangling");
    put("/from/suid", "s", 04755);
    ::mkfifo((root_ + "/from/pipe").c_str(), 0644);
    ASSERT_TRUE(copy(root_ + "/from", {.path = root_ + "/to", .name = "from"}));
    EXPECT_EQ(content("/to/from/large.bin"), large);
    EXPECT_EQ(content("/to/from/empty"), "");
    EXPECT_EQ(content("/to/from/a/b/c/deep"), "deep");
    EXPECT_EQ(content("/to/from/closed/inside"), "in");
    EXPECT_EQ(mode("/to/from/large.bin"), 0600U);
    EXPECT_EQ(mode("/to/from/run.sh"), 0755U);
    EXPECT_EQ(mode("/to/from/closed"), 0555U);
    EXPECT_EQ(mode("/to/from/suid"), 0755U); // not 04755
    EXPECT_EQ(fs::read_symlink(root_ + "/to/from/a/link"), "../run.sh");
    EXPECT_EQ(fs::read_symlink(root_ + "/to/from/dangling"), "nowhere");
    EXPECT_EQ(skipped_, (std::vector<std::string>{"pipe: neither a file nor a folder nor a link"}));
    EXPECT_EQ(report_.skipped, 1U);
    EXPECT_EQ(report_.entries, 13U);
    EXPECT_EQ(fs::last_write_time(root_ + "/to/from/run.sh").time_since_epoch() / std::chrono::seconds(1),
              fs::last_write_time(root_ + "/from/run.sh").time_since_epoch() / std::chrono::seconds(1));
    ::chmod((root_ + "/from/closed").c_str(), 0755);
    ::chmod((root_ + "/to/from/closed").c_str(), 0755);
}

TEST_F(CopyTree, WhereItGoesIsAsWithCp) {
    put("/from/a", "1");
    put("/one", "one");
    ASSERT_TRUE(copy(root_ + "/from", {.path = root_ + "/new", .name = "from"}));
    EXPECT_EQ(content("/new/a"), "1");
    ASSERT_TRUE(copy(root_ + "/from", {.path = root_ + "/new", .name = "from"}));
    EXPECT_EQ(content("/new/from/a"), "1");
    ASSERT_TRUE(copy(root_ + "/from", {.path = root_ + "/to", .name = "."})); // the content
    EXPECT_EQ(content("/to/a"), "1");
    ASSERT_TRUE(copy(root_ + "/one", {.path = root_ + "/to/", .name = "one"}));
    EXPECT_EQ(content("/to/one"), "one");
    put("/one", "two");
    ASSERT_TRUE(copy(root_ + "/one", {.path = root_ + "/to/one", .name = "one"})); // in place of the old
    EXPECT_EQ(content("/to/one"), "two");
    EXPECT_FALSE(copy(root_ + "/one", {.path = root_ + "/missing/", .name = "one"}));
    EXPECT_FALSE(copy(root_ + "/one", {.path = root_ + "/missing/x", .name = "one"}));
    auto nothing = copy(root_ + "/not-there", {.path = root_ + "/to", .name = "x"});
    ASSERT_FALSE(nothing);
    EXPECT_TRUE(nothing.error().message.ends_with("not-there: No such file or directory"))
        << nothing.error().message;
    int file = ::open((root_ + "/single").c_str(), O_WRONLY | O_CREAT, 0600);
    EXPECT_TRUE(copy(root_ + "/one", {.file = file}));
    EXPECT_FALSE(copy(root_ + "/from", {.file = file}));
    ::close(file);
    EXPECT_EQ(content("/single"), "two");
}

TEST_F(CopyTree, NoPathLeavesThePlace) {
    auto file = [](std::string path) { return Entry{.path = std::move(path)}; };
    for (const char* path : {"../evil", "/etc/evil", "a/../../evil", "..", ".", "a//b", "a/", "a/./b"})
        EXPECT_TRUE(refusal({kFolder, file(path), Data{.bytes = "x"}, Done{}}).starts_with("the path "))
            << path;
    EXPECT_TRUE(refusal({kFolder, file(std::string("a\0b", 3)), Done{}}).contains("NUL"));
    EXPECT_TRUE(refusal({kFolder, file(std::string(256, 'n')), Done{}}).contains("too long"));
    std::string deep = "d";
    for (int i = 0; i < 80; i++) deep += "/d";
    EXPECT_TRUE(refusal({kFolder, file(deep), Done{}}).contains("deeper"));
    EXPECT_EQ(refusal({file("evil"), Done{}}), "the first entry, and only that, has no path");
    EXPECT_EQ(refusal({kFolder, kFolder, Done{}}), "the first entry, and only that, has no path");
    EXPECT_EQ(refusal({Entry{}, file("a"), Done{}}), "an entry inside what is no folder");
    EXPECT_EQ(refusal({kFolder, Data{.bytes = "x"}, Done{}}), "bytes that belong to no file");
    EXPECT_FALSE(fs::exists(root_ + "/evil"));
    EXPECT_EQ(names("/to"), (std::vector<std::string>{"x"}));
}

TEST_F(CopyTree, NothingIsWrittenThroughALink) {
    fs::create_directories(root_ + "/outside");
    put("/outside/file", "mine");
    auto link = [](std::string path, std::string target) {
        return Entry{.kind = EntryKind::Link, .path = std::move(path), .target = std::move(target)};
    };
    // A link of the guest's own, that leads out: it is left out, and what would go through it has no way.
    auto said = refusal(
        {kFolder, link("l", root_ + "/outside"), Entry{.path = "l/file"}, Data{.bytes = "theirs"}, Done{}});
    EXPECT_TRUE(said.contains("No such file")) << said;
    EXPECT_EQ(skipped_, (std::vector<std::string>{
                            cat("l: a link that leads out of the copy, to ", root_, "/outside")}));
    // One that was there before, or that the bounds allow.
    fs::create_directory_symlink(root_ + "/outside", root_ + "/to/x/there");
    said = refusal({kFolder, Entry{.path = "there/file"}, Data{.bytes = "theirs"}, Done{}});
    EXPECT_TRUE(said.contains("symbolic link in the way")) << said;
    said = refusal({kFolder, Entry{.kind = EntryKind::Folder, .path = "there"}, Done{}});
    EXPECT_TRUE(said.contains("symbolic link in the way")) << said;
    said = refusal({kFolder, link("m", root_ + "/outside"), Entry{.path = "m/file"}, Done{}},
                   {.confine_links = false});
    EXPECT_TRUE(said.contains("symbolic link in the way")) << said;
    EXPECT_EQ(content("/outside/file"), "mine");
    // A file in place of a link replaces the link, not what it leads to.
    fs::create_symlink(root_ + "/outside/file", root_ + "/to/x/f");
    EXPECT_EQ(refusal({kFolder, Entry{.path = "f"}, Data{.bytes = "theirs"}, Done{}}), "taken");
    EXPECT_EQ(content("/outside/file"), "mine");
    EXPECT_EQ(content("/to/x/f"), "theirs");
}

TEST_F(CopyTree, LinksThatStayInside) {
    for (auto [path, target] : std::vector<std::pair<const char*, const char*>>{
             {"l", "a"}, {"l", "./a/b"}, {"a/l", "../b"}, {"a/b/l", "../../c/d"}, {"a/l", ".."}})
        EXPECT_TRUE(stays_inside(path, target)) << path << " " << target;
    for (auto [path, target] : std::vector<std::pair<const char*, const char*>>{{"l", "/etc"},
                                                                                {"l", ".."},
                                                                                {"l", "../a"},
                                                                                {"a/l", "../../x"},
                                                                                {"l", "a/.."},
                                                                                {"a/b/l", "../c/../../.."}})
        EXPECT_FALSE(stays_inside(path, target)) << path << " " << target;
}

TEST_F(CopyTree, WhatComesIsBounded) {
    std::vector<CopyFrame> frames{kFolder};
    for (int i = 0; i < 5; i++) frames.push_back(Entry{.path = cat("f", i)});
    EXPECT_EQ(refusal(frames, {.most_entries = 4}), "more than 4 files: copy it in parts");
    EXPECT_EQ(report_.entries, 4U);
    EXPECT_EQ(refusal({kFolder, Entry{.path = "big"}, Data{.bytes = std::string(900, 'x')},
                       Data{.bytes = std::string(900, 'x')}},
                      {.most_bytes = 1000}),
              "more than 1000 bytes: copy it in parts");
    EXPECT_FALSE(fs::exists(root_ + "/to/x/big"));
}

TEST_F(CopyTree, ACutOffCopyLeavesWhatWasWhole) {
    auto said = refusal(
        {kFolder, Entry{.path = "whole"}, Data{.bytes = "1"}, Entry{.path = "half"}, Data{.bytes = "2"}});
    EXPECT_EQ(said, "the connection ended before the copy was complete");
    EXPECT_EQ(names("/to"), (std::vector<std::string>{"x", "x/whole"})); // and nothing temporary
    EXPECT_EQ(report_.entries, 2U);
    said = refusal({kFolder, Entry{.path = "gone"}, Data{.bytes = "2"},
                    Skipped{.path = "gone", .why = "read: I/O"}, Done{}});
    EXPECT_EQ(said, "taken");
    EXPECT_FALSE(fs::exists(root_ + "/to/x/gone"));
    EXPECT_EQ(refusal({kFolder, Failed{.message = "no\x1bway"}}), "no?way");
}

TEST_F(CopyTree, ASenderHearsWhyItIsStopped) {
    put("/from/large", std::string(4 << 20, 'x'));
    auto pair = *make_socket_pair(SOCK_STREAM);
    ASSERT_TRUE(write_all(pair.second.get(), *encode(CopyFrame(Failed{.message = "the disk is full"}))));
    CopyStream stream(pair.first.get());
    CopyReport report;
    auto sent = send_tree(stream, root_ + "/from", report, {});
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().code, ECANCELED);
    auto why = stream.receive();
    ASSERT_TRUE(why && *why);
    EXPECT_EQ(std::get<Failed>(**why).message, "the disk is full");
}

} // namespace
} // namespace nullbox::guest_link
