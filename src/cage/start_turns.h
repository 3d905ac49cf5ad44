// Whose VM may start now; the others wait in the order in which they came. Twenty that start together on two
// cores all take as long as twenty in a row, and pass their time limit. One thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <set>

#include "base/loop.h"

namespace nullbox::cage {

class StartTurns {
public:
    struct Limits {
        // So many start at a time in any case: one for each core.
        size_t few = 1;
        // Up to so many while the few leave cores idle: a start waits too, for a disk or the kernel.
        size_t most = 1;
    };
    static Limits of_this_machine();
    // For how long cage and all agents have run on a core by now. None: cores are never known to be idle.
    using CpuTime = std::function<std::chrono::microseconds()>;
    StartTurns(Loop& loop, Limits limits, CpuTime cpu_time = {})
        : loop_(loop), limits_{limits.few, std::max(limits.few, limits.most)},
          cpu_time_(std::move(cpu_time)) {}

    // go is called once: from here, or from the loop when a turn is free, or never if `who` leaves first.
    void enter(const void* who, std::function<void()> go);
    // Its start is over, well or not, or is not wanted any more. Of one that is not here nothing happens.
    void leave(const void* who);

private:
    size_t allowed() const;
    void admit(size_t until);
    void look_soon();
    void look();

    struct Waiting {
        const void* who;
        std::function<void()> go;
    };
    Loop& loop_;
    Limits limits_;
    CpuTime cpu_time_;
    std::set<const void*> starting_;
    std::deque<Waiting> waiting_;
    Watch next_; // somebody waits, and a turn is free
    Watch look_; // somebody waits, and none is
    Clock::time_point looked_at_;
    std::chrono::microseconds used_then_{};
};

} // namespace nullbox::cage
