// Shared folders with a fake driver in front and a real folder behind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <set>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cage/vmm/fs_test_guest.h"

namespace nullbox::cage {

struct FsTest : testing::Test {
    FsTestFolder folder;
    std::optional<FsTestGuest> guest;

    void SetUp() override { ::umask(0); }
    FsTestGuest& start(bool writable = true, FsQuota::Limits limits = {}) {
        guest.emplace(folder.open(), writable, limits);
        EXPECT_EQ(guest->init().error, 0);
        return *guest;
    }
    void put(const std::string& name, std::string_view text) {
        std::ofstream(folder.at(name)) << text;
        ::chmod(folder.at(name).c_str(), 0666);
    }
    std::string content(const std::string& name) { return read_file(folder.at(name)).value_or("(missing)"); }
    mode_t mode(const std::string& name) {
        struct stat status{};
        ::lstat(folder.at(name).c_str(), &status);
        return status.st_mode;
    }
    using Names = std::multiset<std::string>;
    Names list(uint64_t node, uint32_t opcode = FUSE_READDIR, uint32_t size = 4096) {
        Names names;
        auto opened = guest->open_folder(node);
        EXPECT_EQ(opened.error, 0);
        uint64_t handle = opened.as<fuse_open_out>().fh, offset = 0;
        size_t before = opcode == FUSE_READDIRPLUS ? sizeof(fuse_entry_out) : 0;
        for (int round = 0; round < 1000; ++round) {
            auto part = guest->read(handle, offset, size, opcode);
            EXPECT_EQ(part.error, 0);
            if (part.payload.empty()) break;
            for (size_t at = 0; at < part.payload.size();) {
                auto entry = part.as<fuse_dirent>(at + before);
                names.insert(part.payload.substr(at + before + FUSE_NAME_OFFSET, entry.namelen));
                offset = entry.off;
                at += FUSE_REC_ALIGN(before + FUSE_NAME_OFFSET + entry.namelen);
            }
        }
        EXPECT_EQ(guest->release(handle, true).error, 0);
        return names;
    }
};

// --- Ordinary work

TEST_F(FsTest, NegotiatesOnceAndFirst) {
    FsTestGuest g(folder.open(), true);
    EXPECT_EQ(g.lookup(kRootNode, "a").error, EIO) << "before INIT";
    EXPECT_EQ(g.init(30).error, EPROTO);
    EXPECT_EQ(g.init(38, 6).error, EPROTO);
    auto newer = g.init(1, 8);
    EXPECT_EQ(newer.error, 0);
    EXPECT_EQ(newer.as<fuse_init_out>().major, 7u);
    EXPECT_EQ(g.lookup(kRootNode, "a").error, EIO) << "not agreed on anything yet";
    auto out = g.init(99).as<fuse_init_out>();
    EXPECT_EQ(out.minor, 38u);
    EXPECT_EQ(out.max_write, FsOperations::kMostDataBytes);
    EXPECT_FALSE(out.flags & (FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS | FUSE_EXPORT_SUPPORT | FUSE_POSIX_ACL |
                              FUSE_SUBMOUNTS));
    EXPECT_EQ(g.lookup(kRootNode, "a").error, ENOENT);
    EXPECT_EQ(g.ask(FUSE_INIT, 0, std::string(15, 'x')).error, EINVAL);
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(g.device->config().data()), 5),
              std::string_view("work\0", 5));
}

TEST_F(FsTest, MakesWritesAndReadsFiles) {
    auto& g = start();
    auto made = g.create(kRootNode, "file", O_RDWR, 0700);
    ASSERT_EQ(made.error, 0);
    uint64_t handle = FsTestGuest::created_handle(made);
    auto wrote = g.write(handle, 0, "hello, world");
    ASSERT_EQ(wrote.error, 0);
    EXPECT_EQ(wrote.as<fuse_write_out>().size, 12u);
    EXPECT_EQ(content("file"), "hello, world");
    EXPECT_EQ(mode("file"), S_IFREG | 0777u) << "for every agent, executable as asked";
    EXPECT_EQ(g.read(handle, 7, 100).payload, "world");
    EXPECT_EQ(g.read(handle, 100, 100).payload, "");
    EXPECT_EQ(g.release(handle).error, 0);
    EXPECT_EQ(g.release(handle).error, EBADF);
    auto shown = g.lookup(kRootNode, "file").as<fuse_entry_out>();
    EXPECT_EQ(shown.attr.size, 12u);
    EXPECT_EQ(shown.attr.uid, 1000u);
    EXPECT_EQ(shown.attr.gid, 1001u);
    EXPECT_EQ(shown.nodeid, made.as<fuse_entry_out>().nodeid);
}

TEST_F(FsTest, AnAnswerMayBeInManyPieces) {
    auto& g = start();
    put("file", std::string(5000, 'q'));
    uint64_t handle = g.open(g.node("file"), O_RDONLY).as<fuse_open_out>().fh;
    fuse_read_in what{};
    what.fh = handle, what.size = 5000;
    fuse_in_header header{};
    header.len = sizeof header + sizeof what, header.opcode = FUSE_READ, header.unique = 9;
    g.driver->put(FsTestGuest::kRequest, header);
    g.driver->put(FsTestGuest::kRequest + sizeof header, what);
    g.driver->add({{FsTestGuest::kRequest, 50},
                   {FsTestGuest::kRequest + 50, 30},
                   {0x60000, 7, true},
                   {0x60007, 20, true},
                   {0x6001b, 6000, true}});
    g.device->process(g.queues);
    ASSERT_EQ(g.queues[1].fault(), nullptr);
    EXPECT_EQ(g.driver->take_used().written, 5016u);
    EXPECT_EQ(g.driver->get<fuse_out_header>(0x60000).error, 0);
    EXPECT_EQ(as_text(*g.memory.memory.range(0x60010, 5000)), std::string(5000, 'q'));
}

