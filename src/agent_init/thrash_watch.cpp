#include "agent_init/thrash_watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

namespace nullbox::agent_init {

// "full": no program worked. Both times in microseconds, and no window is longer. It is written with its 0.
constexpr char kTrigger[] = "full 9000000 10000000";

Result<ThrashWatch> watch_for_thrashing(Loop& loop, std::function<void()> thrashing) {
    ThrashWatch made{.trigger = Fd(::open("/proc/pressure/memory", O_RDWR | O_NONBLOCK | O_CLOEXEC)),
                     .watch = {}};
    if (!made.trigger) return errno_error("open /proc/pressure/memory");
    if (::write(made.trigger.get(), kTrigger, sizeof kTrigger) < 0)
        return errno_error("ask /proc/pressure/memory for a notice");
    made.watch =
        TRY(loop.watch(made.trigger.get(), EPOLLPRI, [thrashing = std::move(thrashing)](uint32_t events) {
            if (events & EPOLLPRI) thrashing();
        }));
    return made;
}

} // namespace nullbox::agent_init
