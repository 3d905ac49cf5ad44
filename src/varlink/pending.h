// A call in the background: for a service that asks another and must not wait. One connection a call; it
// lives as long as its PendingCall, and dropping that is how a caller gives up (the service sees its peer
// leave).
//
//     asking_ = call_in_background(loop, {.socket_path = "/run/egress/egress.sock",
//                                         .method = "io.nullbox.egress.Attach", .parameters = {...}},
//                                  [this](Result<Answer> answer) { ... });
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "varlink/answer.h"

namespace nullbox::varlink {

struct BackgroundCall {
    std::string socket_path;
    std::string method; // "io.nullbox.egress.Attach"
    boost::json::object parameters;
    std::vector<Fd> fds;                     // at most kMaxPassedFds
    std::chrono::milliseconds limit{10'000}; // from now to the answer; a stream has none
    // For one who passes answers on: a service's refusal is an answer too, with its name in Answer::error.
    bool refusals_as_answers = false;
};

class [[nodiscard]] PendingCall {
public:
    PendingCall();
    PendingCall(PendingCall&&) noexcept;
    PendingCall& operator=(PendingCall&&) noexcept;
    ~PendingCall();
    explicit operator bool() const { return state_ != nullptr; } // false once given up by the caller
    // Until resumed, no more than what has already arrived is read, so that a service's stream waits for a
    // caller who cannot keep up (and the service closes it, if that lasts).
    void pause();
    void resume();

    struct State;

private:
    friend PendingCall start_call(Loop&, BackgroundCall, bool, std::function<void(Result<Answer>, bool)>);
    std::shared_ptr<State> state_;
};

// done is called once, from the loop, never from here; it may drop the PendingCall.
PendingCall call_in_background(Loop& loop, BackgroundCall call, std::function<void(Result<Answer>)> done);
// each is called with every answer of the stream; last: with the last one, or a failure, after which nothing
// comes.
PendingCall follow_in_background(Loop& loop, BackgroundCall call,
                                 std::function<void(Result<Answer>, bool last)> each);

} // namespace nullbox::varlink
