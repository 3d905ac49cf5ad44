// The machine's console: where a person sees what happens, since there is no shell to ask. Writing never
// blocks PID 1: a serial line is slow, and one with nobody behind it may stop. Lines that find no place are
// dropped and counted; they are in the log all the same.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/loop.h"

namespace nullbox::nulld {

class Console {
public:
    // A console that cannot be opened swallows everything.
    Console(Loop& loop, const std::string& path, std::function<void()> enter_pressed);
    void print(std::string_view lines); // whole ones, each ended by \n
    // Waits for the terminal at most this long: before power is cut.
    void drain(std::chrono::milliseconds most);
    uint64_t dropped_lines() const { return dropped_total_; }

private:
    void write_soon();
    void write_some();
    void read_keys();
    Loop& loop_;
    Fd fd_;
    Watch watch_, soon_;
    std::string queue_;
    uint64_t dropped_ = 0, dropped_total_ = 0;
    std::function<void()> enter_pressed_;
    bool wants_write_ = false;
};

} // namespace nullbox::nulld
