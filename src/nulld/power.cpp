#include "nulld/power.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/text.h"

namespace nullbox::nulld {

using std::chrono::milliseconds;

constexpr milliseconds kLastKill{1000}; // for processes that no service owns
constexpr milliseconds kUnmounting{10'000};

std::string_view name_of(PowerAction action) {
    switch (action) {
    case PowerAction::Reboot:
        return "reboot";
    case PowerAction::PowerOff:
        return "power off";
    case PowerAction::Halt:
        return "halt";
    }
    return "?";
}

std::vector<std::string> unmount_order(const std::vector<MountedAt>& mounts) {
    std::vector<std::string> first, rest;
    for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount) {
        const auto& target = mount->target;
        if (target == "/" || target == "/dev" || target == "/proc" || target.starts_with("/sys")) continue;
        bool data = target == "/var" || target.starts_with("/var/");
        (data ? first : rest).push_back(target);
    }
    first.insert(first.end(), rest.begin(), rest.end());
    return first;
}

static void kill_everything() {
    auto end = Clock::now() + kLastKill;
    ::kill(-1, SIGKILL); // everything but PID 1
    while (Clock::now() < end) {
        pid_t gone = ::waitpid(-1, nullptr, WNOHANG);
        if (gone < 0 && errno == ECHILD) return;
        if (gone == 0) ::usleep(2000);
    }
}

// In a child: sync and unmount may wait for a disk that never answers. Its exit status: mounts still there.
static int sync_and_unmount() {
    ::sync();
    int left = 0;
    for (const auto& target : unmount_order(current_mounts())) {
        if (::umount2(target.c_str(), 0) == 0) continue;
        // Somebody holds it: at least nothing more is written.
        if (::mount(nullptr, target.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) < 0) left++;
    }
    ::sync();
    return std::min(left, 100);
}

static std::string unmount_with_limit() {
    pid_t child = ::fork();
    if (child == 0) ::_exit(sync_and_unmount());
    auto end = Clock::now() + kUnmounting;
    for (int status = 0; child > 0;) {
        if (::waitpid(child, &status, WNOHANG) == child) {
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "all file systems are unmounted";
            return cat("some file systems could not be unmounted (", WEXITSTATUS(status), ")");
        }
        if (Clock::now() >= end) return "the disk does not answer; going on without unmounting";
        ::usleep(1000);
    }
    return "no process left to unmount with";
}

void end_machine(PowerAction action, const std::function<void(std::string_view)>& say,
                 const std::function<void()>& before_end) {
    kill_everything();
    say(unmount_with_limit());
    before_end();
    auto command = action == PowerAction::Reboot     ? static_cast<unsigned>(RB_AUTOBOOT)
                   : action == PowerAction::PowerOff ? static_cast<unsigned>(RB_POWER_OFF)
                                                     : static_cast<unsigned>(RB_HALT_SYSTEM);
    ::reboot(static_cast<int>(command));
    // Not reached, unless we are not PID 1 of a machine, or it cannot do that.
    ::reboot(static_cast<int>(RB_HALT_SYSTEM));
    for (;;) ::pause();
}

} // namespace nullbox::nulld
