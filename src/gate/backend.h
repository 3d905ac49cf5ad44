// The services behind the door, for coroutines: a call or a stream on base::Loop, awaited on Asio. Both run
// on one thread (net/loop_in_asio.h). Brings Asio and Boost.JSON. Internal to src/gate.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>

#include "varlink/pending.h"

namespace nullbox::gate {

namespace asio = boost::asio;

// What a coroutine waits for and the loop, or another coroutine, brings about.
class Signal {
public:
    explicit Signal(asio::io_context& context) : timer_(context) {}
    void raise() { timer_.cancel(); }
    // Until raised, or the time is over. Look at the condition before and after: a signal is not remembered.
    asio::awaitable<void> wait(Clock::duration most);

private:
    asio::steady_timer timer_;
};

// Answers of one call with "more", in order. Dropping it gives the call up. Reading pauses while some wait
// here, so that what is held is bounded.
class Stream {
public:
    struct Item {
        Result<varlink::Answer> answer;
        bool last;
    };
    Stream(asio::io_context& context, Loop& loop, varlink::BackgroundCall call);
    // The next, or nothing: the time is over, or interrupt() was called.
    asio::awaitable<std::optional<Item>> next(Clock::duration most);
    void interrupt();
    bool interrupted() const { return interrupted_; }

private:
    Signal arrived_;
    std::deque<Item> items_;
    bool interrupted_ = false;
    varlink::PendingCall pending_; // last: given up before what its answers go to
};

class Backend {
public:
    // io.nullbox.cage is asked at <run_folder>/cage/cage.sock.
    Backend(asio::io_context& context, Loop& loop, std::string run_folder)
        : context_(context), loop_(loop), run_folder_(std::move(run_folder)) {}

    // A service's refusal is an answer, with its name in `error`; an Error is a service that did not answer.
    asio::awaitable<Result<varlink::Answer>> call(std::string_view interface, std::string_view method,
                                                  boost::json::object parameters,
                                                  std::chrono::milliseconds limit);
    std::unique_ptr<Stream> follow(std::string_view interface, std::string_view method,
                                   boost::json::object parameters);
    asio::io_context& context() { return context_; }

private:
    varlink::BackgroundCall to(std::string_view interface, std::string_view method,
                               boost::json::object parameters) const;
    asio::io_context& context_;
    Loop& loop_;
    std::string run_folder_;
};

} // namespace nullbox::gate
