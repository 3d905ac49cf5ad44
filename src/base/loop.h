// A small single-threaded epoll loop: PID 1, the VM's device thread and the Varlink servers run on it.
//
// Invariant: a callback is never called for a watch that has been dropped, even when its event was already
// fetched; epoll data carries slot and generation, so a stale event finds nobody. Callbacks may add and drop
// any watch, their own included. All calls are from the loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/fd.h"

namespace nullbox {

using Clock = std::chrono::steady_clock;

class Loop;

// Keeps a descriptor or a timer in the loop; dropping it takes it out. It does not own the descriptor, and
// must be dropped before the descriptor is closed and before the loop ends.
class [[nodiscard]] Watch {
public:
    Watch() = default;
    Watch(Watch&& other) noexcept;
    Watch& operator=(Watch&& other) noexcept;
    ~Watch() { drop(); }
    void drop();
    // As drop(), of a descriptor that is about to be closed and has no duplicate: epoll(7) forgets it then.
    void drop_closing();
    explicit operator bool() const { return loop_ != nullptr; }
    // Changes the epoll events of a descriptor's watch (EPOLLIN, EPOLLOUT, 0).
    Result<> set_events(uint32_t events);

private:
    friend class Loop;
    Watch(Loop* loop, uint64_t key) : loop_(loop), key_(key) {}
    Loop* loop_ = nullptr;
    uint64_t key_ = 0; // slot and generation of a descriptor, or a timer's id with the top bit set
};

class Loop {
public:
    static Result<std::unique_ptr<Loop>> make();
    ~Loop() = default;
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    using Ready = std::function<void(uint32_t events)>;
    // priority: among events of one round, higher is called first (PID 1 reaps before anything else).
    Result<Watch> watch(int fd, uint32_t events, Ready ready, int priority = 0);
    // Calls once, at or after the given time.
    Watch at(Clock::time_point when, std::function<void()> due);
    Watch after(Clock::duration delay, std::function<void()> due) {
        return at(Clock::now() + delay, std::move(due));
    }

    // Until stop() or a failure of epoll itself.
    Result<> run();
    // One round: waits at most the given time (negative: without end), calls what is due.
    Result<> run_once(std::chrono::milliseconds most);
    void stop() { stopped_ = true; }

    // For a loop inside another event loop: readable whenever run_once(0) has something to do, timers
    // included.
    Result<int> fd();

private:
    friend class Watch;
    struct Slot {
        int fd = -1;
        uint32_t generation = 0;
        int priority = 0;
        std::shared_ptr<Ready> ready; // shared: a callback may drop its own watch while it runs
    };
    explicit Loop(Fd epoll) : epoll_(std::move(epoll)) {}
    void drop(uint64_t key);
    void forget(uint64_t key);
    Result<> set_events(uint64_t key, uint32_t events);
    int wait_time_ms(std::chrono::milliseconds most) const;
    void fire_timers();
    void set_alarm();

    Fd epoll_;
    Fd alarm_; // timerfd for the first of timers_, in epoll_; only once fd() was called
    Clock::time_point alarm_set_to_{};
    std::vector<Slot> slots_;
    std::vector<uint32_t> free_slots_;
    std::map<std::pair<Clock::time_point, uint64_t>, std::function<void()>> timers_;
    std::map<uint64_t, Clock::time_point> timer_times_;
    uint64_t next_timer_ = 1;
    bool stopped_ = false;
};

} // namespace nullbox
