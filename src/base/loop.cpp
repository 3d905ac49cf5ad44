#include "base/loop.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/check.h"

namespace nullbox {

constexpr uint64_t kTimerBit = uint64_t{1} << 63;
constexpr uint64_t kAlarmKey = UINT64_MAX;
constexpr size_t kEventsPerRound = 64;

static uint32_t slot_of(uint64_t key) { return static_cast<uint32_t>(key); }
static uint32_t generation_of(uint64_t key) { return static_cast<uint32_t>(key >> 32); }
static uint64_t key_of(uint32_t slot, uint32_t generation) { return uint64_t{generation} << 32 | slot; }

Watch::Watch(Watch&& other) noexcept : loop_(std::exchange(other.loop_, nullptr)), key_(other.key_) {}

Watch& Watch::operator=(Watch&& other) noexcept {
    if (this != &other) {
        drop();
        loop_ = std::exchange(other.loop_, nullptr);
        key_ = other.key_;
    }
    return *this;
}

void Watch::drop() {
    if (Loop* loop = std::exchange(loop_, nullptr)) loop->drop(key_);
}

void Watch::drop_closing() {
    if (Loop* loop = std::exchange(loop_, nullptr)) loop->forget(key_);
}

Result<> Watch::set_events(uint32_t events) {
    CHECK(loop_ != nullptr);
    return loop_->set_events(key_, events);
}

Result<std::unique_ptr<Loop>> Loop::make() {
    Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) return errno_error("make epoll");
    return std::unique_ptr<Loop>(new Loop(std::move(epoll)));
}

Result<Watch> Loop::watch(int fd, uint32_t events, Ready ready, int priority) {
    uint32_t index = 0;
    if (free_slots_.empty()) {
        index = static_cast<uint32_t>(slots_.size());
        slots_.emplace_back();
    } else {
        index = free_slots_.back();
        free_slots_.pop_back();
    }
    Slot& slot = slots_[index];
    epoll_event event{.events = events, .data = {.u64 = key_of(index, slot.generation)}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) {
        free_slots_.push_back(index);
        return errno_error("watch descriptor");
    }
    slot.fd = fd;
    slot.priority = priority;
    slot.ready = std::make_shared<Ready>(std::move(ready));
    return Watch(this, event.data.u64);
}

Watch Loop::at(Clock::time_point when, std::function<void()> due) {
    uint64_t id = next_timer_++;
    timers_.emplace(std::pair(when, id), std::move(due));
    timer_times_.emplace(id, when);
    if (alarm_) set_alarm();
    return {this, id | kTimerBit};
}

void Loop::drop(uint64_t key) {
    if (key & kTimerBit) {
        uint64_t id = key & ~kTimerBit;
        auto found = timer_times_.find(id);
        if (found == timer_times_.end()) return; // it has fired
        timers_.erase(std::pair(found->second, id));
        timer_times_.erase(found);
        return;
    }
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, slots_[slot_of(key)].fd, nullptr);
    forget(key);
}

void Loop::forget(uint64_t key) {
    Slot& slot = slots_[slot_of(key)];
    CHECK(!(key & kTimerBit) && slot.generation == generation_of(key));
    slot.fd = -1;
    slot.ready.reset();
    slot.generation = (slot.generation + 1) & 0x7fffffff; // the top bit tells timers from descriptors
    free_slots_.push_back(slot_of(key));
}

Result<> Loop::set_events(uint64_t key, uint32_t events) {
    CHECK(!(key & kTimerBit));
    Slot& slot = slots_[slot_of(key)];
    CHECK(slot.generation == generation_of(key));
    epoll_event event{.events = events, .data = {.u64 = key}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, slot.fd, &event) < 0)
        return errno_error("change watched events");
    return {};
}

int Loop::wait_time_ms(std::chrono::milliseconds most) const {
    using std::chrono::milliseconds;
    auto wait = most;
    if (!timers_.empty()) {
        // Rounded up: waking before the time would spin.
        auto until = std::chrono::ceil<milliseconds>(timers_.begin()->first.first - Clock::now());
        until = std::max(until, milliseconds(0));
        wait = wait.count() < 0 ? until : std::min(wait, until);
    }
    return static_cast<int>(std::clamp<int64_t>(wait.count(), -1, 60'000));
}

void Loop::fire_timers() {
    auto now = Clock::now();
    // Only what is due now: a timer that sets itself again waits for the next round.
    uint64_t first_new = next_timer_;
    while (!timers_.empty() && !stopped_) {
        auto first = timers_.begin();
        auto [when, id] = first->first;
        if (when > now || id >= first_new) return;
        auto due = std::move(first->second);
        timers_.erase(first);
        timer_times_.erase(id);
        due();
    }
}

Result<> Loop::run_once(std::chrono::milliseconds most) {
    std::array<epoll_event, kEventsPerRound> events{};
    int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), wait_time_ms(most));
    if (count < 0 && errno != EINTR) return errno_error("wait for events");
    auto ready = std::span(events).first(static_cast<size_t>(std::max(count, 0)));
    auto priority = [&](const epoll_event& event) {
        return event.data.u64 == kAlarmKey ? 0 : slots_[slot_of(event.data.u64)].priority;
    };
    std::ranges::stable_sort(ready, std::greater(), priority);
    for (const auto& event : ready) {
        if (event.data.u64 == kAlarmKey) {
            uint64_t expirations = 0;
            (void)!::read(alarm_.get(), &expirations, sizeof expirations);
            alarm_set_to_ = {};
            continue;
        }
        Slot& slot = slots_[slot_of(event.data.u64)];
        if (stopped_) break;
        if (slot.generation != generation_of(event.data.u64) || !slot.ready) continue;
        auto callback = slot.ready;
        (*callback)(event.events);
    }
    fire_timers();
    if (alarm_) set_alarm();
    return {};
}

Result<int> Loop::fd() {
    if (!alarm_) {
        Fd alarm(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
        if (!alarm) return errno_error("make a timer");
        epoll_event event{.events = EPOLLIN, .data = {.u64 = kAlarmKey}};
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, alarm.get(), &event) < 0)
            return errno_error("watch the timer");
        alarm_ = std::move(alarm);
        set_alarm();
    }
    return epoll_.get();
}

// A timer that is dropped leaves the alarm where it is: one idle round, no harm.
void Loop::set_alarm() {
    if (timers_.empty()) return;
    auto when = timers_.begin()->first.first;
    if (when == alarm_set_to_) return;
    alarm_set_to_ = when;
    auto since_start = std::max<int64_t>(std::chrono::nanoseconds(when.time_since_epoch()).count(), 1);
    itimerspec spec{
        .it_value = {.tv_sec = since_start / 1'000'000'000, .tv_nsec = since_start % 1'000'000'000}};
    ::timerfd_settime(alarm_.get(), TFD_TIMER_ABSTIME, &spec, nullptr);
}

Result<> Loop::run() {
    stopped_ = false;
    while (!stopped_) TRY(run_once(std::chrono::milliseconds(-1)));
    return {};
}

} // namespace nullbox
