// Small things the machine needs once at boot: a clock that is not before the image was built, random bytes
// from the last run, the name, the watchdog.
#pragma once

#include <optional>
#include <string>

#include "base/loop.h"

namespace nullbox::nulld {

// The image cannot be older than itself: a clock before built_at (seconds since 1970) is set to it. Says what
// it did, or nothing. Certificates issued in 1970 are what this prevents.
std::optional<std::string> raise_clock(int64_t built_at);
// When the image was built: the time stamp of this program in the read-only root.
int64_t image_build_time();

// Bytes of the last run go into the kernel's pool, without credit: they may have been copied with the disk.
Result<> load_random_seed(const std::string& path);
// New ones for the next run; the old ones are never used twice.
Result<> save_random_seed(const std::string& path);

Result<> set_hostname(const std::string& name);

// The hardware watchdog: resets the machine if PID 1 stops calling.
class Watchdog {
public:
    // Null when the machine has none.
    static std::unique_ptr<Watchdog> open(Loop& loop, const std::string& path = "/dev/watchdog0");
    // Before a halt or power off, after which nobody calls. Before a reboot it stays armed: the last resort
    // against a reboot that hangs.
    void disarm();
    int timeout_s() const { return timeout_s_; }

private:
    Watchdog(Loop& loop, Fd fd) : loop_(loop), fd_(std::move(fd)) {}
    void call();
    Loop& loop_;
    Fd fd_;
    int timeout_s_ = 30;
    Watch timer_;
};

} // namespace nullbox::nulld
