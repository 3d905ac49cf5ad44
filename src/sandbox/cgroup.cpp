#include "sandbox/cgroup.h"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::sandbox {

Result<Cgroup> Cgroup::create(std::string path) {
    Cgroup group(std::move(path));
    if (::mkdir(group.path_.c_str(), 0755) < 0 && errno != EEXIST)
        return errno_error(cat("make control group ", group.path_));
    group.directory_.reset(::open(group.path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!group.directory_) return errno_error(cat("open control group ", group.path_));
    return group;
}

Cgroup Cgroup::child(std::string_view name) const { return Cgroup(cat(path_, "/", name)); }

Result<> Cgroup::limit(const CgroupLimits& limits) {
    auto number = [](uint64_t value) { return value ? cat(value) : std::string("max"); };
    constexpr uint64_t kPeriodUs = 100'000;
    TRY(write_existing(path_ + "/memory.max", number(limits.memory_max_bytes)));
    TRY(write_existing(path_ + "/memory.oom.group", limits.memory_max_bytes ? "1" : "0"));
    TRY(write_existing(path_ + "/pids.max", number(limits.pids_max)));
    return write_existing(path_ + "/cpu.max",
                          cat(number(limits.cpu_max_percent * kPeriodUs / 100), " ", kPeriodUs));
}

Result<> Cgroup::enable_controllers_below() {
    std::string available = TRY(read_file(path_ + "/cgroup.controllers"));
    std::string wanted;
    // Only those that limits are made of: each one more costs at every group that is made.
    for (auto name : split(trim(available), ' '))
        if (name == "cpu" || name == "io" || name == "memory" || name == "pids")
            wanted += cat(wanted.empty() ? "+" : " +", name);
    if (wanted.empty()) return {};
    return write_existing(path_ + "/cgroup.subtree_control", wanted);
}

Result<> Cgroup::delegate_to(uid_t uid, gid_t gid) {
    // The files cgroups(7) names under "delegation"; the others (the limits) stay root's.
    for (const char* file : {"", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"})
        if (::chown((path_ + file).c_str(), uid, gid) < 0)
            return errno_error(cat("give ", path_, file, " to uid ", uid));
    return {};
}

Result<> Cgroup::add(pid_t pid) { return write_existing(path_ + "/cgroup.procs", cat(pid)); }

Result<> Cgroup::kill() { return write_existing(path_ + "/cgroup.kill", "1"); }

// One "key value" line of a flat keyed file, or a file that is one number (empty key).
uint64_t Cgroup::number_in(const char* file, std::string_view key) const {
    auto text = read_file(cat(path_, "/", file), 4096);
    if (!text) return 0;
    for (auto line : split(*text, '\n')) {
        if (!key.empty()) {
            if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ' ') continue;
            line.remove_prefix(key.size() + 1);
        }
        if (auto value = parse_number(trim(line), 0, INT64_MAX)) return static_cast<uint64_t>(*value);
    }
    return 0;
}

bool Cgroup::populated() const { return number_in("cgroup.events", "populated") == 1; }
uint64_t Cgroup::memory_current_bytes() const { return number_in("memory.current", ""); }
std::chrono::microseconds Cgroup::cpu_time() const {
    return std::chrono::microseconds(number_in("cpu.stat", "usage_usec"));
}
uint64_t Cgroup::oom_kills() const { return number_in("memory.events", "oom_kill"); }
uint64_t Cgroup::processes() const { return number_in("pids.current", ""); }

Result<Fd> Cgroup::open_events() const { return open_readonly(path_ + "/cgroup.events"); }

Result<> Cgroup::remove() {
    // Depth first; the kernel allows few levels, and a delegated subtree is as deep as its owner made it,
    // so the walk follows one name at a time instead of recursing with descriptors open.
    for (int rounds = 0; rounds < 4096; rounds++) {
        std::string deepest = path_;
        for (bool deeper = true; deeper;) {
            deeper = false;
            DIR* folder = ::opendir(deepest.c_str());
            if (!folder) break;
            while (dirent* entry = ::readdir(folder)) {
                if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
                deepest += cat("/", entry->d_name);
                deeper = true;
                break;
            }
            ::closedir(folder);
        }
        if (::rmdir(deepest.c_str()) < 0 && errno != ENOENT)
            return errno_error(cat("remove control group ", deepest));
        if (deepest == path_) return {};
    }
    return error(cat("remove control group ", path_, ": too many groups below it"));
}

} // namespace nullbox::sandbox
