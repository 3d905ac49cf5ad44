// What an operator runs in the running guest beside the agent: commands and copies, each on a stream that the
// host opens to kExecPort. At most kMaxExecAtOnce at a time, and one more that hears that it is too many. The
// agent may run as root and do to this what it likes; its own user cannot connect to that port, where only
// the host's address is let in (guest.h).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/loop.h"
#include "guest_link/exec_frames.h"

namespace nullbox::agent_init {

class ExecStream;

// Where streams come from, while it lives.
struct ExecPort {
    Fd listener;
    Watch watch; // after the listener: dropped before it closes
};

class ExecServer {
public:
    // start: of the agent, whose user, environment and folder are the defaults; it outlives the server.
    // ended: each command and copy that had begun, once.
    ExecServer(Loop& loop, const guest_link::Start& start,
               std::function<void(const guest_link::ExecEnded&)> ended);
    ~ExecServer();

    void adopt(Fd stream);
    // A child of ours has ended; nothing if it is none of these.
    void reaped(pid_t pid, int status);
    // Nothing more begins, and what runs is killed; its callers are told.
    void close();
    bool idle() const { return streams_.empty(); }
    // Called when the last one has gone after close().
    std::function<void()> on_idle;

private:
    friend class ExecStream;
    void remove(ExecStream* stream);

    Loop& loop_;
    const guest_link::Start& start_;
    std::function<void(const guest_link::ExecEnded&)> ended_;
    bool closed_ = false;
    std::vector<std::unique_ptr<ExecStream>> streams_;
};

} // namespace nullbox::agent_init
