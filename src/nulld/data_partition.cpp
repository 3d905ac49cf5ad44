#include "nulld/data_partition.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"

namespace nullbox::nulld {

constexpr const char* kMarker = ".nullbox-data";

std::vector<std::string> candidate_devices(const std::string& sys_class_block) {
    std::vector<std::string> names;
    DIR* folder = ::opendir(sys_class_block.c_str());
    if (!folder) return names;
    while (dirent* entry = ::readdir(folder)) {
        std::string_view name = entry->d_name;
        bool never = name.starts_with('.') || name.starts_with("loop") || name.starts_with("ram") ||
                     name.starts_with("zram") || name.starts_with("sr") || name.starts_with("fd");
        if (!never) names.emplace_back(name);
    }
    ::closedir(folder);
    std::ranges::sort(names);
    return names;
}

// Documentation/filesystems/ext4: the superblock is at 1024; s_magic at 0x38, s_state at 0x3a,
// s_feature_incompat at 0x60.
bool looks_like_ext4(std::span<const std::byte> start, Ext4Superblock* found) {
    auto number = [&](size_t offset) -> uint16_t {
        if (start.size() < offset + 2) return 0;
        return ByteReader(start.subspan(offset)).number<uint16_t>();
    };
    constexpr uint16_t kExtents = 0x40; // what makes it ext4 and not ext2 or ext3
    if (number(1024 + 0x38) != 0xef53 || !(number(1024 + 0x60) & kExtents)) return false;
    constexpr uint16_t kRecover = 0x4, kValid = 1, kErrors = 2;
    uint16_t state = number(1024 + 0x3a);
    found->recorded_errors = (state & kErrors) != 0;
    found->clean = (state & (kValid | kErrors)) == kValid && !(number(1024 + 0x60) & kRecover);
    return true;
}

static int fsconfig(int fd, unsigned command, const char* key, const char* value) {
    return static_cast<int>(::syscall(SYS_fsconfig, fd, command, key, value, 0));
}

enum class Access {
    Look,  // nothing is written, not even what a journal that was cut off still holds
    Clean, // read-only, of a file system that was unmounted: may become ReadWrite without a second mount
    ReadWrite
};

// A mount that is nowhere yet: the caller looks into it or attaches it.
static Result<Fd> detached_ext4(const std::string& device, Access access) {
    Fd context(static_cast<int>(::syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC)));
    if (!context) return errno_error("open ext4");
    bool failed = fsconfig(context.get(), FSCONFIG_SET_STRING, "source", device.c_str()) < 0;
    if (access != Access::ReadWrite)
        failed = failed || fsconfig(context.get(), FSCONFIG_SET_FLAG, "ro", nullptr) < 0;
    if (access == Access::Look)
        failed = failed || fsconfig(context.get(), FSCONFIG_SET_FLAG, "noload", nullptr) < 0;
    else // Damage found while running makes it read-only at once: what is kept is not made worse.
        failed = failed || fsconfig(context.get(), FSCONFIG_SET_STRING, "errors", "remount-ro") < 0;
    if (failed || fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr) < 0)
        return errno_error(cat("mount ", device));
    unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME |
                          (access == Access::Look ? MOUNT_ATTR_RDONLY : 0);
    Fd mounted(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, attributes)));
    if (!mounted) return errno_error(cat("mount ", device));
    return mounted;
}

static Result<> make_writable(const Fd& mounted, const std::string& device) {
    Fd context(
        static_cast<int>(::syscall(SYS_fspick, mounted.get(), "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)));
    if (!context || fsconfig(context.get(), FSCONFIG_SET_FLAG, "rw", nullptr) < 0 ||
        fsconfig(context.get(), FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr) < 0)
        return errno_error(cat("mount ", device, " for writing"));
    return {};
}

static bool has_marker(const Fd& root) {
    struct stat status{};
    return ::fstatat(root.get(), kMarker, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool holds_ext4(const std::string& device, Ext4Superblock* superblock) {
    Fd fd(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return false; // an empty drive, or a name without a node: nothing to look at
    std::byte start[2048];
    ssize_t count = ::pread(fd.get(), start, sizeof start, 0);
    return count > 0 && looks_like_ext4(std::span(start).first(static_cast<size_t>(count)), superblock);
}

// looked: the mount that was looked into.
static Result<> take(Fd looked, Access access, const std::string& device) {
    if (access == Access::Clean) {
        TRY(make_writable(looked, device));
    } else {
        looked.reset();
        looked = TRY(detached_ext4(device, Access::ReadWrite));
    }
    if (::syscall(SYS_move_mount, looked.get(), "", AT_FDCWD, "/var", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return errno_error(cat("attach ", device, " at /var"));
    return {};
}

static void use_memory(DataPartition& data) {
    // A quarter of the memory at most: agents' RAM is what the rest is for.
    if (::mount("tmpfs", "/var", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                "mode=0755,size=25%,nr_inodes=64k") < 0)
        data.problems.push_back(errno_error("mount tmpfs at /var").message);
}

DataPartition mount_var() {
    DataPartition data;
    std::vector<std::string> others;
    for (const auto& name : candidate_devices()) {
        std::string device = "/dev/" + name;
        Ext4Superblock superblock;
        if (!holds_ext4(device, &superblock)) continue;
        bool first = data.device.empty();
        auto access = first && superblock.clean ? Access::Clean : Access::Look;
        auto looked = detached_ext4(device, access);
        if (!looked) data.problems.push_back(cat(device, " was not examined: ", looked.error().message));
        if (!looked || !has_marker(*looked)) continue;
        if (!first) {
            others.push_back(device);
            continue;
        }
        if (auto taken = take(*std::move(looked), access, device); !taken) {
            data.problems.push_back(cat("data partition: ", taken.error().message,
                                        "; its content is not used. Check it on another machine: fsck.ext4 ",
                                        device));
            continue;
        }
        data.device = device;
        if (superblock.recorded_errors)
            data.problems.push_back(
                cat("data partition ", device,
                    " has recorded errors: back it up, and run fsck.ext4 on another machine"));
    }
    for (const auto& other : others)
        data.problems.push_back(
            cat(other, " is a data partition too and is not used: ", data.device, " comes first by name"));
    if (data.device.empty()) use_memory(data);
    return data;
}

} // namespace nullbox::nulld
