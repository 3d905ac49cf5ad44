#include "cage/start_turns.h"

#include <algorithm>
#include <sched.h>

namespace nullbox::cage {

constexpr std::chrono::milliseconds kLookTime{25};

StartTurns::Limits StartTurns::of_this_machine() {
    cpu_set_t cpus; // those that we may run on, which may be fewer than there are
    bool known = ::sched_getaffinity(0, sizeof cpus, &cpus) == 0;
    size_t count = known ? static_cast<size_t>(CPU_COUNT(&cpus)) : 1;
    return {.few = count, .most = 2 * count + 2};
}

void StartTurns::enter(const void* who, std::function<void()> go) {
    if (starting_.size() < limits_.few && waiting_.empty()) {
        starting_.insert(who);
        return go();
    }
    waiting_.push_back({who, std::move(go)});
    if (!look_) look_soon();
}

void StartTurns::leave(const void* who) {
    starting_.erase(who);
    std::erase_if(waiting_, [who](const Waiting& one) { return one.who == who; });
    // From the loop: whoever leaves is in the middle of something.
    if (!waiting_.empty() && starting_.size() < allowed())
        next_ = loop_.after(std::chrono::milliseconds(0), [this] {
            next_.drop();
            admit(allowed());
        });
}

// The last ones start together, or the very last would leave all cores but one idle.
size_t StartTurns::allowed() const { return waiting_.size() <= limits_.few ? limits_.most : limits_.few; }

void StartTurns::admit(size_t until) {
    while (!waiting_.empty() && starting_.size() < until) {
        auto one = std::move(waiting_.front());
        waiting_.pop_front();
        starting_.insert(one.who);
        one.go();
    }
}

void StartTurns::look_soon() {
    if (!cpu_time_) return;
    looked_at_ = Clock::now();
    used_then_ = cpu_time_();
    look_ = loop_.after(kLookTime, [this] { look(); });
}

// More than a quarter of the cores' time was left over since the last look: one more may start.
void StartTurns::look() {
    look_.drop();
    auto could = (Clock::now() - looked_at_) * limits_.few;
    if ((cpu_time_() - used_then_) * 4 < could * 3) admit(std::min(starting_.size() + 1, limits_.most));
    if (!waiting_.empty()) look_soon();
}

} // namespace nullbox::cage
