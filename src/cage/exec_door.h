// Commands and copies that operators run in one running agent. cage asks the guest for a stream, says on it
// what is to be done, and hands it on: what is said there is not seen here. What is seen: who asked, when the
// asker let go (the lease, a pipe that closes with whoever holds it), and what the guest says of the end.
// Each has a line for its beginning and one for its end in the agent's log.
//
// Bounded by leases, which the guest has no part in: kMaxExecAtOnce.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <variant>

#include "base/loop.h"
#include "guest_link/exec_frames.h"

namespace nullbox::cage {

struct ExecOrder {
    std::string operator_name;
    std::variant<guest_link::ExecRequest, guest_link::CopyRequest> what; // their numbers are set here
};

class ExecDoor {
public:
    // say: a line for the agent's log. word_of_end: how long the guest may take to tell of the end once the
    // asker is gone.
    ExecDoor(Loop& loop, std::function<void(std::string_view)> say,
             std::chrono::milliseconds word_of_end = std::chrono::seconds(10))
        : loop_(loop), say_(std::move(say)), word_of_end_(word_of_end) {}

    struct Opened {
        Fd stream; // the caller's end
        Fd lease;  // to be held as long as the stream is
    };
    bool full() const { return running_.size() >= guest_link::kMaxExecAtOnce; }
    // connect: makes a stream to the port of the guest, of which it gets the other end.
    Result<Opened> open(ExecOrder order, const std::function<Result<>(uint32_t port, Fd)>& connect);
    void ended(const guest_link::ExecEnded& ended); // guest-controlled
    void close_all();                               // the guest is gone

private:
    struct One {
        std::string title;
        Clock::time_point since{};
        Fd lease;
        Watch lease_watch, last_word;
        bool left = false, told = false; // the asker let go; the guest told of the end
    };
    void on_left(uint32_t number);
    void finish_if_over(uint32_t number);

    Loop& loop_;
    std::function<void(std::string_view)> say_;
    std::chrono::milliseconds word_of_end_;
    std::map<uint32_t, One> running_;
    uint32_t next_ = 1;
};

// "sh -c 'echo $HOME'", for people; not too long.
std::string shown(const std::vector<std::string>& command);

} // namespace nullbox::cage
