// The host's side of one guest's link: frames in, in the order that agent-init keeps, and Start and Stop out.
// Bounded in what it reads a second, so that an agent which floods its output slows itself down and nobody
// else. A frame out of order is nonsense, and nonsense ends the guest.
#pragma once

#include <functional>
#include <memory>

#include "base/loop.h"
#include "guest_link/frames.h"

namespace nullbox::cage {

struct GuestEvents {
    std::function<void(const guest_link::Hello&)> hello; // answer with Start
    std::function<void(const guest_link::Started&)> started;
    std::function<void(const guest_link::Output&)> output;
    std::function<void(const guest_link::Health&)> health;  // answers, and what a guest makes up
    std::function<void(const guest_link::Exited&)> exited;  // the last
    std::function<void(const guest_link::Failure&)> failed; // the last
    std::function<void(const guest_link::ExecEnded&)> exec_ended = {};
    std::function<void(std::string message)> nonsense; // the last
    std::function<void()> closed;                      // with no last word before it
};

class GuestSession {
public:
    static Result<std::unique_ptr<GuestSession>> make(Loop& loop, Fd stream, GuestEvents events);

    Result<> send(const guest_link::HostFrame& frame);
    // Takes what is still in the socket, once the other side is gone.
    void drain();

private:
    enum class Stage { Hello, Started, Output, Over };
    GuestSession(Loop& loop, Fd stream, GuestEvents events)
        : loop_(loop), events_(std::move(events)), stream_(std::move(stream)) {}
    void on_ready(uint32_t ready);
    bool read_some(); // false when there is nothing more now
    void take_frames();
    void handle(const guest_link::GuestFrame& frame);
    void finish();
    void complain(std::string_view message);
    void pace(size_t bytes);
    Result<> flush();
    void set_interest();

    Loop& loop_;
    GuestEvents events_;
    Fd stream_;
    Watch watch_, pace_timer_;
    Stage stage_ = Stage::Hello;
    guest_link::GuestFrameReader reader_;
    std::vector<std::byte> to_send_;
    size_t window_bytes_ = 0; // read since window_start_
    Clock::time_point window_start_{};
    bool paused_ = false;
};

} // namespace nullbox::cage
