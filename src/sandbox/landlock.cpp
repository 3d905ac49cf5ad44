#include "sandbox/landlock.h"

#include <cerrno>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"

namespace nullbox::sandbox {

// Rights and fields younger than the C library's kernel headers (linux/landlock.h, 6.12).
constexpr uint64_t kTruncate = 1ULL << 14;                                     // version 3
constexpr uint64_t kIoctlDevice = 1ULL << 15;                                  // version 5
constexpr uint64_t kBindTcp = 1ULL << 0, kConnectTcp = 1ULL << 1;              // version 4
constexpr uint64_t kScopeAbstractSocket = 1ULL << 0, kScopeSignal = 1ULL << 1; // version 6
struct RulesetAttributes {
    uint64_t handled_access_fs, handled_access_net, scoped;
};

constexpr uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kWrite =
    kRead | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
    LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | kTruncate;
constexpr uint64_t kExecute = LANDLOCK_ACCESS_FS_EXECUTE | kRead;
constexpr uint64_t kDevice = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | kIoctlDevice;
constexpr uint64_t kWriteFolder =
    kWrite & ~static_cast<uint64_t>(LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                                    LANDLOCK_ACCESS_FS_MAKE_SYM);
// What a rule on something that is not a folder may hold.
constexpr uint64_t kFileRights = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                 LANDLOCK_ACCESS_FS_READ_FILE | kTruncate | kIoctlDevice;

static uint64_t known_file_rights(int version) noexcept {
    switch (version) {
    case 1:
        return (1ULL << 13) - 1;
    case 2:
        return (1ULL << 14) - 1; // + REFER
    case 3:
    case 4:
        return (1ULL << 15) - 1; // + TRUNCATE
    default:
        return (1ULL << 16) - 1; // + IOCTL_DEV
    }
}

static int probe() noexcept {
    return static_cast<int>(
        ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
}

int landlock_version() {
    int version = probe();
    return version < 0 ? 0 : version;
}

LandlockPolicy& LandlockPolicy::add(std::string path, uint64_t access) {
    rules_.push_back({.path = std::move(path), .access = access, .optional = false});
    return *this;
}
LandlockPolicy& LandlockPolicy::read(std::string path) { return add(std::move(path), kRead); }
LandlockPolicy& LandlockPolicy::write(std::string path) { return add(std::move(path), kWrite); }
LandlockPolicy& LandlockPolicy::execute(std::string path) { return add(std::move(path), kExecute); }
LandlockPolicy& LandlockPolicy::device(std::string path) { return add(std::move(path), kDevice); }
LandlockPolicy& LandlockPolicy::read_folder(int descriptor) {
    rules_.push_back(
        {.path = "a folder's descriptor", .access = kRead, .optional = false, .descriptor = descriptor});
    return *this;
}
LandlockPolicy& LandlockPolicy::write_folder(int descriptor) {
    read_folder(descriptor);
    rules_.back().access = kWriteFolder;
    return *this;
}
LandlockPolicy& LandlockPolicy::optional() {
    rules_.back().optional = true;
    return *this;
}
LandlockPolicy& LandlockPolicy::allow_tcp() {
    tcp_ = true;
    return *this;
}
LandlockPolicy& LandlockPolicy::allow_outside_contacts() {
    outside_contacts_ = true;
    return *this;
}

static int add_path(int ruleset, const LandlockPolicy::PathRule& rule, uint64_t known) noexcept {
    int fd = rule.descriptor >= 0 ? ::fcntl(rule.descriptor, F_DUPFD_CLOEXEC, 0)
                                  : ::open(rule.path.c_str(), O_PATH | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT && rule.optional ? 0 : errno;
    struct stat status{};
    int failed = ::fstat(fd, &status) < 0 ? errno : 0;
    landlock_path_beneath_attr attributes{.allowed_access = rule.access & known, .parent_fd = fd};
    if (!S_ISDIR(status.st_mode)) attributes.allowed_access &= kFileRights;
    if (!failed && ::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attributes, 0) < 0)
        failed = errno;
    ::close(fd);
    return failed;
}

LandlockPolicy::Failure LandlockPolicy::enforce() const noexcept {
    int version = probe();
    if (version < 0) return {.code = errno};
    RulesetAttributes attributes{.handled_access_fs = known_file_rights(version),
                                 .handled_access_net = tcp_ ? 0 : kBindTcp | kConnectTcp,
                                 .scoped = outside_contacts_ ? 0 : kScopeAbstractSocket | kScopeSignal};
    // An older kernel refuses a longer structure than it knows.
    size_t size = version < 4 ? 8 : version < 6 ? 16 : 24;
    int ruleset = static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size, 0));
    if (ruleset < 0) return {.code = errno};
    Failure failure;
    for (const auto& rule : rules_)
        if (int code = add_path(ruleset, rule, attributes.handled_access_fs)) {
            failure = {.code = code, .rule = &rule};
            break;
        }
    if (!failure.code && ::syscall(SYS_landlock_restrict_self, ruleset, 0) < 0) failure.code = errno;
    ::close(ruleset);
    return failure;
}

Result<> enforce_landlock(const LandlockPolicy& policy) {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return errno_error("set no_new_privs");
    auto failure = policy.enforce();
    if (!failure.code) return {};
    return errno_error(failure.code, failure.rule ? cat("Landlock rule for ", failure.rule->path)
                                                  : std::string("enforce Landlock"));
}

} // namespace nullbox::sandbox
