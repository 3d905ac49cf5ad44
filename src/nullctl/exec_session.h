// A command in an agent, as it is seen from here: our input to it, its output to ours, signals and the size
// of our terminal to it, its end as a number. Frames of guest_link/exec_frames.h over a socket; the guest at
// the other end is hostile.
//
// What a command without a terminal prints goes out byte by byte as it came, unless ours is a terminal: there
// its control characters are shown and not obeyed (visible.h). With a terminal of its own (-t), our terminal
// is the agent's to write to.
#pragma once

#include <string>

#include "base/error.h"

namespace nullbox::nullctl {

struct ExecSession {
    int stream = -1;
    int in = 0, out = 1, err = 2;
    bool interactive = false, terminal = false;
};

// The exit code, or 128 and the signal that ended the command; of one that did not start, 126 or 127. An
// error is an end of the connection, or nonsense on it. Signals for this process are its while it runs.
Result<int> run_exec(const ExecSession& session);

struct WindowSize {
    uint16_t rows = 24, columns = 80;
};
WindowSize window_size(int terminal);

} // namespace nullbox::nullctl
