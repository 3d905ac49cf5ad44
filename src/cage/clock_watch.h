// Notices that the host's clock was set, which running guests are then told: a guest takes the time once, at
// its start, and a box that woke up in 1970 learns the time later than that. Slewing is not noticed; a
// guest's clock is then off by as much as the host's was.
#pragma once

#include <functional>

#include "base/loop.h"

namespace nullbox::cage {

class ClockWatch {
public:
    // set is called from the loop, after each step of CLOCK_REALTIME.
    static Result<ClockWatch> make(Loop& loop, std::function<void()> set);

private:
    ClockWatch(Fd timer, Watch watch) : timer_(std::move(timer)), watch_(std::move(watch)) {}
    Fd timer_;
    Watch watch_; // after what it watches: dropped first
};

} // namespace nullbox::cage