TEST_F(FsTest, FoldersNamesAndRemoval) {
    auto& g = start();
    uint64_t a = g.mkdir(kRootNode, "a").as<fuse_entry_out>().nodeid;
    EXPECT_EQ(mode("a"), S_IFDIR | 0777u);
    ASSERT_EQ(g.mkdir(a, "b").error, 0);
    EXPECT_EQ(g.mkdir(a, "b").error, EEXIST);
    ASSERT_EQ(g.create(a, "f").error, 0);
    EXPECT_EQ(list(a), (Names{".", "..", "b", "f"}));
    EXPECT_EQ(g.unlink(a, "b").error, EISDIR);
    EXPECT_EQ(g.ask(FUSE_RMDIR, a, FsTestGuest::named("f")).error, ENOTDIR);
    EXPECT_EQ(g.ask(FUSE_RMDIR, kRootNode, FsTestGuest::named("a")).error, ENOTEMPTY);
    EXPECT_EQ(g.unlink(a, "f").error, 0);
    EXPECT_EQ(g.ask(FUSE_RMDIR, a, FsTestGuest::named("b")).error, 0);
    EXPECT_EQ(g.ask(FUSE_RMDIR, kRootNode, FsTestGuest::named("a")).error, 0);
    EXPECT_EQ(g.lookup(a, "b").error, ENOENT);
    EXPECT_EQ(list(kRootNode), (Names{".", ".."}));
}

TEST_F(FsTest, ListsLargeFoldersPieceByPiece) {
    Names all{".", ".."};
    for (int i = 0; i < 700; ++i) {
        all.insert(cat("file-with-a-name-", i));
        put(cat("file-with-a-name-", i), "x");
    }
    start();
    EXPECT_EQ(list(kRootNode), all);
    EXPECT_EQ(list(kRootNode, FUSE_READDIR, 64), all) << "one at a time";
    EXPECT_EQ(list(kRootNode, FUSE_READDIRPLUS, 60000), all);
    uint64_t handle = guest->open_folder(kRootNode).as<fuse_open_out>().fh;
    EXPECT_EQ(guest->read(handle, 0, 10, FUSE_READDIR).error, EINVAL) << "not an end, no room";
    // Whatever place a guest asks for.
    for (uint64_t offset : {uint64_t{12345}, uint64_t{INT64_MAX}, UINT64_MAX, uint64_t{1} << 63})
        guest->read(handle, offset, 4096, FUSE_READDIR);
    EXPECT_EQ(guest->read(handle, 0, 4096, FUSE_READDIR).error, 0);
}

TEST_F(FsTest, ListingWithAttributesGivesNodes) {
    put("file", "four");
    auto& g = start();
    uint64_t handle = g.open_folder(kRootNode).as<fuse_open_out>().fh;
    auto all = g.read(handle, 0, 4096, FUSE_READDIRPLUS);
    bool seen = false;
    for (size_t at = 0; at < all.payload.size();) {
        auto entry = all.as<fuse_entry_out>(at);
        auto what = all.as<fuse_dirent>(at + sizeof entry);
        auto name = all.payload.substr(at + sizeof entry + FUSE_NAME_OFFSET, what.namelen);
        struct stat root{};
        ::stat(folder.share().c_str(), &root);
        if (name.starts_with('.')) {
            EXPECT_EQ(entry.nodeid, 0u) << name;
            EXPECT_EQ(what.ino, root.st_ino) << "nothing of what is above";
        } else {
            seen = true;
            EXPECT_EQ(entry.attr.size, 4u);
            EXPECT_EQ(g.open(entry.nodeid, O_RDONLY).error, 0);
        }
        at += FUSE_REC_ALIGN(sizeof entry + FUSE_NAME_OFFSET + what.namelen);
    }
    EXPECT_TRUE(seen);
}

TEST_F(FsTest, DeepTreesNeedNoMoreDescriptors) {
    auto& g = start();
    uint64_t node = kRootNode;
    std::vector<uint64_t> nodes;
    for (int i = 0; i < 150; ++i) nodes.push_back(node = g.mkdir(node, "d").as<fuse_entry_out>().nodeid);
    auto file = g.create(node, "bottom");
    ASSERT_EQ(file.error, 0);
    g.write(FsTestGuest::created_handle(file), 0, "deep");
    // The cache of folders has long forgotten the middle of the way.
    for (uint64_t each : nodes) EXPECT_EQ(g.attributes(each).error, 0);
    EXPECT_EQ(g.attributes(file.as<fuse_entry_out>().nodeid).as<fuse_attr_out>().attr.size, 4u);
    EXPECT_EQ(g.rename(node, "bottom", nodes[70], "middle").error, 0);
    EXPECT_EQ(g.open(file.as<fuse_entry_out>().nodeid, O_RDONLY).error, 0);
    for (int i = 150; i < 400; ++i) {
        auto made = g.mkdir(node, "d");
        if (made.error) {
            EXPECT_EQ(made.error, ELOOP);
            break;
        }
        node = made.as<fuse_entry_out>().nodeid;
        ASSERT_LT(i, 257);
    }
}

