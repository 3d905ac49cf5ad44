#include "sandbox/namespaces.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <linux/sched.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"

namespace nullbox::sandbox {

struct NamedFlag {
    std::string_view name;
    uint64_t flag;
};
constexpr std::array kNamespaces = {NamedFlag{"mount", CLONE_NEWNS},  NamedFlag{"net", CLONE_NEWNET},
                                    NamedFlag{"ipc", CLONE_NEWIPC},   NamedFlag{"uts", CLONE_NEWUTS},
                                    NamedFlag{"pid", CLONE_NEWPID},   NamedFlag{"user", CLONE_NEWUSER},
                                    NamedFlag{"time", CLONE_NEWTIME}, NamedFlag{"cgroup", CLONE_NEWCGROUP}};

Result<uint64_t> namespace_flags(const std::vector<std::string>& names) {
    uint64_t flags = 0;
    for (const auto& name : names) {
        auto found = std::ranges::find(kNamespaces, name, &NamedFlag::name);
        if (found == kNamespaces.end()) {
            std::vector<std::string_view> known;
            for (const auto& each : kNamespaces) known.push_back(each.name);
            auto near = closest(name, known);
            return error(cat("unknown namespace \"", printable(name, 64), "\"",
                             near.empty() ? "" : cat("; did you mean \"", near, "\"?")));
        }
        flags |= found->flag;
    }
    return flags;
}

int receive_mounts_only() noexcept {
    return ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) < 0 ? errno : 0;
}

int loopback_up() noexcept {
    int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    ifreq request{};
    std::memcpy(request.ifr_name, "lo", 3);
    int failed = ::ioctl(fd, SIOCGIFFLAGS, &request) < 0 ? errno : 0;
    request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
    if (!failed && ::ioctl(fd, SIOCSIFFLAGS, &request) < 0) failed = errno;
    ::close(fd);
    return failed;
}

} // namespace nullbox::sandbox
