// A hostile guest's FUSE requests on a real folder: operations in any order with any arguments. Beside the
// share lies a file that must stay as it is, and in it a link to that file that must never be followed.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cage/vmm/fs_test_guest.h"

using namespace nullbox;       // NOLINT: a fuzz target
using namespace nullbox::cage; // NOLINT

// One of a few names, so that operations meet; or any bytes.
static std::string name_from(ByteReader& reader) {
    constexpr std::string_view kNames[] = {"a", "b", "c", "link", "..", "a/b", ".", ""};
    auto which = reader.number<uint8_t>();
    if (which >= 200) return std::string(as_text(reader.take(which - 200u)));
    return FsTestGuest::named(kNames[which % std::size(kNames)]);
}

// What an operation takes, with numbers that are often real ones.
static std::string arguments_from(ByteReader& reader, uint32_t opcode) {
    auto raw = [](const auto& value, const std::string& more = {}) { return FsTestGuest::raw(value, more); };
    uint64_t handle = reader.number<uint8_t>() % 8, wide = reader.number<uint16_t>();
    if (wide >= 0xff00) wide = UINT64_MAX - (wide & 0xff);
    auto small = reader.number<uint16_t>();
    switch (opcode) {
    case FUSE_LOOKUP:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
        return name_from(reader);
    case FUSE_FORGET:
        return raw(fuse_forget_in{.nlookup = wide});
    case FUSE_GETATTR:
        return raw(fuse_getattr_in{.getattr_flags = small & 1u, .fh = handle});
    case FUSE_SETATTR:
        return raw(fuse_setattr_in{.valid = small & 0x7ffu, .fh = handle, .size = wide, .mode = small});
    case FUSE_MKNOD:
        return raw(fuse_mknod_in{.mode = small}, name_from(reader));
    case FUSE_MKDIR:
        return raw(fuse_mkdir_in{.mode = small}, name_from(reader));
    case FUSE_RENAME2:
        return raw(fuse_rename2_in{.newdir = handle, .flags = small & 7u},
                   name_from(reader) + name_from(reader));
    case FUSE_RENAME:
        return raw(fuse_rename_in{.newdir = handle}, name_from(reader) + name_from(reader));
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        return raw(fuse_open_in{.flags = small});
    case FUSE_CREATE:
        return raw(fuse_create_in{.flags = small, .mode = 0644}, name_from(reader));
    case FUSE_READ:
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
    case FUSE_WRITE: {
        fuse_read_in what{};
        what.fh = handle, what.offset = wide, what.size = small;
        auto text = raw(what);
        if (opcode == FUSE_WRITE) text += std::string(small % 5000, 'w');
        return text;
    }
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        return raw(fuse_release_in{.fh = handle});
    case FUSE_FSYNC:
        return raw(fuse_fsync_in{.fh = handle});
    case FUSE_FALLOCATE:
        return raw(fuse_fallocate_in{.fh = handle, .offset = wide, .length = small, .mode = small & 3u});
    case FUSE_LSEEK:
        return raw(fuse_lseek_in{.fh = handle, .offset = wide, .whence = small & 7u});
    case FUSE_ACCESS:
        return raw(fuse_access_in{.mask = small & 15u});
    case FUSE_STATFS:
    case FUSE_DESTROY:
        return {};
    case FUSE_INIT:
        return raw(fuse_init_in{.major = 7, .minor = 31u + small % 8u, .flags = UINT32_MAX});
    default:
        return std::string(as_text(reader.take(small % 100)));
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static FsTestFolder folder;
    static bool prepared = false;
    if (!std::exchange(prepared, true)) {
        ::umask(0);
        std::ofstream(folder.path + "/outside") << "untouched";
    }
    std::filesystem::remove_all(folder.share());
    std::filesystem::create_directory(folder.share());
    CHECK(::symlink("../outside", folder.at("link").c_str()) == 0);
    if (size == 0) return 0;
    constexpr uint64_t kMostBytes = 1 << 20, kMostFiles = 40;
    FsTestGuest guest(folder.open(), data[0] % 8 != 0, {.most_bytes = kMostBytes, .most_files = kMostFiles});
    guest.init();
    ByteReader reader(std::as_bytes(std::span(data + 1, size - 1)));
    for (int step = 0; step < 60 && !reader.failed(); ++step) {
        uint32_t opcode = reader.number<uint8_t>() % 54;
        uint64_t node = reader.number<uint8_t>() % 10;
        if (opcode == FUSE_BATCH_FORGET || opcode == FUSE_FORGET) {
            guest.device->reset(); // these have no answer to wait for; a reset forgets more
            guest.init();
            continue;
        }
        auto arguments = arguments_from(reader, opcode);
        if (arguments.size() <= 0x10000) guest.ask(opcode, node, arguments, 0x3000);
    }
    const auto& operations = guest.device->operations();
    CHECK(operations.handles() <= FsOperations::kMostHandles);
    CHECK(operations.inodes().bytes() <= kSharesOverheadBytes);
    CHECK(operations.quota().used_bytes() <= kMostBytes && operations.quota().used_files() <= kMostFiles);
    CHECK(*read_file(folder.path + "/outside") == "untouched");
    uint64_t files = 0, bytes = 0;
    for (auto& entry : std::filesystem::recursive_directory_iterator(folder.share())) {
        if (entry.is_symlink()) continue;
        ++files;
        if (entry.is_regular_file()) bytes += (entry.file_size() + 4095) / 4096 * 4096;
    }
    CHECK(files <= kMostFiles && bytes <= kMostBytes);
    return 0;
}
