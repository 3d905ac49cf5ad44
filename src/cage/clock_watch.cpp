#include "cage/clock_watch.h"

#include <cerrno>
#include <cstdint>
#include <ctime>
#include <limits>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace nullbox::cage {

// An alarm that is never due, and that the kernel calls off when the clock is set (timerfd_create(2)).
static Result<> arm(int timer) {
    itimerspec never{.it_interval = {},
                     .it_value = {.tv_sec = std::numeric_limits<time_t>::max(), .tv_nsec = 0}};
    if (::timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, nullptr) < 0)
        return errno_error("watch the clock");
    return {};
}

Result<ClockWatch> ClockWatch::make(Loop& loop, std::function<void()> set) {
    Fd timer(::timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!timer) return errno_error("make a timer");
    TRY(arm(timer.get()));
    auto watch = TRY(loop.watch(timer.get(), EPOLLIN, [fd = timer.get(), set = std::move(set)](uint32_t) {
        uint64_t expirations = 0;
        if (::read(fd, &expirations, sizeof expirations) >= 0 || errno == ECANCELED) {
            (void)arm(fd);
            set();
        }
    }));
    return ClockWatch(std::move(timer), std::move(watch));
}

} // namespace nullbox::cage
