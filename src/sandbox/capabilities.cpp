#include "sandbox/capabilities.h"

#include <array>
#include <cerrno>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/capability_names.h"
#include "base/text.h"

namespace nullbox::sandbox {

Result<CapabilitySet> CapabilitySet::parse(const std::vector<std::string>& names) {
    CapabilitySet set;
    for (const auto& name : names) {
        size_t index = 0;
        while (index < kCapabilityNames.size() && name != kCapabilityNames[index]) index++;
        if (index == kCapabilityNames.size()) {
            auto near = closest(name, {kCapabilityNames.begin(), kCapabilityNames.end()});
            return error(cat("unknown capability \"", printable(name, 64), "\"",
                             near.empty() ? "" : cat("; did you mean \"", near, "\"?")));
        }
        set.add(static_cast<int>(index));
    }
    return set;
}

std::vector<std::string> CapabilitySet::names() const {
    std::vector<std::string> out;
    for (int number = 0; number < 64; number++)
        if (has(number))
            out.emplace_back(static_cast<size_t>(number) < kCapabilityNames.size()
                                 ? kCapabilityNames[static_cast<size_t>(number)]
                                 : cat("CAP_", number));
    return out;
}

static int set_capabilities(CapabilitySet keep, CapabilitySet inheritable) noexcept {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct halves[2]{};
    for (int half = 0; half < 2; half++) {
        auto bits = static_cast<uint32_t>(keep.bits() >> (32 * half));
        auto over_exec = static_cast<uint32_t>(inheritable.bits() >> (32 * half));
        halves[half] = {.effective = bits, .permitted = bits, .inheritable = over_exec};
    }
    return ::syscall(SYS_capset, &header, halves) < 0 ? errno : 0;
}

// The running kernel may know more capabilities than this program's headers; ask it until it refuses.
int limit_bounding_set(CapabilitySet keep) noexcept {
    for (int number = 0; number < 64; number++) {
        if (::prctl(PR_CAPBSET_READ, number, 0, 0, 0) < 0) return 0; // EINVAL: past the last
        if (!keep.has(number) && ::prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0) return errno;
    }
    return 0;
}

int become_user(User user, CapabilitySet keep) noexcept {
    // Without this the change of uid would empty the permitted set.
    if (::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return errno;
    if (::setgroups(0, nullptr) < 0) return errno;
    // Raw calls: glibc's versions signal all threads, and a child of fork has one.
    if (::syscall(SYS_setresgid, user.gid, user.gid, user.gid) < 0) return errno;
    if (::syscall(SYS_setresuid, user.uid, user.uid, user.uid) < 0) return errno;
    // Changing securebits takes CAP_SETPCAP, so it goes last. (It cannot be inheritable: it is not in the
    // bounding set any more.)
    if (int failed = set_capabilities(CapabilitySet(keep).add(CAP_SETPCAP), keep)) return failed;
    for (int number = 0; number < 64; number++)
        if (keep.has(number) && ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) < 0) return errno;
    constexpr unsigned long kNoMagicRoot = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                           SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    if (::prctl(PR_SET_SECUREBITS, kNoMagicRoot, 0, 0, 0) < 0) return errno;
    return set_capabilities(keep, keep);
}

int keep_only(CapabilitySet keep) noexcept {
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return errno;
    return set_capabilities(keep, {});
}

Result<CapabilitySet> effective_capabilities() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct halves[2]{};
    if (::syscall(SYS_capget, &header, halves) < 0) return errno_error("read capabilities");
    return CapabilitySet(uint64_t{halves[1].effective} << 32 | halves[0].effective);
}

} // namespace nullbox::sandbox
