// What an agent said, lately: a ring bounded in lines and in bytes. Lines have sequence numbers, so that a
// reader sees what it has missed. Text is made printable on entry: nothing a guest writes reaches a console
// or a JSON document as control characters or broken UTF-8.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nullbox::cage {

enum class LogStream : uint8_t {
    Stdout,
    Stderr,
    Vm,
    Cage
}; // Vm: the guest's kernel and the monitor; Cage: we
std::string_view log_stream_name(LogStream stream);

struct LogLine {
    uint64_t sequence = 0; // from 1, without gaps
    int64_t time_ms = 0;   // wall clock, since 1970
    LogStream stream = LogStream::Stdout;
    bool partial = false; // the line goes on in this stream's next entry
    std::string text;
};

class LogRing {
public:
    explicit LogRing(size_t max_lines = 4096, size_t max_bytes = size_t{1} << 20)
        : max_lines_(max_lines), max_bytes_(max_bytes) {}

    const LogLine& append(LogLine line); // sets its sequence
    // The last count lines (of those that are wanted), oldest first.
    using Wanted = std::function<bool(const LogLine&)>;
    std::vector<LogLine> last(size_t count, const Wanted& wanted = {}) const;
    size_t size() const { return lines_.size(); }
    uint64_t dropped() const { return next_ - 1 - lines_.size(); } // lines that the ring has forgotten

private:
    size_t max_lines_, max_bytes_, bytes_ = 0;
    uint64_t next_ = 1;
    std::deque<LogLine> lines_;
};

} // namespace nullbox::cage
