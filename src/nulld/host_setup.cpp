#include "nulld/host_setup.h"

#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::nulld {

int64_t image_build_time() {
    struct stat status{};
    return ::stat("/system/bin/nulld", &status) == 0 ? status.st_mtime : 0;
}

static std::string date(int64_t seconds) {
    char text[32];
    time_t time = seconds;
    tm parts{};
    ::gmtime_r(&time, &parts);
    size_t length = ::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &parts);
    return {text, length};
}

std::optional<std::string> raise_clock(int64_t built_at) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec >= built_at) return std::nullopt;
    timespec floor{.tv_sec = built_at, .tv_nsec = 0};
    if (::clock_settime(CLOCK_REALTIME, &floor) < 0) return errno_error("set the clock").message;
    return cat("the clock said ", date(now.tv_sec), ", which is before this image was built; it is now ",
               date(built_at));
}

constexpr size_t kSeedBytes = 512;

Result<> load_random_seed(const std::string& path) {
    std::string seed = TRY(read_file(path, kSeedBytes));
    return write_existing("/dev/urandom", seed);
}

Result<> save_random_seed(const std::string& path) {
    std::string seed(kSeedBytes, '\0');
    // Never wait for entropy here: a seed is only worth keeping when the pool is ready anyway.
    for (size_t done = 0; done < seed.size();) {
        ssize_t count = ::getrandom(seed.data() + done, seed.size() - done, GRND_NONBLOCK);
        if (count < 0) return errno_error("random bytes");
        done += static_cast<size_t>(count);
    }
    return write_file_atomic(path, seed, 0600);
}

Result<> set_hostname(const std::string& name) {
    if (::sethostname(name.data(), name.size()) < 0) return errno_error(cat("set hostname ", name));
    return {};
}

std::unique_ptr<Watchdog> Watchdog::open(Loop& loop, const std::string& path) {
    Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd) return nullptr;
    std::unique_ptr<Watchdog> watchdog(new Watchdog(loop, std::move(fd)));
    // The driver may round; what it answers is what counts.
    ::ioctl(watchdog->fd_.get(), WDIOC_SETTIMEOUT, &watchdog->timeout_s_);
    int actual = 0;
    if (::ioctl(watchdog->fd_.get(), WDIOC_GETTIMEOUT, &actual) == 0 && actual > 0)
        watchdog->timeout_s_ = actual;
    watchdog->call();
    return watchdog;
}

void Watchdog::call() {
    if (!fd_) return;
    ::ioctl(fd_.get(), WDIOC_KEEPALIVE, 0);
    timer_ = loop_.after(std::chrono::seconds(std::max(1, timeout_s_ / 3)), [this] { call(); });
}

void Watchdog::disarm() {
    timer_.drop();
    // The "magic close": without the V the hardware would take the closing for our death.
    if (fd_) (void)!::write(fd_.get(), "V", 1);
    fd_.reset();
}

} // namespace nullbox::nulld
