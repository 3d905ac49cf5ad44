// So many at a time, the others in the order in which they came. Internal; one thread.
#pragma once

#include <deque>
#include <memory>

#include "base/loop.h" // Clock
#include "egress/async.h"

namespace nullbox::egress {

class Turn;

// Those who wait get a turn of their own, of which there is one more from then on, when none has been passed
// on for `still`: those who have them keep them for long. At the latest after `most`.
struct Patience {
    Clock::duration still, most;
};

class Turns {
public:
    explicit Turns(size_t most) : free_(most) {} // who waits does so until it is their turn
    Turns(size_t most, Patience patience) : free_(most), patience_(patience) {}

private:
    friend class Turn;
    Clock::time_point patient_until(Clock::time_point came) const {
        if (patience_.most == Clock::duration{}) return Clock::time_point::max();
        return std::min(std::max(came, passed_on_) + patience_.still, came + patience_.most);
    }
    size_t free_;
    Patience patience_{};
    Clock::time_point passed_on_{};
    std::deque<Turn*> waiting_;
};

// From the end of wait() until it goes out of scope. It may outlive whoever made the Turns.
class Turn {
public:
    Turn(std::shared_ptr<Turns> turns, const asio::any_io_executor& executor)
        : turns_(std::move(turns)), timer_(executor) {}
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
        while (!given_ && Clock::now() < turns_->patient_until(came)) {
            timer_.expires_at(turns_->patient_until(came));
            co_await timer_.async_wait(kAwait);
        }
        if (std::exchange(given_, true)) co_return;
        std::erase(turns_->waiting_, this);
    }
    // Before it goes out of scope.
    void end() {
        auto& waiting = turns_->waiting_;
        if (!std::exchange(given_, false)) {
            std::erase(waiting, this);
        } else if (waiting.empty()) {
            turns_->free_++;
        } else {
            auto* next = waiting.front();
            waiting.pop_front();
            next->given_ = true;
            next->timer_.cancel();
            turns_->passed_on_ = Clock::now();
        }
    }

private:
    std::shared_ptr<Turns> turns_;
    asio::steady_timer timer_;
    bool given_ = false;
};

} // namespace nullbox::egress
