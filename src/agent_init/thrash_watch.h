// Tells when the guest has far too little memory: the kernel kills somebody only when it finds nothing more
// to reclaim, and may go on for ever throwing out pages of programs and reading them again. What it says of
// that is the time in which every program waited for memory (pressure stall information). Follows the
// kernel's Documentation/accounting/psi.rst.
#pragma once

#include "base/loop.h"

namespace nullbox::agent_init {

struct ThrashWatch {
    Fd trigger;
    Watch watch; // after what it watches: dropped first
};

// Calls `thrashing` after ten seconds of which less than one was left for work; again after ten more.
Result<ThrashWatch> watch_for_thrashing(Loop& loop, std::function<void()> thrashing);

} // namespace nullbox::agent_init
