// A loop in a thread of its own, for tests: what is on it is touched there only, so nothing races.
#pragma once

#include <future>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

#include "egress/task.h"

namespace nullbox::egress {

class LoopThread {
public:
    LoopThread() : loop_(*Loop::make()), tasks_(*loop_), asked_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
    ~LoopThread() { stop(); }
    // Before start() and after stop(); else only from within there().
    Loop& loop() { return *loop_; }
    Tasks& tasks() { return tasks_; }

    void start() {
        watch_ = *loop_->watch(asked_.get(), EPOLLIN, [this](uint32_t) {
            uint64_t count = 0;
            (void)!::read(asked_.get(), &count, sizeof count);
            if (auto todo = std::exchange(todo_, {})) todo();
        });
        thread_ = std::thread([this] { (void)loop_->run(); });
    }
    // What is done there, one at a time.
    template <typename Do>
    std::invoke_result_t<Do> there(Do todo) {
        std::promise<std::invoke_result_t<Do>> done;
        todo_ = [&] { done.set_value(todo()); };
        uint64_t one = 1;
        (void)!::write(asked_.get(), &one, sizeof one);
        return done.get_future().get();
    }
    void stop() {
        if (!thread_.joinable()) return;
        there([this] {
            loop_->stop();
            return true;
        });
        thread_.join();
        watch_.drop();
    }

private:
    std::unique_ptr<Loop> loop_;
    Tasks tasks_;
    Fd asked_;
    Watch watch_;
    std::function<void()> todo_;
    std::thread thread_;
};

} // namespace nullbox::egress
