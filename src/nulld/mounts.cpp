#include "nulld/mounts.h"

#include <array>
#include <cerrno>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::nulld {

constexpr unsigned long kClosed = MS_NOSUID | MS_NODEV | MS_NOEXEC;

constexpr std::array kMounts = {
    // Stage 1 has usually moved /dev here already; then this one reports EBUSY and changes nothing.
    MountEntry{"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755,size=1m", true, "device nodes"},
    MountEntry{"proc", "/proc", kClosed, "hidepid=invisible", true,
               "processes; a service sees only those of its own uid"},
    MountEntry{"sysfs", "/sys", kClosed, nullptr, true, "devices and kernel settings"},
    MountEntry{"tmpfs", "/run", kClosed, "mode=0755,size=16m,nr_inodes=4k", true, "sockets of the services"},
    MountEntry{"tmpfs", "/tmp", kClosed, "mode=1777,size=16m,nr_inodes=4k", true, "scratch"},
    MountEntry{"cgroup2", "/sys/fs/cgroup", kClosed, "nsdelegate,memory_recursiveprot", true,
               "limits; killing a service whole"},
    MountEntry{"securityfs", "/sys/kernel/security", kClosed, nullptr, false,
               "state of the security modules"},
    MountEntry{"pstore", "/sys/fs/pstore", kClosed, nullptr, false, "what the kernel said when it last died"},
    // Read-only: nothing here writes to the firmware's variables, and a mistake there bricks machines.
    MountEntry{"efivarfs", "/sys/firmware/efi/efivars", kClosed | MS_RDONLY, nullptr, false,
               "the machine was started by UEFI"},
};
// No /dev/pts and no /dev/shm: nothing here has a terminal of its own or uses POSIX shared memory.

std::span<const MountEntry> mount_table() { return kMounts; }

std::vector<std::string> mount_all() {
    std::vector<std::string> problems;
    for (const auto& entry : kMounts) {
        if (::mount(entry.type, entry.target, entry.type, entry.flags, entry.options) == 0) continue;
        // EBUSY: it is mounted already. ENODEV, ENOENT: this kernel has no such file system or place.
        if (errno == EBUSY || (!entry.required && (errno == ENODEV || errno == ENOENT))) continue;
        problems.push_back(errno_error(cat("mount ", entry.type, " at ", entry.target)).message);
    }
    return problems;
}

// proc(5): "36 35 98:0 /root /target options [optional fields...] - type source superoptions"; a space in a
// path is \040.
static std::string unescaped(std::string_view field) {
    std::string out;
    for (size_t i = 0; i < field.size(); i++) {
        auto digit = [&](size_t at) { return field[at] >= '0' && field[at] <= '7'; };
        if (field[i] == '\\' && i + 3 < field.size() && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
            out +=
                static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 + field[i + 3] - '0');
            i += 3;
        } else {
            out += field[i];
        }
    }
    return out;
}

std::vector<MountedAt> parse_mountinfo(std::string_view text) {
    std::vector<MountedAt> mounts;
    for (auto line : split(text, '\n')) {
        auto fields = split(line, ' ');
        size_t dash = 6;
        while (dash < fields.size() && fields[dash] != "-") dash++;
        if (dash + 2 >= fields.size()) continue;
        mounts.push_back({.source = unescaped(fields[dash + 2]),
                          .target = unescaped(fields[4]),
                          .type = std::string(fields[dash + 1]),
                          .options = std::string(fields[5])});
    }
    return mounts;
}

std::vector<MountedAt> current_mounts() {
    return parse_mountinfo(read_file("/proc/self/mountinfo").value_or(""));
}

} // namespace nullbox::nulld
