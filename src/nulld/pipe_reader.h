// Reads a service's pipe without letting it take PID 1's time: a little each round, and a service that writes
// more, or costs more time, than a window allows waits in its own write() until the next window.
#pragma once

#include <functional>
#include <string_view>

#include "base/loop.h"

namespace nullbox::nulld {

class PipeReader {
public:
    static constexpr size_t kBytesPerRound = size_t{4} << 10;
    static constexpr size_t kBytesPerWindow = size_t{128} << 10;
    static constexpr std::chrono::milliseconds kWindow{100};
    static constexpr std::chrono::milliseconds kTimePerWindow{20}; // spent in the callback: slow machines
    struct Callbacks {
        std::function<void(std::string_view)> bytes;
        std::function<void()> end; // once: no writer is left, or it cannot be read
    };

    PipeReader(Loop& loop, Fd pipe, Callbacks callbacks);
    // What is in the pipe now, up to most_bytes, without waiting: after the writer's death.
    void drain(size_t most_bytes);

private:
    bool read_once(); // false: nothing there, or the end
    void limit();
    void new_window();
    Loop& loop_;
    Fd pipe_;
    Callbacks callbacks_;
    Clock::time_point window_began_;
    size_t window_bytes_ = 0;
    Clock::duration window_time_{};
    Watch watch_, pause_; // after pipe_: dropped first
};

} // namespace nullbox::nulld
