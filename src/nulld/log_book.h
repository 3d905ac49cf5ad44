// All rings of the machine: one a service, one for PID 1 ("nulld") and one for the kernel ("kernel"). Every
// line goes in here, to the console, and to whoever follows.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nulld/console.h"
#include "nulld/log_ring.h"

namespace nullbox::nulld {

enum class Tone { Plain, Quiet, Good, Warning, Bad }; // how a line looks on the console

struct BookLine {
    std::string_view source;
    const LogLine* line;
};

class LogBook {
public:
    static constexpr size_t kMaxFollowers = 16;
    LogBook(Console& console, bool colour) : console_(console), colour_(colour) {}

    // text: any bytes; made printable here. on_console: false for lines that would only repeat. happened_ms:
    // on CLOCK_BOOTTIME, when that was not just now.
    void add(const std::string& source, std::string_view text, Tone tone = Tone::Plain,
             bool on_console = true, std::optional<int64_t> happened_ms = std::nullopt);
    bool knows(std::string_view source) const;
    void make(const std::string& source) { rings_.try_emplace(source); }

    // The newest `most` lines of one source, or of all when empty, oldest first, of numbers above `after`.
    std::vector<BookLine> newest(std::string_view source, size_t most, uint64_t after = 0) const;
    uint64_t forgotten(std::string_view source) const;
    uint64_t last_number() const { return next_number_ - 1; }

    // Called after each line; returns false when it wants no more. At most kMaxFollowers.
    using Follower = std::function<bool(std::string_view source, const LogLine&)>;
    Result<> follow(Follower follower);

private:
    // How much of a source still goes to the console: a flood is for the log, nobody can read it.
    struct ConsoleShare {
        static constexpr int64_t kBurst = 200, kLinesPerSecond = 40;
        int64_t left = kBurst, refilled_ms = 0;
        uint64_t held_back = 0;
    };
    void show(const std::string& source, const LogLine& line, Tone tone);
    bool take_share(ConsoleShare& share, int64_t now_ms);
    std::string on_one_line(std::string_view source, const LogLine& line, Tone tone) const;

    Console& console_;
    bool colour_;
    std::map<std::string, LogRing, std::less<>> rings_;
    std::map<std::string, ConsoleShare, std::less<>> shares_;
    uint64_t next_number_ = 1;
    std::vector<Follower> followers_;
    bool telling_ = false; // a follower that logs must not be told of its own line
};

int64_t uptime_ms(); // CLOCK_BOOTTIME
std::string_view tone_sequence(Tone tone);
std::string time_stamp(int64_t uptime_ms); // "[   1.234]"

} // namespace nullbox::nulld
