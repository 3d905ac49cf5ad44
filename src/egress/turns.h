// So many at a time, the others in the order in which they came. Internal; one thread.
#pragma once

#include <deque>
#include <memory>

#include "egress/task.h"

namespace nullbox::egress {

class Turn;

// There are twice as many turns when none has been passed on for `still`, because those who have them keep
// them; and one more for who has waited for `most`.
struct Patience {
    Clock::duration still, most;
};

class Turns {
public:
    explicit Turns(size_t most) : all_(most), free_(most) {} // who waits does so until it is their turn
    Turns(size_t most, Patience patience) : all_(most), free_(most), patience_(patience) {}

private:
    friend class Turn;
    Clock::time_point still_until(Clock::time_point came) const {
        return std::max(came, changed_) + patience_.still;
    }
    Clock::time_point patient_until(Clock::time_point came) const {
        if (patience_.most == Clock::duration{}) return Clock::time_point::max();
        return std::min(still_until(came), came + patience_.most);
    }
    void add(size_t more);

    size_t all_, free_;
    Patience patience_{};
    Clock::time_point changed_{}; // one was passed on, or there are more
    std::deque<Turn*> waiting_;
};

// From the end of wait() until it goes out of scope. It may outlive whoever made the Turns.
class Turn {
public:
    Turn(std::shared_ptr<Turns> turns, Loop& loop) : turns_(std::move(turns)), changed_(loop) {}
    Turn(const Turn&) = delete;
    ~Turn() { end(); }
    Task<> wait() {
        if (turns_->free_ > 0) {
            turns_->free_--;
            given_ = true;
            co_return;
        }
        turns_->waiting_.push_back(this);
        auto came = Clock::now();
        while (!given_) {
            co_await changed_.wait_until(turns_->patient_until(came));
            auto now = Clock::now();
            if (given_ || now < turns_->patient_until(came)) continue;
            turns_->add(now >= turns_->still_until(came) ? turns_->all_ : 1);
        }
    }
    // Before it goes out of scope.
    void end() {
        if (std::exchange(given_, false))
            pass_on(*turns_);
        else
            std::erase(turns_->waiting_, this);
    }

private:
    friend class Turns;
    static void pass_on(Turns& turns) {
        turns.changed_ = Clock::now();
        if (turns.waiting_.empty()) {
            turns.free_++;
            return;
        }
        auto* next = turns.waiting_.front();
        turns.waiting_.pop_front();
        next->given_ = true;
        next->changed_.notify();
    }
    std::shared_ptr<Turns> turns_;
    Condition changed_;
    bool given_ = false;
};

inline void Turns::add(size_t more) {
    all_ += more;
    while (more-- > 0) Turn::pass_on(*this);
}

} // namespace nullbox::egress
