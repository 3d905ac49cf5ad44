// virtio-fs: FUSE requests that no driver sends (virtio 1.2, section 5.11). Beside the share lies a file that
// must stay as it is; nothing but what a case expects may change in the share.
#include <algorithm>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "guest.h"

namespace nullbox::hostile {

namespace {
struct ShareCase {
    Guest guest;
    explicit ShareCase(Kind kind = Kind::Share, Guest::Options options = {}) : guest(kind, options) {
        guest.start();
        equal(static_cast<uint64_t>(guest.init_fuse().error), 0, "FUSE_INIT");
    }
    ~ShareCase() {
        expect(*read_file(guest.folder->path + "/outside") == "untouched",
               "a file beside the share has changed");
        guest.works();
    }
    int error(uint32_t opcode, uint64_t node, std::string_view arguments, uint32_t room = 4096) {
        return guest.ask_fuse(opcode, node, arguments, room).error;
    }
    void refused(int wanted, uint32_t opcode, uint64_t node, std::string_view arguments,
                 std::string_view what) {
        int seen = error(opcode, node, arguments);
        expect(seen == wanted, cat(what, ": errno ", seen, " instead of ", wanted));
    }
    uint64_t open(uint64_t node, uint32_t flags) {
        auto answer = guest.ask_fuse(FUSE_OPEN, node, raw(fuse_open_in{.flags = flags}));
        equal(static_cast<uint64_t>(answer.error), 0, "open");
        return answer.as<fuse_open_out>().fh;
    }
    uint64_t file(uint32_t flags = O_RDWR) { return open(guest.look_up(kRootNode, "file"), flags); }
    std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (auto& entry : std::filesystem::recursive_directory_iterator(guest.folder->share()))
            found.push_back(entry.path());
        std::ranges::sort(found);
        return found;
    }
};

std::string write_arguments(uint64_t handle, uint64_t offset, uint32_t size, std::string_view bytes) {
    fuse_write_in what{};
    what.fh = handle, what.offset = offset, what.size = size;
    return raw(what, bytes);
}
std::string read_arguments(uint64_t handle, uint64_t offset, uint32_t size) {
    fuse_read_in what{};
    what.fh = handle, what.offset = offset, what.size = size;
    return raw(what);
}

void every_opcode() {
    for (Kind kind : {Kind::Share, Kind::ReadOnlyShare}) {
        ShareCase share(kind);
        auto before = share.names();
        for (uint32_t opcode = 0; opcode < 600; ++opcode) {
            if (opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_DESTROY) continue;
            for (size_t bytes : {0u, 1u, 8u, 40u, 3000u})
                for (char fill : {'\0', '\xff', 'a'})
                    (void)share.error(opcode, kRootNode, std::string(bytes, fill));
        }
        for (uint32_t opcode : {4096u, 0x8000'0000u, UINT32_MAX, static_cast<uint32_t>(CUSE_INIT),
                                static_cast<uint32_t>(FUSE_SETUPMAPPING)})
            share.refused(ENOSYS, opcode, kRootNode, "", "an opcode that is not");
        expect(share.names() == before, "something in the share has changed");
    }
}
void lengths_that_lie() {
    ShareCase share;
    auto name = named("file");
    for (uint32_t length : {0u, 1u, 39u, 40u, 44u, 46u, 100u, 0x8000'0000u, UINT32_MAX}) {
        fuse_in_header header{};
        header.len = length, header.opcode = FUSE_LOOKUP, header.nodeid = kRootNode;
        int seen = share.guest.ask_fuse(header, name).error;
        expect(seen == EINVAL, cat("a length of ", length, " for 45 bytes: errno ", seen));
    }
    fuse_in_header extended{};
    extended.len = sizeof extended + 5, extended.opcode = FUSE_LOOKUP, extended.nodeid = kRootNode,
    extended.total_extlen = 1;
    equal(static_cast<uint64_t>(share.guest.ask_fuse(extended, name).error), EINVAL,
          "extensions that are not there");
}
void too_long() {
    ShareCase share;
    for (size_t bytes : {8193u, 65'536u, 500'000u})
        share.refused(E2BIG, FUSE_LOOKUP, kRootNode, std::string(bytes, 'n'), "a long name");
    share.refused(EBADF, FUSE_WRITE, 0, std::string(600'000, '\0'), "a long write");
}
void no_room() {
    for (uint32_t room : {0u, 1u, 15u})
        for (uint32_t queue : {0u, 1u}) {
            Guest guest(Kind::Share);
            guest.start();
            fuse_in_header header{.len = sizeof(fuse_in_header), .opcode = FUSE_STATFS};
            guest.put(Guest::kData, header);
            guest.ring(queue).add({{Guest::kData, sizeof header}, {Guest::kAnswer, room, true}});
            guest.kick(queue);
            guest.faults("fs: request with no room for an answer");
            guest.works_after_reset();
        }
    ShareCase share; // room for the header only
    uint64_t node = share.guest.look_up(kRootNode, "file");
    auto before = share.names();
    for (uint32_t opcode :
         {FUSE_GETATTR, FUSE_STATFS, FUSE_OPEN, FUSE_LOOKUP, FUSE_CREATE, FUSE_MKNOD, FUSE_MKDIR})
        for (uint32_t room : {0u, 1u, 7u}) {
            std::string arguments = opcode == FUSE_LOOKUP ? named("file")
                                    : opcode == FUSE_CREATE
                                        ? raw(fuse_create_in{.flags = O_RDWR}, named("new"))
                                    : opcode == FUSE_MKNOD ? raw(fuse_mknod_in{.mode = S_IFREG}, named("new"))
                                    : opcode == FUSE_MKDIR ? raw(fuse_mkdir_in{}, named("new"))
                                    : opcode == FUSE_OPEN  ? raw(fuse_open_in{})
                                    : opcode == FUSE_GETATTR ? raw(fuse_getattr_in{})
                                                             : "";
            bool parent = opcode == FUSE_LOOKUP || opcode == FUSE_CREATE || opcode == FUSE_MKNOD ||
                          opcode == FUSE_MKDIR;
            equal(static_cast<uint64_t>(share.error(opcode, parent ? kRootNode : node, arguments, room)),
                  EINVAL, cat("opcode ", opcode, " with room for ", room));
        }
    equal(share.guest.fs->operations().handles(), 0, "handles that nobody heard of");
    expect(share.names() == before, "something in the share has changed");
}
void short_header() {
    for (uint32_t bytes : {0u, 1u, 39u})
        for (uint32_t queue : {0u, 1u}) {
            Guest guest(Kind::Share);
            guest.start();
            guest.ring(queue).add({{Guest::kData, bytes}, {Guest::kAnswer, 4096, true}});
            guest.kick(queue);
            guest.faults("fs: request without a header");
            guest.works_after_reset();
        }
}
void before_init() {
    Guest guest(Kind::Share);
    guest.start();
    for (uint32_t opcode = 1; opcode < 60; ++opcode)
        if (opcode != FUSE_INIT && opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET)
            equal(static_cast<uint64_t>(guest.ask_fuse(opcode, kRootNode, "").error), EIO,
                  "before FUSE_INIT");
    for (uint32_t major : {0u, 6u})
        equal(static_cast<uint64_t>(
                  guest.ask_fuse(FUSE_INIT, 0, raw(fuse_init_in{.major = major, .minor = 38})).error),
              EPROTO, "an old protocol");
    equal(static_cast<uint64_t>(
              guest.ask_fuse(FUSE_INIT, 0, raw(fuse_init_in{.major = UINT32_MAX, .minor = 38})).error),
          0, "a newer protocol");
    equal(static_cast<uint64_t>(guest.ask_fuse(FUSE_STATFS, kRootNode, "").error), EIO,
          "before FUSE_INIT in our words");
    guest.works();
}
void made_up_nodes() {
    ShareCase share;
    for (uint64_t node : {uint64_t{0}, uint64_t{2}, uint64_t{999}, uint64_t{1} << 32, UINT64_MAX}) {
        share.refused(ESTALE, FUSE_GETATTR, node, raw(fuse_getattr_in{}), "attributes");
        share.refused(ESTALE, FUSE_LOOKUP, node, named("file"), "a name");
        share.refused(ESTALE, FUSE_OPEN, node, raw(fuse_open_in{}), "open");
        share.refused(ESTALE, FUSE_OPENDIR, node, raw(fuse_open_in{}), "open a folder");
        share.refused(ESTALE, FUSE_MKDIR, node, raw(fuse_mkdir_in{}, named("new")), "make a folder");
        share.refused(ESTALE, FUSE_SETATTR, node, raw(fuse_setattr_in{.valid = FATTR_SIZE}), "a size");
        share.refused(ESTALE, FUSE_RENAME, kRootNode,
                      raw(fuse_rename_in{.newdir = node}, named("file") + named("new")), "move to");
        share.refused(ESTALE, FUSE_UNLINK, node, named("file"), "remove");
    }
    uint64_t file = share.guest.look_up(kRootNode, "file"); // a file is no folder
    share.refused(ENOTDIR, FUSE_LOOKUP, file, named("x"), "a name in a file");
    share.refused(ENOTDIR, FUSE_OPENDIR, file, raw(fuse_open_in{}), "a listing of a file");
    share.refused(EISDIR, FUSE_OPEN, kRootNode, raw(fuse_open_in{}), "a folder's bytes");
}
void made_up_handles() {
    ShareCase share;
    uint64_t real = share.file();
    auto folder = share.guest.ask_fuse(FUSE_OPENDIR, kRootNode, raw(fuse_open_in{})).as<fuse_open_out>().fh;
    for (uint64_t handle : {uint64_t{0}, real + 2, uint64_t{1} << 32, UINT64_MAX, folder}) {
        share.refused(EBADF, FUSE_READ, 0, read_arguments(handle, 0, 10), "read");
        share.refused(EBADF, FUSE_WRITE, 0, write_arguments(handle, 0, 1, "x"), "write");
        share.refused(EBADF, FUSE_FALLOCATE, 0, raw(fuse_fallocate_in{.fh = handle, .length = 1}),
                      "allocate");
        share.refused(EBADF, FUSE_LSEEK, 0, raw(fuse_lseek_in{.fh = handle, .whence = SEEK_DATA}), "seek");
        share.refused(EBADF, FUSE_GETATTR, 0,
                      raw(fuse_getattr_in{.getattr_flags = FUSE_GETATTR_FH, .fh = handle}), "attributes");
    }
    share.refused(EBADF, FUSE_READDIR, 0, read_arguments(real, 0, 4096), "a listing of a file");
    for (int twice = 0; twice < 2; ++twice)
        share.refused(twice ? EBADF : 0, FUSE_RELEASE, 0, raw(fuse_release_in{.fh = real}), "release");
    share.refused(EBADF, FUSE_READ, 0, read_arguments(real, 0, 10), "read after the release");
}
void names_with_a_way_out() {
    ShareCase share;
    auto before = share.names();
    std::string long_name(256, 'n');
    struct {
        std::string arguments;
        int error;
    } const wrong[] = {{named(".."), EINVAL},
                       {named("."), EINVAL},
                       {named(""), EINVAL},
                       {named("../outside"), EINVAL},
                       {named("folder/.."), EINVAL},
                       {named("/etc/passwd"), EINVAL},
                       {named("folder/x"), EINVAL},
                       {"file", EINVAL},
                       {named("file") + "x", EINVAL},
                       {named("a") + named("b"), EINVAL},
                       {named(long_name), ENAMETOOLONG},
                       {"", EINVAL}};
    for (const auto& [arguments, error] : wrong) {
        share.refused(error, FUSE_LOOKUP, kRootNode, arguments, "look up");
        share.refused(error, FUSE_UNLINK, kRootNode, arguments, "remove");
        share.refused(error, FUSE_RMDIR, kRootNode, arguments, "remove a folder");
        share.refused(error, FUSE_MKDIR, kRootNode, raw(fuse_mkdir_in{}, arguments), "make a folder");
        share.refused(error, FUSE_MKNOD, kRootNode, raw(fuse_mknod_in{.mode = S_IFREG}, arguments),
                      "make a file");
        share.refused(error, FUSE_CREATE, kRootNode, raw(fuse_create_in{.flags = O_RDWR}, arguments),
                      "create");
    }
    for (auto name : {"..", ".", "", "../outside", "folder/x"}) {
        share.refused(EINVAL, FUSE_RENAME, kRootNode,
                      raw(fuse_rename_in{.newdir = kRootNode}, named("file") + named(name)), "move to");
        share.refused(EINVAL, FUSE_RENAME, kRootNode,
                      raw(fuse_rename_in{.newdir = kRootNode}, named(name) + named("new")), "move from");
    }
    expect(share.names() == before, "something in the share has changed");
}
void links_to_the_outside() {
    ShareCase share;
    const auto& folder = *share.guest.folder;
    expect(::symlink("../outside", folder.at("link").c_str()) == 0 &&
               ::symlink("..", folder.at("up").c_str()) == 0 &&
               ::symlink("/", folder.at("root").c_str()) == 0 &&
               ::link((folder.path + "/outside").c_str(), (folder.path + "/hard").c_str()) == 0,
           "make links");
    for (auto name : {"link", "up", "root"}) {
        share.refused(ENOENT, FUSE_LOOKUP, kRootNode, named(name), "look up a link");
        share.refused(ENOENT, FUSE_UNLINK, kRootNode, named(name), "remove a link");
        share.refused(EEXIST, FUSE_MKNOD, kRootNode, raw(fuse_mknod_in{.mode = S_IFREG}, named(name)),
                      "write over a link");
        int created =
            share.error(FUSE_CREATE, kRootNode, raw(fuse_create_in{.flags = O_RDWR | O_TRUNC}, named(name)));
        expect(created == EEXIST || created == ENOENT, cat("create over a link: errno ", created));
        int moved = share.error(FUSE_RENAME, kRootNode,
                                raw(fuse_rename_in{.newdir = kRootNode}, named("file") + named(name)));
        expect(moved == EEXIST, cat("move over a link: errno ", moved));
    }
    for (auto [opcode, arguments] :
         {std::pair<uint32_t, std::string>{FUSE_SYMLINK, named("new") + named("../outside")},
          {FUSE_LINK, raw(fuse_link_in{.oldnodeid = 2}, named("new"))},
          {FUSE_READLINK, ""}})
        share.refused(EPERM, opcode, kRootNode, arguments, "make or read a link");
}
// The operator, or another VM, puts a link in the place of what the guest knows.
void link_put_in_the_way() {
    ShareCase share;
    const auto& folder = *share.guest.folder;
    uint64_t node = share.guest.look_up(kRootNode, "file"), inner = share.guest.look_up(kRootNode, "folder");
    expect(::unlink(folder.at("file").c_str()) == 0 &&
               ::symlink("../outside", folder.at("file").c_str()) == 0,
           "replace the file");
    expect(::rmdir(folder.at("folder").c_str()) == 0 && ::symlink("..", folder.at("folder").c_str()) == 0,
           "replace the folder");
    for (uint32_t flags : std::initializer_list<uint32_t>{O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC}) {
        int seen = share.error(FUSE_OPEN, node, raw(fuse_open_in{.flags = flags}));
        expect(seen == ESTALE || seen == ENOENT, cat("open what has become a link: errno ", seen));
    }
    expect(share.error(FUSE_SETATTR, node, raw(fuse_setattr_in{.valid = FATTR_SIZE})) != 0,
           "a size through a link");
    expect(share.error(FUSE_LOOKUP, inner, named("outside")) != 0, "a name through a link");
    expect(share.error(FUSE_CREATE, inner, raw(fuse_create_in{.flags = O_RDWR}, named("new"))) != 0,
           "create through a link");
    expect(!std::filesystem::exists(folder.path + "/new"), "a file was made outside");
    ::unlink(folder.at("file").c_str());
    std::ofstream(folder.at("file")) << "content";
}
void devices() {
    ShareCase share;
    auto before = share.names();
    for (uint32_t kind :
         std::initializer_list<uint32_t>{S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK, S_IFDIR, 0, S_IFMT})
        share.refused(EPERM, FUSE_MKNOD, kRootNode,
                      raw(fuse_mknod_in{.mode = kind | 0666u, .rdev = 0x0103}, named("device")),
                      cat("a node of mode ", kind));
    expect(share.names() == before, "something in the share has changed");
    expect(::mkfifo(share.guest.folder->at("pipe").c_str(), 0666) == 0, "make a pipe");
    share.refused(ENOENT, FUSE_LOOKUP, kRootNode, named("pipe"),
                  "a pipe"); // and it does not wait for a writer
}
void what_a_file_system_lacks() {
    ShareCase share;
    uint64_t handle = share.file();
    for (uint32_t opcode :
         {FUSE_IOCTL, FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW, FUSE_SETXATTR, FUSE_GETXATTR, FUSE_LISTXATTR,
          FUSE_REMOVEXATTR, FUSE_BMAP, FUSE_POLL, FUSE_FLUSH, FUSE_INTERRUPT, FUSE_COPY_FILE_RANGE,
          FUSE_SETUPMAPPING, FUSE_REMOVEMAPPING, FUSE_SYNCFS, FUSE_TMPFILE, FUSE_NOTIFY_REPLY})
        share.refused(ENOSYS, opcode, kRootNode, raw(handle, std::string(100, 'x')), cat("opcode ", opcode));
}
void forgets() {
    ShareCase share;
    Guest& guest = share.guest;
    uint64_t node = guest.look_up(kRootNode, "folder");
    for (uint64_t which : {uint64_t{0}, kRootNode, uint64_t{77}, UINT64_MAX})
        for (uint64_t count : {uint64_t{0}, uint64_t{1}, UINT64_MAX})
            (void)guest.ask_fuse(FUSE_FORGET, which, raw(fuse_forget_in{.nlookup = count}));
    for (uint32_t count : {0u, 1u, 2u, 1000u, UINT32_MAX})
        (void)guest.ask_fuse(FUSE_BATCH_FORGET, 0,
                             raw(fuse_batch_forget_in{.count = count},
                                 raw(fuse_forget_one{.nodeid = 55, .nlookup = UINT64_MAX})));
    (void)guest.ask_fuse(FUSE_FORGET, node, raw(fuse_forget_in{.nlookup = UINT64_MAX}));
    share.refused(ESTALE, FUSE_LOOKUP, node, named("x"), "a name in what was forgotten");
    // With no buffer for an answer there is none.
    fuse_in_header header{
        .len = sizeof(fuse_in_header) + sizeof(fuse_forget_in), .opcode = FUSE_FORGET, .nodeid = kRootNode};
    guest.put(Guest::kData, header),
        guest.put(Guest::kData + sizeof header, fuse_forget_in{.nlookup = UINT64_MAX});
    for (int i = 0; i < 500; ++i) {
        guest.ring(0).add({{Guest::kData, header.len}});
        guest.kick(0);
        guest.serve();
    }
    guest.has_not_faulted();
}
void renames() {
    ShareCase share;
    uint64_t folder = share.guest.look_up(kRootNode, "folder");
    auto before = share.names();
    auto move = [&](uint64_t from, std::string_view name, uint64_t to, std::string_view new_name,
                    uint32_t flags) {
        return share.error(FUSE_RENAME2, from,
                           raw(fuse_rename2_in{.newdir = to, .flags = flags}, named(name) + named(new_name)));
    };
    for (uint32_t flags : {2u, 3u, 4u, 6u, 0x8000'0000u, UINT32_MAX}) // exchange, whiteout, no flags at all
        equal(static_cast<uint64_t>(move(kRootNode, "file", kRootNode, "new", flags)), EINVAL,
              cat("flags ", flags));
    equal(static_cast<uint64_t>(move(kRootNode, "folder", folder, "inside", 0)), EINVAL,
          "a folder into itself");
    expect(move(kRootNode, "file", kRootNode, "folder", 0) != 0, "a file over a folder");
    expect(move(kRootNode, "folder", kRootNode, "file", 0) != 0, "a folder over a file");
    equal(static_cast<uint64_t>(move(kRootNode, "file", kRootNode, "folder", 1)), EEXIST,
          "without replacing");
    equal(static_cast<uint64_t>(move(kRootNode, "none", kRootNode, "new", 0)), ENOENT, "what is not there");
    equal(static_cast<uint64_t>(move(kRootNode, "file", kRootNode, "file", 0)), 0, "onto itself");
    expect(share.names() == before, "something in the share has changed");
}
void read_only() {
    ShareCase share(Kind::ReadOnlyShare);
    auto before = share.names();
    uint64_t node = share.guest.look_up(kRootNode, "file");
    for (uint32_t flags :
         std::initializer_list<uint32_t>{O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND})
        share.refused(EROFS, FUSE_OPEN, node, raw(fuse_open_in{.flags = flags}), "open to write");
    share.refused(EROFS, FUSE_CREATE, kRootNode, raw(fuse_create_in{.flags = O_RDWR}, named("new")),
                  "create");
    share.refused(EROFS, FUSE_CREATE, kRootNode, raw(fuse_create_in{.flags = O_RDONLY}, named("file")),
                  "create what is there");
    share.refused(EROFS, FUSE_MKNOD, kRootNode, raw(fuse_mknod_in{.mode = S_IFREG}, named("new")),
                  "make a file");
    share.refused(EROFS, FUSE_MKDIR, kRootNode, raw(fuse_mkdir_in{}, named("new")), "make a folder");
    share.refused(EROFS, FUSE_UNLINK, kRootNode, named("file"), "remove");
    share.refused(EROFS, FUSE_RMDIR, kRootNode, named("folder"), "remove a folder");
    share.refused(EROFS, FUSE_RENAME, kRootNode,
                  raw(fuse_rename_in{.newdir = kRootNode}, named("file") + named("new")), "move");
    for (uint32_t valid :
         std::initializer_list<uint32_t>{FATTR_MODE, FATTR_SIZE, FATTR_MTIME, FATTR_MTIME_NOW, 0})
        share.refused(EROFS, FUSE_SETATTR, node, raw(fuse_setattr_in{.valid = valid}), "attributes");
    uint64_t handle = share.file(O_RDONLY);
    share.refused(EROFS, FUSE_WRITE, 0, write_arguments(handle, 0, 1, "x"), "write");
    share.refused(EROFS, FUSE_FALLOCATE, 0, raw(fuse_fallocate_in{.fh = handle, .length = 100}), "allocate");
    expect(share.names() == before && *read_file(share.guest.folder->at("file")) == "content",
           "a read-only share has changed");
}
void beyond_the_quota() {
    ShareCase share;
    uint64_t handle = share.file(), node = share.guest.look_up(kRootNode, "file");
    for (uint64_t offset : {uint64_t{1} << 20, (uint64_t{1} << 20) - 10, uint64_t{1} << 40,
                            uint64_t{INT64_MAX} - 4096, uint64_t{INT64_MAX}}) {
        int seen = share.error(FUSE_WRITE, 0, write_arguments(handle, offset, 100, std::string(100, 'w')));
        expect(seen == ENOSPC || seen == EFBIG || seen == EINVAL, cat("write at ", offset, ": errno ", seen));
    }
    for (uint64_t offset : {uint64_t{INT64_MAX} + 1, UINT64_MAX, UINT64_MAX - 99})
        share.refused(EINVAL, FUSE_WRITE, 0, write_arguments(handle, offset, 100, std::string(100, 'w')),
                      cat("write at ", offset));
    for (uint64_t size :
         {uint64_t{2} << 20, uint64_t{1} << 62, uint64_t{INT64_MAX}, uint64_t{INT64_MAX} + 1, UINT64_MAX}) {
        int seen = share.error(FUSE_SETATTR, node, raw(fuse_setattr_in{.valid = FATTR_SIZE, .size = size}));
        expect(seen == ENOSPC || seen == EFBIG, cat("a size of ", size, ": errno ", seen));
        seen =
            share.error(FUSE_FALLOCATE, 0, raw(fuse_fallocate_in{.fh = handle, .offset = 1, .length = size}));
        expect(seen == ENOSPC || seen == EFBIG, cat("allocate ", size, ": errno ", seen));
    }
    for (uint32_t mode : {1u, 2u, 3u, 8u, 16u, 32u, 64u, UINT32_MAX})
        share.refused(EOPNOTSUPP, FUSE_FALLOCATE, 0,
                      raw(fuse_fallocate_in{.fh = handle, .length = 100, .mode = mode}), "allocate, hidden");
    expect(std::filesystem::file_size(share.guest.folder->at("file")) == 7, "the file has grown");
    int made = 0;
    while (made < 100 && share.error(FUSE_MKDIR, kRootNode, raw(fuse_mkdir_in{}, named(cat("d", made)))) == 0)
        ++made;
    equal(static_cast<uint64_t>(made), 38, "folders until the quota of 40");
}
void listings() {
    ShareCase share;
    auto folder = share.guest.ask_fuse(FUSE_OPENDIR, kRootNode, raw(fuse_open_in{})).as<fuse_open_out>().fh;
    for (uint32_t opcode : {FUSE_READDIR, FUSE_READDIRPLUS})
        for (uint64_t offset :
             {uint64_t{0}, uint64_t{1}, uint64_t{12345}, uint64_t{INT64_MAX}, uint64_t{1} << 63, UINT64_MAX})
            for (uint32_t size : {0u, 1u, 23u, 24u, 4096u, 1u << 20, UINT32_MAX}) {
                auto answer =
                    share.guest.ask_fuse(opcode, kRootNode, read_arguments(folder, offset, size), 8000);
                expect(answer.payload.size() <= std::min<uint64_t>(size, 8000),
                       "a listing of more than was asked for");
            }
}
void reads_and_writes_that_lie() {
    ShareCase share;
    uint64_t handle = share.file();
    for (uint32_t size : {4097u, 1u << 20, UINT32_MAX})
        share.refused(EINVAL, FUSE_READ, 0, read_arguments(handle, 0, size), "a read of more than its room");
    for (uint64_t offset : {uint64_t{1} << 63, UINT64_MAX})
        share.refused(EINVAL, FUSE_READ, 0, read_arguments(handle, offset, 10), "a read far away");
    equal(static_cast<uint64_t>(share.error(FUSE_READ, 0, read_arguments(handle, INT64_MAX, 0))), 0,
          "a read of nothing far away");
    for (uint32_t size : {0u, 1u, 99u, 101u, 1u << 20, UINT32_MAX})
        share.refused(EINVAL, FUSE_WRITE, 0, write_arguments(handle, 0, size, std::string(100, 'w')),
                      cat("a write of ", size, " with 100 bytes"));
    for (uint32_t room : {0u, 7u})
        equal(static_cast<uint64_t>(share.error(FUSE_WRITE, 0, write_arguments(handle, 0, 1, "w"), room)),
              EINVAL, "a write with no room for its answer");
    expect(*read_file(share.guest.folder->at("file")) == "content", "the file has changed");
    for (uint32_t whence : {0u, 1u, 2u, 5u, UINT32_MAX})
        share.refused(EINVAL, FUSE_LSEEK, 0, raw(fuse_lseek_in{.fh = handle, .whence = whence}), "seek");
    for (uint64_t offset : {uint64_t{1} << 63, UINT64_MAX, uint64_t{INT64_MAX}})
        expect(share.error(FUSE_LSEEK, 0,
                           raw(fuse_lseek_in{.fh = handle, .offset = offset, .whence = SEEK_DATA})) != 0,
               "seek far away");
}
void too_many_handles() {
    ShareCase share;
    uint64_t node = share.guest.look_up(kRootNode, "file");
    size_t opened = 0;
    while (opened < 2000 && share.error(FUSE_OPEN, node, raw(fuse_open_in{})) == 0) ++opened;
    equal(opened, FsOperations::kMostHandles, "files open at once");
    share.refused(ENFILE, FUSE_OPENDIR, kRootNode, raw(fuse_open_in{}), "a folder more");
    auto before = share.names();
    share.refused(ENFILE, FUSE_CREATE, kRootNode, raw(fuse_create_in{.flags = O_RDWR}, named("new")),
                  "a new file more");
    expect(share.names() == before, "a file that nobody opened is there");
    equal(static_cast<uint64_t>(share.guest.init_fuse().error), 0, "FUSE_INIT again");
    equal(share.guest.fs->operations().handles(), 0, "files open after that");
}
void too_many_names() {
    ShareCase share(Kind::Share, {.quota = {}, .most_table_bytes = 20'000});
    std::string name(200, 'n');
    int failed = 0;
    for (int i = 0; i < 300; ++i) {
        auto one = cat(name, i);
        std::ofstream(share.guest.folder->at(one)) << "x";
        failed += share.guest.look_up(kRootNode, one) == 0;
    }
    expect(failed > 100, "names are remembered without end");
    expect(share.guest.fs->operations().inodes().bytes() <= 20'000, "more is held than the bound");
}
void flags_of_the_host() {
    ShareCase share;
    uint64_t node = share.guest.look_up(kRootNode, "file");
    for (uint32_t flags : {static_cast<uint32_t>(O_ACCMODE), 0xffff'ffffu})
        share.refused(EINVAL, FUSE_OPEN, node, raw(fuse_open_in{.flags = flags}), "no access mode");
    // What a guest's open may not bring about on the host: a path only, no file at all, a lock, direct I/O, a
    // signal.
    for (uint32_t flags : std::initializer_list<uint32_t>{O_PATH, O_TMPFILE, O_DIRECTORY, O_CREAT | O_EXCL,
                                                          O_DIRECT, O_ASYNC, O_NOATIME, O_NONBLOCK}) {
        uint64_t handle = share.open(node, flags);
        auto read = share.guest.ask_fuse(FUSE_READ, 0, read_arguments(handle, 0, 7));
        expect(read.payload == "content",
               cat("a file opened with flags ", flags, " reads as something else"));
    }
    share.refused(EINVAL, FUSE_CREATE, kRootNode, raw(fuse_create_in{.flags = O_ACCMODE}, named("new")),
                  "create with no access mode");
}
void owners_and_modes() {
    ShareCase share;
    uint64_t node = share.guest.look_up(kRootNode, "file");
    share.refused(EPERM, FUSE_SETATTR, node, raw(fuse_setattr_in{.valid = FATTR_UID, .uid = 0}),
                  "give it to root");
    share.refused(EPERM, FUSE_SETATTR, node, raw(fuse_setattr_in{.valid = FATTR_GID, .gid = 0}),
                  "give it to root's group");
    share.refused(0, FUSE_SETATTR, node, raw(fuse_setattr_in{.valid = FATTR_MODE, .mode = 07777}),
                  "every bit");
    share.refused(0, FUSE_CREATE, kRootNode,
                  raw(fuse_create_in{.flags = O_RDWR, .mode = 07777}, named("new")),
                  "a new file with every bit");
    for (auto name : {"file", "new"}) {
        struct stat status{};
        expect(::stat(share.guest.folder->at(name).c_str(), &status) == 0 && (status.st_mode & 07000) == 0,
               "a file with special bits");
    }
    share.refused(0, FUSE_SETATTR, node,
                  raw(fuse_setattr_in{.valid = FATTR_MTIME | FATTR_ATIME,
                                      .atime = UINT64_MAX,
                                      .mtime = UINT64_MAX,
                                      .atimensec = UINT32_MAX,
                                      .mtimensec = UINT32_MAX}),
                  "times that are none");
}
void deep_folders() {
    ShareCase share(Kind::Share, {.quota = {}});
    uint64_t node = kRootNode;
    size_t depth = 0;
    for (; depth < 400; ++depth) {
        auto answer = share.guest.ask_fuse(FUSE_MKDIR, node, raw(fuse_mkdir_in{}, named("d")));
        if (answer.error) break;
        node = answer.as<fuse_entry_out>().nodeid;
    }
    expect(depth <= kMostDepth + 1, cat("folders of depth ", depth));
}

constexpr Case kCases[] = {
    {"fs: every opcode, with nonsense for arguments", every_opcode},
    {"fs: lengths that lie, extensions that are not there", lengths_that_lie},
    {"fs: requests that are too long", too_long},
    {"fs: no room for an answer", no_room},
    {"fs: a header cut short", short_header},
    {"fs: requests before FUSE_INIT, and other protocols", before_init},
    {"fs: nodes that were never given out", made_up_nodes},
    {"fs: handles that were never given out, or are released", made_up_handles},
    {"fs: names with .., /, NUL, of 0 and 256 bytes", names_with_a_way_out},
    {"fs: symbolic links to the outside, and making them", links_to_the_outside},
    {"fs: a link put in the place of a known file or folder", link_put_in_the_way},
    {"fs: devices, pipes and sockets", devices},
    {"fs: ioctl, locks, extended attributes, mappings", what_a_file_system_lacks},
    {"fs: forgets without measure", forgets},
    {"fs: renames into itself, over others, with exchange and whiteout", renames},
    {"fs: everything that changes a read-only share", read_only},
    {"fs: writes, sizes and files beyond the quota", beyond_the_quota},
    {"fs: listings at any offset, of any size", listings},
    {"fs: reads, writes and seeks that lie", reads_and_writes_that_lie},
    {"fs: too many open files", too_many_handles},
    {"fs: too many names", too_many_names},
    {"fs: flags that mean something to the host", flags_of_the_host},
    {"fs: owners, special bits and times that are none", owners_and_modes},
    {"fs: folders without end", deep_folders},
};
} // namespace

std::span<const Case> fs_cases() { return kCases; }

} // namespace nullbox::hostile
