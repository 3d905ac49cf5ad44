#include "cage/start_turns.h"

#include <algorithm>
#include <sched.h>

namespace nullbox::cage {

size_t StartTurns::of_this_machine() {
    cpu_set_t cpus; // those that we may run on, which may be fewer than there are
    bool known = ::sched_getaffinity(0, sizeof cpus, &cpus) == 0;
    return 2 * static_cast<size_t>(known ? CPU_COUNT(&cpus) : 1) + 2;
}

void StartTurns::enter(const void* who, std::function<void()> go) {
    if (starting_.size() >= most_ || !waiting_.empty()) {
        waiting_.push_back({who, std::move(go)});
        return;
    }
    starting_.insert(who);
    go();
}

void StartTurns::leave(const void* who) {
    starting_.erase(who);
    std::erase_if(waiting_, [who](const Waiting& one) { return one.who == who; });
    // From the loop: whoever leaves is in the middle of something.
    if (!waiting_.empty() && starting_.size() < most_)
        next_ = loop_.after(std::chrono::milliseconds(0), [this] { next(); });
}

void StartTurns::next() {
    next_.drop();
    while (!waiting_.empty() && starting_.size() < most_) {
        auto one = std::move(waiting_.front());
        waiting_.pop_front();
        starting_.insert(one.who);
        one.go();
    }
}

} // namespace nullbox::cage