TEST_F(FsTest, RenamesAndWhatIsOpenStaysOpen) {
    auto& g = start();
    uint64_t a = g.mkdir(kRootNode, "a").as<fuse_entry_out>().nodeid;
    auto file = g.create(kRootNode, "one");
    uint64_t node = file.as<fuse_entry_out>().nodeid, handle = FsTestGuest::created_handle(file);
    uint64_t second = g.open(node, O_RDWR).as<fuse_open_out>().fh;
    EXPECT_EQ(g.rename(kRootNode, "one", a, "two").error, 0);
    EXPECT_EQ(g.write(handle, 0, "by the first").error, 0);
    EXPECT_EQ(g.write(second, 0, "BY").error, 0);
    EXPECT_EQ(content("a/two"), "BY the first");
    EXPECT_EQ(g.open(node, O_RDONLY).error, 0) << "the node has moved with it";
    EXPECT_EQ(g.node("a/two"), node);
    ASSERT_EQ(g.create(a, "three").error, 0);
    EXPECT_EQ(g.rename(a, "two", a, "three", RENAME_NOREPLACE).error, EEXIST);
    EXPECT_EQ(g.rename(a, "two", a, "three", RENAME_EXCHANGE).error, EINVAL);
    EXPECT_EQ(g.rename(a, "two", a, "three", RENAME_WHITEOUT).error, EINVAL);
    EXPECT_EQ(g.rename(a, "two", a, "three").error, 0);
    EXPECT_EQ(content("a/three"), "BY the first");
    EXPECT_EQ(g.rename(kRootNode, "a", a, "inside").error, EINVAL) << "into itself";
    EXPECT_EQ(g.ask(FUSE_RENAME, a,
                    FsTestGuest::raw(fuse_rename_in{.newdir = kRootNode},
                                     FsTestGuest::named("three") + FsTestGuest::named("up")))
                  .error,
              0);
    EXPECT_EQ(content("up"), "BY the first");
}

TEST_F(FsTest, AFileWithoutANameLivesWhileItIsOpen) {
    auto& g = start();
    auto file = g.create(kRootNode, "gone");
    uint64_t node = file.as<fuse_entry_out>().nodeid, handle = FsTestGuest::created_handle(file);
    g.write(handle, 0, "abc");
    EXPECT_EQ(g.unlink(kRootNode, "gone").error, 0);
    EXPECT_EQ(g.attributes(node).as<fuse_attr_out>().attr.size, 3u);
    EXPECT_EQ(g.read(handle, 0, 10).payload, "abc");
    EXPECT_EQ(g.open(node, O_RDONLY).error, ENOENT);
    // Another file of the same name is another file.
    ASSERT_EQ(g.create(kRootNode, "gone").error, 0);
    EXPECT_EQ(g.attributes(node).as<fuse_attr_out>().attr.size, 3u);
    EXPECT_EQ(g.open(node, O_RDONLY).error, ESTALE);
    g.release(handle);
    EXPECT_EQ(g.attributes(node).error, ESTALE);
}

TEST_F(FsTest, AnotherVmsChangesAreSeen) {
    auto& g = start();
    FsTestGuest other(folder.open(), true);
    other.init();
    auto file = g.create(kRootNode, "shared", O_RDWR | O_APPEND);
    uint64_t node = file.as<fuse_entry_out>().nodeid;
    uint64_t theirs = other.open(other.node("shared"), O_WRONLY | O_APPEND).as<fuse_open_out>().fh;
    g.write(FsTestGuest::created_handle(file), 0, "one ");
    other.write(theirs, 0, "two ");
    g.write(FsTestGuest::created_handle(file), 4, "three");
    EXPECT_EQ(content("shared"), "one two three") << "nobody's line is lost";
    EXPECT_EQ(other.rename(kRootNode, "shared", kRootNode, "moved").error, 0);
    EXPECT_EQ(g.open(node, O_RDONLY).error, ENOENT);
    EXPECT_EQ(g.node("moved"), node) << "found again under its new name";
    EXPECT_EQ(g.open(node, O_RDONLY).error, 0);
    auto late = g.create(kRootNode, "moved", O_RDWR);
    EXPECT_EQ(late.error, 0) << "there already, and no O_EXCL";
    EXPECT_EQ(g.create(kRootNode, "moved", O_RDWR | O_EXCL).error, EEXIST);
    EXPECT_EQ(content("moved"), "one two three");
    EXPECT_EQ(g.create(kRootNode, "moved", O_RDWR | O_TRUNC).error, 0);
    EXPECT_EQ(content("moved"), "");
}

