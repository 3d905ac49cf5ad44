// PID 1's first duty: every child that ends is reaped, its own and the orphans it inherits, before anything
// else is looked at. Signals come through one descriptor, at the loop's highest priority.
#pragma once

#include <functional>

#include "base/loop.h"
#include "nulld/supervisor.h"

namespace nullbox::nulld {

constexpr int kReapPriority = 100;
// At once; then the loop looks at the others too, so that a storm of forks cannot keep PID 1 to itself.
constexpr int kReapBatch = 4096;

struct ReapCounts {
    uint64_t total = 0, orphans = 0;
};

class Reaper {
public:
    struct Callbacks {
        std::function<bool(pid_t, Exit)> ended;          // true: it was a child of ours, not an orphan
        std::function<void()> all_reaped;                // after each batch
        std::function<void(int signal, pid_t)> signaled; // TERM, INT, PWR...; pid 0: the kernel
    };
    static Result<std::unique_ptr<Reaper>> make(Loop& loop, Callbacks callbacks);
    void reap();
    const ReapCounts& counts() const { return counts_; }

private:
    explicit Reaper(Loop& loop) : loop_(loop) {}
    void read_signals();
    Loop& loop_;
    Callbacks callbacks_;
    ReapCounts counts_;
    Fd signals_;
    Watch watch_, more_;
};

} // namespace nullbox::nulld
