// An agent's lines on cage's standard output, which nulld shows on the machine's console. A copy for a
// person, bounded in lines a second and never waited for; the whole is in the agent's log.
#pragma once

#include <string>
#include <string_view>

#include "base/loop.h"

namespace nullbox::cage {

class ConsoleCopy {
public:
    explicit ConsoleCopy(std::string agent) : agent_(std::move(agent)) {}
    void line(std::string_view text); // text is printable already

private:
    void write(std::string_view text);
    std::string agent_;
    Clock::time_point window_start_{};
    uint32_t in_window_ = 0;
    uint64_t left_out_ = 0;
};

} // namespace nullbox::cage