TEST_F(FsTest, AttributesThatCanBeSet) {
    auto& g = start();
    auto file = g.create(kRootNode, "f");
    uint64_t node = file.as<fuse_entry_out>().nodeid;
    EXPECT_EQ(g.set(node, {.valid = FATTR_MODE, .mode = 04711}).error, 0);
    EXPECT_EQ(mode("f"), S_IFREG | 0777u);
    EXPECT_EQ(g.set(node, {.valid = FATTR_MODE, .mode = 0}).error, 0);
    EXPECT_EQ(mode("f"), S_IFREG | 0666u);
    EXPECT_EQ(g.set(node, {.valid = FATTR_UID, .uid = 0}).error, EPERM);
    EXPECT_EQ(g.set(node, {.valid = FATTR_GID, .gid = 0}).error, EPERM);
    EXPECT_EQ(g.set(node, {.valid = FATTR_UID | FATTR_GID, .uid = 1000, .gid = 1001}).error, 0);
    auto sized = g.set(node, {.valid = FATTR_SIZE | FATTR_MTIME, .size = 77, .mtime = 5, .mtimensec = 6});
    EXPECT_EQ(sized.as<fuse_attr_out>().attr.size, 77u);
    EXPECT_EQ(sized.as<fuse_attr_out>().attr.mtime, 5u);
    EXPECT_EQ(
        g.set(node, {.valid = FATTR_SIZE | FATTR_FH, .fh = FsTestGuest::created_handle(file), .size = 3})
            .as<fuse_attr_out>()
            .attr.size,
        3u);
    EXPECT_EQ(g.set(node, {.valid = FATTR_SIZE, .size = UINT64_MAX}).error, EFBIG);
    EXPECT_EQ(g.set(node, {.valid = FATTR_ATIME, .atime = UINT64_MAX, .atimensec = UINT32_MAX}).error, 0);
    g.mkdir(kRootNode, "d");
    EXPECT_EQ(g.set(g.node("d"), {.valid = FATTR_MODE | FATTR_MTIME_NOW, .mode = 0}).error, 0);
    EXPECT_EQ(mode("d"), S_IFDIR | 0777u) << "a folder stays everybody's";
    EXPECT_EQ(g.set(g.node("d"), {.valid = FATTR_SIZE, .size = 0}).error, EISDIR);
}

TEST_F(FsTest, AllocatesSeeksSyncsAndTellsSpace) {
    auto& g = start();
    uint64_t handle = FsTestGuest::created_handle(g.create(kRootNode, "f"));
    auto allocate = [&](uint64_t offset, uint64_t length, uint32_t how) {
        return g
            .ask(FUSE_FALLOCATE, 0,
                 FsTestGuest::raw(
                     fuse_fallocate_in{.fh = handle, .offset = offset, .length = length, .mode = how}))
            .error;
    };
    EXPECT_EQ(allocate(0, 10000, 0), 0);
    EXPECT_EQ(content("f").size(), 10000u);
    EXPECT_EQ(allocate(0, 10000, FALLOC_FL_KEEP_SIZE), EOPNOTSUPP);
    EXPECT_EQ(allocate(UINT64_MAX, 1, 0), EFBIG);
    EXPECT_EQ(allocate(INT64_MAX, INT64_MAX, 0), EFBIG);
    auto seek = [&](uint64_t offset, uint32_t whence) {
        return g.ask(FUSE_LSEEK, 0,
                     FsTestGuest::raw(fuse_lseek_in{.fh = handle, .offset = offset, .whence = whence}));
    };
    EXPECT_EQ(seek(0, SEEK_HOLE).as<fuse_lseek_out>().offset, 10000u);
    EXPECT_EQ(seek(20000, SEEK_DATA).error, ENXIO);
    EXPECT_EQ(seek(0, SEEK_SET).error, EINVAL);
    EXPECT_EQ(seek(0, 99).error, EINVAL);
    for (uint32_t flags : {0u, 1u})
        EXPECT_EQ(
            g.ask(FUSE_FSYNC, 0, FsTestGuest::raw(fuse_fsync_in{.fh = handle, .fsync_flags = flags})).error,
            0);
    auto space = g.ask(FUSE_STATFS, kRootNode, "").as<fuse_statfs_out>().st;
    EXPECT_GT(space.blocks, 0u);
    EXPECT_EQ(space.namelen, 255u);
    auto access = [&](uint32_t mask) {
        return g.ask(FUSE_ACCESS, g.node("f"), FsTestGuest::raw(fuse_access_in{.mask = mask})).error;
    };
    EXPECT_EQ(access(R_OK | W_OK), 0);
    EXPECT_EQ(access(X_OK), EACCES);
}

// --- What a guest may not

TEST_F(FsTest, AReadOnlyShareIsNotChanged) {
    put("file", "content");
    std::filesystem::create_directory(folder.at("d"));
    auto& g = start(false);
    uint64_t node = g.node("file");
    EXPECT_EQ(g.read(g.open(node, O_RDONLY).as<fuse_open_out>().fh, 0, 100).payload, "content");
    EXPECT_EQ(g.attributes(node).as<fuse_attr_out>().attr.mode & 0222, 0u);
    for (unsigned flags : {0u + O_WRONLY, 0u + O_RDWR, 0u + O_TRUNC})
        EXPECT_EQ(g.open(node, flags).error, EROFS);
    EXPECT_EQ(g.create(kRootNode, "new").error, EROFS);
    EXPECT_EQ(g.create(kRootNode, "file", O_RDONLY).error, EROFS);
    EXPECT_EQ(g.mkdir(kRootNode, "new").error, EROFS);
    EXPECT_EQ(g.ask(FUSE_MKNOD, kRootNode,
                    FsTestGuest::raw(fuse_mknod_in{.mode = S_IFREG | 0666}, FsTestGuest::named("new")))
                  .error,
              EROFS);
    EXPECT_EQ(g.unlink(kRootNode, "file").error, EROFS);
    EXPECT_EQ(g.ask(FUSE_RMDIR, kRootNode, FsTestGuest::named("d")).error, EROFS);
    EXPECT_EQ(g.rename(kRootNode, "file", kRootNode, "other").error, EROFS);
    EXPECT_EQ(g.ask(FUSE_RENAME, kRootNode,
                    FsTestGuest::raw(fuse_rename_in{.newdir = kRootNode},
                                     FsTestGuest::named("file") + FsTestGuest::named("other")))
                  .error,
              EROFS);
    for (unsigned valid : {0u + FATTR_SIZE, 0u + FATTR_MODE, 0u + FATTR_MTIME_NOW, 0u + FATTR_UID})
        EXPECT_EQ(g.set(node, {.valid = valid, .uid = 1000}).error, EROFS);
    uint64_t handle = g.open(node, O_RDONLY).as<fuse_open_out>().fh;
    EXPECT_EQ(g.write(handle, 0, "x").error, EROFS);
    EXPECT_EQ(
        g.ask(FUSE_FALLOCATE, 0, FsTestGuest::raw(fuse_fallocate_in{.fh = handle, .length = 1 << 20})).error,
        EROFS);
    EXPECT_EQ(g.ask(FUSE_ACCESS, node, FsTestGuest::raw(fuse_access_in{.mask = W_OK})).error, EROFS);
    EXPECT_EQ(content("file"), "content");
    EXPECT_EQ(list(kRootNode), (Names{".", "..", "d", "file"}));
}

