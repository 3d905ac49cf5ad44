// Coroutines on base/loop. A Task does nothing until it is awaited, and then gives its value to who awaits
// it; Tasks runs those that nobody awaits. One thread; nothing throws.
#pragma once

#include <coroutine>
#include <exception>
#include <functional>
#include <list>
#include <optional>
#include <utility>

#include "base/loop.h"

namespace nullbox::egress {

template <typename T = void>
class Task;

namespace detail {

struct PromiseBase {
    std::coroutine_handle<> awaited_by;

    struct GoOnThere {
        bool await_ready() const noexcept { return false; }
        template <typename Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
            return ended.promise().awaited_by;
        }
        void await_resume() const noexcept {}
    };
    std::suspend_always initial_suspend() const noexcept { return {}; }
    GoOnThere final_suspend() const noexcept { return {}; }
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
};

template <typename T>
struct Promise : PromiseBase {
    std::optional<T> value;
    Task<T> get_return_object();
    void return_value(T given) { value.emplace(std::move(given)); }
    T take() { return *std::move(value); }
};

template <>
struct Promise<void> : PromiseBase {
    Task<void> get_return_object();
    void return_void() const {}
    void take() const {}
};

} // namespace detail

// Owns its coroutine: one that is dropped ends where it is, and with it all that it awaits.
template <typename T>
class [[nodiscard]] Task {
public:
    using promise_type = detail::Promise<T>;
    Task(Task&& other) noexcept : coroutine_(std::exchange(other.coroutine_, {})) {}
    Task& operator=(Task&&) = delete;
    ~Task() {
        if (coroutine_) coroutine_.destroy();
    }

    // co_await, once.
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> by) noexcept {
        coroutine_.promise().awaited_by = by;
        return coroutine_;
    }
    T await_resume() { return coroutine_.promise().take(); }

private:
    friend promise_type;
    explicit Task(std::coroutine_handle<promise_type> coroutine) : coroutine_(coroutine) {}
    std::coroutine_handle<promise_type> coroutine_;
};

template <typename T>
Task<T> detail::Promise<T>::get_return_object() {
    return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}

inline Task<void> detail::Promise<void>::get_return_object() {
    return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}

// Those that run on one loop. What has not ended when this ends is dropped where it is; it must not end from
// within one of them.
class Tasks {
public:
    explicit Tasks(Loop& loop) : loop_(loop) {}
    Tasks(const Tasks&) = delete;
    ~Tasks() {
        while (!running_.empty()) running_.front().destroy();
    }
    Loop& loop() const { return loop_; }
    // Runs it, here until it first waits. ended: called after its last line.
    void spawn(Task<> task, std::function<void()> ended = {}) {
        auto coroutine = run(std::move(task), std::move(ended)).coroutine;
        auto& promise = coroutine.promise();
        promise.among = &running_;
        promise.place = running_.insert(running_.begin(), coroutine);
        coroutine.resume();
    }

    // The loop, until all have ended.
    Result<> run() {
        while (!running_.empty()) TRY(loop_.run_once(std::chrono::milliseconds(-1)));
        return {};
    }

private:
    using Running = std::list<std::coroutine_handle<>>;
    struct Detached {
        struct promise_type {
            Running* among = nullptr;
            Running::iterator place;
            ~promise_type() {
                if (among) among->erase(place);
            }
            Detached get_return_object() {
                return {std::coroutine_handle<promise_type>::from_promise(*this)};
            }
            std::suspend_always initial_suspend() const noexcept { return {}; }
            std::suspend_never final_suspend() const noexcept { return {}; }
            void return_void() const {}
            [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
        };
        std::coroutine_handle<promise_type> coroutine;
    };
    static Detached run(Task<> task, std::function<void()> ended) {
        co_await task;
        if (ended) ended();
    }
    Loop& loop_;
    Running running_;
};

// What one coroutine waits for and others bring about. As with std::condition_variable, notify() reaches only
// who waits already: look before each wait whether it is still needed.
class Condition {
public:
    explicit Condition(Loop& loop) : loop_(loop) {}
    Condition(const Condition&) = delete;
    Loop& loop() const { return loop_; }
    // Who waits goes on in the loop's next round, not within this call.
    void notify() {
        if (waiting_) due_ = loop_.after({}, [this] { go_on(); });
    }
    struct [[nodiscard]] Wait {
        Condition& condition;
        Clock::time_point until;
        ~Wait() {
            condition.waiting_ = {};
            condition.due_.drop();
        }
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> by) {
            condition.waiting_ = by;
            if (until != Clock::time_point::max())
                condition.due_ = condition.loop_.at(until, [this] { condition.go_on(); });
        }
        void await_resume() const noexcept {}
    };
    // One at a time, which ends before this does.
    Wait wait() { return {*this, Clock::time_point::max()}; }
    Wait wait_until(Clock::time_point until) { return {*this, until}; }

private:
    void go_on() { std::exchange(waiting_, {}).resume(); }
    Loop& loop_;
    std::coroutine_handle<> waiting_;
    Watch due_;
};

inline Task<> sleep_for(Loop& loop, Clock::duration time) {
    Condition never(loop);
    co_await never.wait_until(Clock::now() + time);
}

// Once around the loop: all others have been served then.
inline Task<> yield(Loop& loop) { return sleep_for(loop, {}); }

} // namespace nullbox::egress
