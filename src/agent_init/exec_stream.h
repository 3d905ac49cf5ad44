// One command that an operator runs, from its request to its end, or the start of a copy, which a process of
// its own does (exec_copy.h). Frames and flow control: guest_link/exec_frames.h.
//
// Bounded: kInputWindow of input, kOutputHigh and a piece of output. The host's end of the stream is the
// caller's hand on it: without it the command gets HUP, and KILL after kHangupGrace.
#pragma once

#include <deque>

#include "agent_init/command.h"
#include "agent_init/exec_server.h"

namespace nullbox::agent_init {

class ExecStream {
public:
    ExecStream(ExecServer& server, Fd socket, bool too_many)
        : server_(server), socket_(std::move(socket)), too_many_(too_many) {}
    Result<> begin();
    void reaped(int status);
    pid_t pid() const { return pid_; } // -1: it has none, or has been reaped

private:
    struct Source { // of output
        guest_link::Stream stream;
        Fd fd;
        Watch watch;
    };
    void on_socket(uint32_t events);
    bool receive(); // false: the caller is gone
    void handle(const guest_link::CallerFrame& frame);
    void start(const guest_link::ExecRequest& request);
    Result<> start_command(const guest_link::ExecRequest& request);
    Result<> open_terminal(const guest_link::ExecRequest& request, Program& program, Fd& inner);
    Result<> open_pipes(const guest_link::ExecRequest& request, Program& program, std::vector<Fd>& inner);
    void copy(const guest_link::CopyRequest& request);
    void take_input(std::string_view bytes);
    void write_input();
    void end_input();
    void read_output(Source& source);
    void close_output();
    void queue(const guest_link::ExecGuestFrame& frame);
    void fail(uint32_t exit_code, std::string_view why);
    void balance(); // sends what is queued, and reads output while the host keeps up
    void watch_output(Source& source);
    void hang_up();
    void finish_when_quiet();
    void maybe_finish();
    void gone(); // destroys this

    ExecServer& server_;
    Fd socket_;
    bool too_many_;
    Watch socket_watch_, input_watch_, quiet_timer_, kill_timer_;
    guest_link::CallerFrameReader reader_;
    std::vector<std::byte> out_;
    size_t written_ = 0;
    bool requested_ = false, terminal_ = false, hung_up_ = false, over_ = false;
    uint32_t number_ = 0;
    pid_t pid_ = -1;
    Source output_{.stream = guest_link::Stream::Stdout}, error_{.stream = guest_link::Stream::Stderr};
    Fd input_; // of the command: a pipe's or the terminal's; none once it is closed
    std::string input_bytes_;
    bool input_ended_ = false;
    bool reading_ = true; // output: false while the host has not taken what we sent
    std::optional<guest_link::Ended> ended_;
};

} // namespace nullbox::agent_init