TEST_F(FsTest, NamesThatLeaveTheFolderAreRefused) {
    std::ofstream(folder.path + "/secret") << "secret";
    auto& g = start();
    using namespace std::string_view_literals;
    for (auto name :
         {"..\0"sv, ".\0"sv, "\0"sv, "../secret\0"sv, "/etc/passwd\0"sv, "a/b\0"sv, "x"sv, "x\0y\0"sv}) {
        for (auto opcode : {FUSE_LOOKUP, FUSE_UNLINK, FUSE_RMDIR})
            EXPECT_EQ(g.ask(opcode, kRootNode, name).error, EINVAL) << name;
        EXPECT_EQ(
            g.ask(FUSE_CREATE, kRootNode, FsTestGuest::raw(fuse_create_in{.flags = O_RDWR}, name)).error,
            EINVAL);
        EXPECT_EQ(g.ask(FUSE_MKDIR, kRootNode, FsTestGuest::raw(fuse_mkdir_in{}, name)).error, EINVAL);
        EXPECT_EQ(g.ask(FUSE_MKNOD, kRootNode, FsTestGuest::raw(fuse_mknod_in{.mode = S_IFREG}, name)).error,
                  EINVAL);
        if (name != "x\0y\0"sv && name != "x"sv) {
            EXPECT_EQ(g.rename(kRootNode, name.substr(0, name.size() - 1), kRootNode, "x").error, EINVAL);
            EXPECT_EQ(g.rename(kRootNode, "x", kRootNode, name.substr(0, name.size() - 1)).error, EINVAL);
        }
    }
    EXPECT_EQ(g.lookup(kRootNode, std::string(256, 'n')).error, ENAMETOOLONG);
    EXPECT_EQ(std::filesystem::exists(folder.path + "/secret"), true);
    EXPECT_EQ(list(kRootNode), (Names{".", ".."}));
}

