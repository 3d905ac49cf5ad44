#include "cage/console_copy.h"

#include <unistd.h>

#include "base/text.h"

namespace nullbox::cage {

constexpr uint32_t kLinesPerSecond = 100;
constexpr size_t kMaxLineBytes = 1000;

void ConsoleCopy::line(std::string_view text) {
    auto now = Clock::now();
    if (now - window_start_ >= std::chrono::seconds(1)) {
        window_start_ = now;
        in_window_ = 0;
        if (auto count = std::exchange(left_out_, 0); count > 0)
            write(cat("(", count, " lines not shown here; they are in the agent's log)"));
    }
    if (++in_window_ > kLinesPerSecond) {
        left_out_++;
        return;
    }
    write(text);
}

void ConsoleCopy::write(std::string_view text) {
    auto whole = cat("agent ", agent_, ": ", printable(text, kMaxLineBytes), "\n");
    // Nonblocking, and shorter than PIPE_BUF: it goes out whole, or not at all when nobody reads.
    if (::write(STDOUT_FILENO, whole.data(), whole.size()) < 0) left_out_++;
}

} // namespace nullbox::cage
