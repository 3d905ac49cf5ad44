// What every service shares: nulld's start-up descriptor, an event loop, and an end on SIGTERM.
//
// nulld gives each service the write end of a pipe, its number in NULLBOX_NOTIFY_FD. Lines on it: "READY"
// once the service serves, "STATUS=text" for the status screen, at any time; at most 512 bytes each. Without
// the variable (a service started by hand or by a test) both calls do nothing.
#pragma once

#include <csignal>
#include <functional>
#include <memory>
#include <string_view>

#include "base/loop.h"

namespace nullbox {

// Never blocks and never fails the caller: PID 1 that does not read is not a service's problem.
void notify_ready();
// One line; what is not printable becomes '?', and it is cut to fit.
void notify_status(std::string_view text);

class Service {
public:
    // Blocks SIGTERM and SIGINT and takes them through a descriptor; call it before threads start.
    static Result<std::unique_ptr<Service>> make();

    Loop& loop() { return *loop_; }
    void ready() { notify_ready(); }
    void status(std::string_view text) { notify_status(text); }
    // Called once when the service is told to end; it must call loop().stop() itself, at once or later.
    // Without one, the loop is stopped at once.
    void on_stop(std::function<void()> stop) { stop_ = std::move(stop); }
    // Runs the loop until the service is told to end.
    Result<> serve() { return loop_->run(); }

private:
    Service() = default;
    std::unique_ptr<Loop> loop_;
    Fd signals_;
    Watch watch_; // after what it watches: dropped first
    std::function<void()> stop_;
};

// main() of a service: acquire, restrict, serve (all in body). Returns main's value; a failure is logged.
int run_service(std::string_view name, const std::function<Result<>(Service&)>& body);

} // namespace nullbox
