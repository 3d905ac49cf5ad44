// Cuts what a program writes into lines of at most kMaxOutputText bytes. Pure. A line that is too long, or
// that waits unfinished (a prompt), goes out in pieces marked partial; nothing is lost or added.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace nullbox::agent_init {

class LineSplitter {
public:
    using Emit = std::function<void(std::string text, bool partial)>;
    void feed(std::string_view bytes, const Emit& emit);
    // Sends the unfinished line as it is, because the program seems to wait.
    void flush(const Emit& emit);
    // The stream has ended: an unfinished line is a line.
    void finish(const Emit& emit);
    bool unfinished() const { return !pending_.empty(); }

private:
    std::string pending_;
    bool open_ = false; // a partial piece of the current line has gone out
};

} // namespace nullbox::agent_init
