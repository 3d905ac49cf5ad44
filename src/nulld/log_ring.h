// A service's output as bounded memory: bytes become lines (LineSplitter), lines are kept until there are too
// many or too much (LogRing). No system calls. The bytes are whatever the service writes; lines leave here
// printable.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>

namespace nullbox::nulld {

constexpr size_t kMaxLineBytes = 4096;

// Cuts a stream into lines. A line longer than kMaxLineBytes comes in parts, each but the last ending in
// kContinued.
class LineSplitter {
public:
    static constexpr std::string_view kContinued = " [...]";
    void feed(std::string_view bytes, const std::function<void(std::string_view line)>& each);
    // The end of the stream: what has no newline yet is a line too.
    void finish(const std::function<void(std::string_view line)>& each);

private:
    std::string partial_;
};

struct LogLine {
    uint64_t number = 0;   // counts up from 1 over all rings of a LogBook; order over all services
    int64_t uptime_ms = 0; // CLOCK_BOOTTIME
    int64_t time_ms = 0;   // wall clock since 1970
    std::string text;
};

class LogRing {
public:
    static constexpr size_t kMaxLines = 1000;
    static constexpr size_t kMaxBytes = size_t{256} << 10;
    void add(LogLine line);
    const std::deque<LogLine>& lines() const { return lines_; }
    uint64_t forgotten() const { return forgotten_; } // lines that made place for newer ones

private:
    std::deque<LogLine> lines_;
    size_t bytes_ = 0;
    uint64_t forgotten_ = 0;
};

} // namespace nullbox::nulld