TEST_F(FsTest, LinksAndDevicesDoNotExist) {
    std::ofstream(folder.path + "/secret") << "secret";
    ASSERT_EQ(::symlink("../secret", folder.at("link").c_str()), 0);
    ASSERT_EQ(::symlink("..", folder.at("up").c_str()), 0);
    ASSERT_EQ(::mkfifo(folder.at("pipe").c_str(), 0666), 0);
    bool device = ::mknod(folder.at("device").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0; // root only
    auto& g = start();
    put("file", "x");
    EXPECT_EQ(list(kRootNode), (Names{".", "..", "file"}));
    EXPECT_EQ(list(kRootNode, FUSE_READDIRPLUS), (Names{".", "..", "file"}));
    for (std::string name : {"link", "up", "pipe", "device"}) {
        EXPECT_EQ(g.lookup(kRootNode, name).error, ENOENT) << name;
        EXPECT_EQ(g.unlink(kRootNode, name).error, ENOENT) << name;
        EXPECT_EQ(g.rename(kRootNode, name, kRootNode, "mine").error, ENOENT) << name;
        if (name == "device" && !device) continue;
        EXPECT_EQ(g.create(kRootNode, name, O_RDWR | O_TRUNC).error, ENOENT) << name;
        EXPECT_EQ(g.mkdir(kRootNode, name).error, EEXIST) << name;
        EXPECT_EQ(g.rename(kRootNode, "file", kRootNode, name).error, EEXIST) << name;
    }
    EXPECT_EQ(*read_file(folder.path + "/secret"), "secret");
    auto names = FsTestGuest::named("new") + FsTestGuest::named("/etc/passwd");
    EXPECT_EQ(g.ask(FUSE_SYMLINK, kRootNode, names).error, EPERM);
    EXPECT_EQ(g.ask(FUSE_LINK, kRootNode,
                    FsTestGuest::raw(fuse_link_in{.oldnodeid = g.node("file")}, FsTestGuest::named("new")))
                  .error,
              EPERM);
    EXPECT_EQ(g.ask(FUSE_READLINK, g.node("file"), "").error, EPERM);
    for (unsigned type :
         {0u + S_IFCHR, 0u + S_IFBLK, 0u + S_IFIFO, 0u + S_IFSOCK, 0u + S_IFLNK, 0u + S_IFDIR, 0u})
        EXPECT_EQ(
            g.ask(FUSE_MKNOD, kRootNode,
                  FsTestGuest::raw(fuse_mknod_in{.mode = type | 0666, .rdev = 259}, FsTestGuest::named("n")))
                .error,
            EPERM);
    EXPECT_EQ(g.ask(FUSE_MKNOD, kRootNode,
                    FsTestGuest::raw(fuse_mknod_in{.mode = S_IFREG | 06755}, FsTestGuest::named("n")))
                  .error,
              0);
    EXPECT_EQ(mode("n"), S_IFREG | 0777u);
}

TEST_F(FsTest, ALinkPutInPlaceOfWhatWasLookedUpIsNotFollowed) {
    std::filesystem::create_directory(folder.path + "/outside");
    std::ofstream(folder.path + "/outside/f") << "secret";
    std::filesystem::create_directory(folder.at("d"));
    put("d/f", "mine"), put("f", "mine");
    auto& g = start();
    uint64_t d = g.node("d"), inside = g.node("d/f"), f = g.node("f");
    guest->device->reset(); // no folder is open any more
    g.init();
    d = g.node("d"), f = g.node("f");
    std::filesystem::rename(folder.at("d"), folder.at("d2"));
    std::filesystem::remove(folder.at("f"));
    ASSERT_EQ(::symlink("../outside", folder.at("d").c_str()), 0);
    ASSERT_EQ(::symlink("../outside/f", folder.at("f").c_str()), 0);
    EXPECT_EQ(g.lookup(d, "f").error, ENOTDIR);
    EXPECT_EQ(g.create(d, "f").error, ENOTDIR);
    EXPECT_EQ(g.open(f, O_RDONLY).error, ENOENT);
    EXPECT_EQ(g.set(f, {.valid = FATTR_SIZE, .size = 0}).error, ENOENT);
    EXPECT_EQ(g.open(inside, O_RDONLY).error, ESTALE);
    // Another folder in its place is another folder.
    std::filesystem::remove(folder.at("d"));
    std::filesystem::create_directory(folder.at("d"));
    put("d/f", "theirs");
    EXPECT_EQ(g.lookup(d, "f").error, ESTALE);
    EXPECT_EQ(*read_file(folder.path + "/outside/f"), "secret");
}

TEST_F(FsTest, ReadingAPipeThatTookAFilesPlaceDoesNotHang) {
    put("f", "x");
    auto& g = start();
    uint64_t node = g.node("f");
    std::filesystem::remove(folder.at("f"));
    ASSERT_EQ(::mkfifo(folder.at("f").c_str(), 0666), 0);
    EXPECT_EQ(g.open(node, O_RDONLY).error, ENOENT);
    EXPECT_EQ(g.open(node, O_WRONLY).error, ENOENT);
}

// --- Quota and limits

TEST_F(FsTest, TheQuotaCountsWhatIsThereAndWhatGrows) {
    put("old", std::string(6000, 'o')); // two blocks
    std::filesystem::create_directory(folder.at("d"));
    put("d/old", "x"); // one block
    auto& g = start(true, {.most_bytes = 5 * 4096});
    uint64_t handle = FsTestGuest::created_handle(g.create(kRootNode, "new"));
    EXPECT_EQ(g.device->operations().quota().used_bytes(), 3u * 4096);
    EXPECT_EQ(g.write(handle, 0, std::string(8192, 'n')).error, 0);
    EXPECT_EQ(g.write(handle, 8192, "x").error, ENOSPC);
    EXPECT_EQ(g.write(handle, uint64_t{1} << 40, "x").error, ENOSPC) << "a hole is as long as a file";
    EXPECT_EQ(g.write(handle, INT64_MAX, "x").error, EFBIG);
    EXPECT_EQ(g.set(g.node("new"), {.valid = FATTR_SIZE, .size = 8193}).error, ENOSPC);
    EXPECT_EQ(
        g.ask(FUSE_FALLOCATE, 0, FsTestGuest::raw(fuse_fallocate_in{.fh = handle, .length = 8193})).error,
        ENOSPC);
    EXPECT_EQ(g.write(handle, 100, "in the middle").error, 0) << "no growth";
    EXPECT_EQ(content("new").size(), 8192u);
    auto space = g.ask(FUSE_STATFS, kRootNode, "").as<fuse_statfs_out>().st;
    EXPECT_EQ(space.blocks, 5u);
    EXPECT_EQ(space.bavail, 0u);
    EXPECT_EQ(g.unlink(kRootNode, "old").error, 0);
    EXPECT_EQ(g.write(handle, 8192, "x").error, 0);
    // Unlinked but open still takes its place; and no less after the release than before.
    EXPECT_EQ(g.unlink(kRootNode, "new").error, 0);
    EXPECT_EQ(g.device->operations().quota().used_bytes(), 4u * 4096);
    EXPECT_EQ(g.release(handle).error, 0);
    EXPECT_EQ(g.device->operations().quota().used_bytes(), 1u * 4096);
    ASSERT_EQ(g.create(kRootNode, "a").error, 0);
    EXPECT_EQ(g.set(g.node("a"), {.valid = FATTR_SIZE, .size = 4 * 4096}).error, 0);
    EXPECT_EQ(g.rename(kRootNode, "a", kRootNode, "b").error, 0);
    EXPECT_EQ(g.device->operations().quota().used_bytes(), 5u * 4096);
    EXPECT_EQ(g.set(g.node("b"), {.valid = FATTR_SIZE, .size = 1}).error, 0);
    EXPECT_EQ(g.device->operations().quota().used_bytes(), 2u * 4096);
}

TEST_F(FsTest, TheQuotaCountsFiles) {
    put("one", "");
    auto& g = start(true, {.most_files = 3});
    EXPECT_EQ(g.mkdir(kRootNode, "two").error, 0);
    EXPECT_EQ(g.mkdir(kRootNode, "two").error, EEXIST) << "and costs nothing";
    EXPECT_EQ(g.create(kRootNode, "three").error, 0);
    EXPECT_EQ(g.create(kRootNode, "four").error, ENOSPC);
    EXPECT_EQ(g.mkdir(kRootNode, "four").error, ENOSPC);
    EXPECT_EQ(g.create(kRootNode, "three", O_RDWR).error, ENOSPC) << "asked for a new one";
    EXPECT_EQ(g.open(g.node("three"), O_RDWR).error, 0);
    EXPECT_EQ(g.rename(kRootNode, "three", kRootNode, "one").error, 0) << "replaces";
    EXPECT_EQ(g.create(kRootNode, "four").error, 0);
    EXPECT_EQ(g.device->operations().quota().used_files(), 3u);
}

TEST_F(FsTest, OpenFilesAreLimited) {
    put("f", "x");
    auto& g = start();
    uint64_t node = g.node("f"), last = 0;
    for (size_t i = 0; i < FsOperations::kMostHandles; ++i) {
        auto opened = g.open(node, O_RDONLY);
        ASSERT_EQ(opened.error, 0);
        last = opened.as<fuse_open_out>().fh;
    }
    EXPECT_EQ(g.open(node, O_RDONLY).error, ENFILE);
    EXPECT_EQ(g.open_folder(kRootNode).error, ENFILE);
    EXPECT_EQ(g.create(kRootNode, "new").error, ENFILE);
    EXPECT_EQ(content("new"), "(missing)");
    g.release(last);
    EXPECT_EQ(g.open(node, O_RDONLY).error, 0);
    g.device->reset();
    EXPECT_EQ(g.device->operations().handles(), 0u);
    EXPECT_EQ(g.open(node, O_RDONLY).error, EIO) << "a new guest begins with INIT";
}

// --- Nonsense on the wire

TEST_F(FsTest, WrongNumbersFindNobody) {
    put("f", "x");
    auto& g = start();
    uint64_t file = g.node("f"), handle = g.open(file, O_RDWR).as<fuse_open_out>().fh;
    uint64_t listing = g.open_folder(kRootNode).as<fuse_open_out>().fh;
    for (uint64_t node : {uint64_t{0}, uint64_t{999}, UINT64_MAX}) {
        EXPECT_EQ(g.lookup(node, "f").error, ESTALE);
        EXPECT_EQ(g.attributes(node).error, ESTALE);
        EXPECT_EQ(g.open(node, O_RDONLY).error, ESTALE);
        EXPECT_EQ(g.open_folder(node).error, ESTALE);
        EXPECT_EQ(g.set(node, {.valid = FATTR_MODE}).error, ESTALE);
        EXPECT_EQ(g.rename(kRootNode, "f", node, "g").error, ESTALE);
        EXPECT_EQ(g.ask(FUSE_ACCESS, node, FsTestGuest::raw(fuse_access_in{})).error, ESTALE);
    }
    EXPECT_EQ(g.lookup(file, "f").error, ENOTDIR);
    EXPECT_EQ(g.create(file, "x").error, ENOTDIR);
    EXPECT_EQ(g.open(kRootNode, O_RDONLY).error, EISDIR);
    for (uint64_t wrong : {uint64_t{0}, uint64_t{999}, UINT64_MAX, listing}) {
        EXPECT_EQ(g.read(wrong, 0, 10).error, EBADF);
        EXPECT_EQ(g.write(wrong, 0, "x").error, EBADF);
        EXPECT_EQ(
            g.ask(FUSE_GETATTR, file, FsTestGuest::raw(fuse_getattr_in{.getattr_flags = 1, .fh = wrong}))
                .error,
            EBADF);
        EXPECT_EQ(g.set(file, {.valid = FATTR_SIZE | FATTR_FH, .fh = wrong}).error, EBADF);
    }
    EXPECT_EQ(g.read(handle, 0, 100, FUSE_READDIR).error, EBADF);
    EXPECT_EQ(g.write(g.open(file, O_RDONLY).as<fuse_open_out>().fh, 0, "x").error, EBADF)
        << "not for writing";
    EXPECT_EQ(g.open(file, O_ACCMODE).error, EINVAL);
    EXPECT_EQ(content("f"), "x");
}

TEST_F(FsTest, SizesThatDoNotFitAreRefused) {
    put("f", std::string(5000, 'x'));
    auto& g = start();
    uint64_t handle = g.open(g.node("f"), O_RDWR).as<fuse_open_out>().fh;
    EXPECT_EQ(g.read(handle, 0, 4097, FUSE_READ, 4096).error, EINVAL) << "more than there is room for";
    EXPECT_EQ(g.read(handle, 0, UINT32_MAX).error, EINVAL);
    EXPECT_EQ(g.read(handle, UINT64_MAX, 10).error, EINVAL);
    fuse_write_in what{};
    what.fh = handle;
    for (uint32_t size : {4u, 6u, UINT32_MAX}) {
        what.size = size;
        EXPECT_EQ(g.ask(FUSE_WRITE, 0, FsTestGuest::raw(what, "12345")).error, EINVAL);
    }
    what.size = 5, what.offset = UINT64_MAX - 2;
    EXPECT_EQ(g.ask(FUSE_WRITE, 0, FsTestGuest::raw(what, "12345")).error, EINVAL);
    EXPECT_EQ(g.ask(FUSE_WRITE, 0, "short").error, EINVAL);
    EXPECT_EQ(g.ask(FUSE_LOOKUP, kRootNode, std::string(9000, 'x')).error, E2BIG);
    EXPECT_EQ(g.ask(FUSE_LOOKUP, kRootNode, FsTestGuest::named("f"), 127).error, EINVAL) << "no room";
    EXPECT_EQ(
        g.ask(FUSE_MKDIR, kRootNode, FsTestGuest::raw(fuse_mkdir_in{}, FsTestGuest::named("d")), 10).error,
        EINVAL);
    EXPECT_EQ(g.ask(FUSE_CREATE, kRootNode,
                    FsTestGuest::raw(fuse_create_in{.flags = O_RDWR}, FsTestGuest::named("n")), 140)
                  .error,
              EINVAL);
    EXPECT_EQ(list(kRootNode), (Names{".", "..", "f"})) << "nothing was made that could not be answered";
    for (uint32_t wrong : {1u, 0xffff'ffffu, 0x8000'0000u})
        EXPECT_EQ(g.ask(FUSE_LOOKUP, kRootNode, FsTestGuest::named("f"), 4096, wrong).error, EINVAL);
    EXPECT_EQ(content("f"), std::string(5000, 'x'));
}

TEST_F(FsTest, EveryOperationWithNoOrTooManyArguments) {
    put("f", "x");
    auto& g = start();
    uint64_t node = g.node("f");
    for (uint32_t opcode = 0; opcode < 64; ++opcode) {
        if (opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INIT ||
            opcode == FUSE_DESTROY || opcode == FUSE_STATFS)
            continue;
        for (uint64_t at : {kRootNode, node})
            for (size_t size : {0u, 1u, 7u, 500u, 8192u})
                EXPECT_NE(g.ask(opcode, at, std::string(size, '\xff')).error, 0) << opcode << " " << size;
    }
    for (uint32_t opcode :
         {0u, 21u, 22u, 23u, 24u, 25u, 31u, 36u, 47u, 48u, 51u, 4096u, 436207616u, UINT32_MAX})
        EXPECT_EQ(g.ask(opcode, kRootNode, "").error, ENOSYS) << opcode;
    EXPECT_EQ(content("f"), "x");
}

TEST_F(FsTest, ForgettingNeedsNoAnswer) {
    put("f", "x");
    auto& g = start();
    uint64_t node = g.node("f");
    struct {
        fuse_in_header header{};
        fuse_batch_forget_in batch{};
        fuse_forget_one ones[2]{};
    } request;
    request.header.len = sizeof request, request.header.opcode = FUSE_BATCH_FORGET;
    request.ones[0] = {node, 1}, request.ones[1] = {node, UINT64_MAX};
    auto send = [&](uint32_t count) {
        request.batch.count = count;
        g.driver->put(FsTestGuest::kRequest, request);
        g.driver->add({{FsTestGuest::kRequest, sizeof request}});
        g.device->process(g.queues);
        EXPECT_EQ(g.queues[1].fault(), nullptr);
        EXPECT_EQ(g.driver->take_used().written, 0u);
    };
    for (uint32_t wrong : {0u, 1u, 3u, 0x1000'0002u, UINT32_MAX}) send(wrong);
    EXPECT_EQ(g.attributes(node).error, 0) << "a wrong count forgets nothing";
    send(2);
    EXPECT_EQ(g.attributes(node).error, ESTALE);
}

TEST_F(FsTest, ChainsThatNoDriverSendsAreFaults) {
    for (auto buffers :
         {std::vector<TestBuffer>{{FsTestGuest::kRequest, 39}, {FsTestGuest::kAnswer, 100, true}},
          {{FsTestGuest::kRequest, 40}},
          {{FsTestGuest::kRequest, 40}, {FsTestGuest::kAnswer, 15, true}},
          {{FsTestGuest::kAnswer, 100, true}}}) {
        auto& g = start();
        g.driver->put(FsTestGuest::kRequest, fuse_in_header{.len = 40, .opcode = FUSE_STATFS});
        g.driver->add(buffers);
        g.device->process(g.queues);
        EXPECT_NE(g.queues[1].fault(), nullptr);
    }
}

TEST_F(FsTest, RefusesWhatIsNoFolderAndNoTag) {
    put("f", "x");
    EXPECT_FALSE(FsDevice::make(Fd(::open(folder.at("f").c_str(), O_RDONLY)), {.tag = "a"}));
    EXPECT_FALSE(FsDevice::make(folder.open(), {.tag = ""}));
    EXPECT_FALSE(FsDevice::make(folder.open(), {.tag = std::string(37, 'a')}));
    EXPECT_TRUE(FsDevice::make(folder.open(), {.tag = std::string(36, 'a')}));
    EXPECT_FALSE(FsDevice::make(Fd(), {.tag = "a"}));
}

} // namespace nullbox::cage
