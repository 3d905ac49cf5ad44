// The record of every decision: who, what, where to, by which entry or why not, and the manifest line that
// would allow it. The newest are held in memory, all are appended to a file (one JSON object a line) that is
// rotated once, so that what an agent did outlives egress and a reboot.
//
// An agent must not be able to push its own traces out: equal records within a minute become one with a
// count, and beyond a rate of its own an agent's records are counted, not written. Each kind has its own
// rate, denied or not: a flood of names hides no refused connection.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/fd.h"
#include "egress/agents.h" // TokenBucket

namespace nullbox::egress {

enum class RecordKind : uint8_t { Lookup, Connection, Request, Packet, Summary, Budget };
enum class Verdict : uint8_t {
    Allowed,
    Denied,
    Failed, // allowed, and did not work
    Ended,  // an allowed connection is over; the bytes are known
};
std::string_view name_of(RecordKind kind);
std::string_view name_of(Verdict verdict);

// Texts are printable already.
struct Record {
    uint64_t sequence = 0; // given by the book
    int64_t time_ms = 0;   // since 1970, given by the book
    std::string agent;
    RecordKind kind = RecordKind::Connection;
    Verdict verdict = Verdict::Denied;
    std::string name;    // the host, as asked for
    std::string address; // dialled, or what a packet went to
    uint16_t port = 0;
    std::string rule, reason, add;
    std::string method, path; // of a request; the path without its query
    uint64_t count = 1, bytes_up = 0, bytes_down = 0;
};

// One line, without its end; and back.
std::string to_line(const Record& record);
std::optional<Record> from_line(std::string_view line);

class RecordBook {
public:
    struct Options {
        std::string path; // empty: in memory only
        size_t most_file_bytes = size_t{8} << 20;
        size_t most_in_memory = 2048;
        double burst = 250, per_second = 1; // of one agent's records of one kind, denied ones apart
        std::function<int64_t()> now_ms;    // wall clock
        std::function<Clock::time_point()> now = [] { return Clock::now(); };
    };
    // A file that cannot be had is a problem(), not a failure: deciding goes on.
    explicit RecordBook(Options options);

    void add(Record record);
    // To be called every few seconds: writes counts that are due, brings the file to the disk.
    void tick();
    // The newest that match, oldest first.
    std::vector<Record> last(size_t count, const std::function<bool(const Record&)>& matches) const;
    using Follower = std::function<void(const Record&)>;
    uint64_t follow(Follower follower);
    void unfollow(uint64_t id);
    const std::string& problem() const { return problem_; } // empty: none

private:
    struct Repeat {
        Clock::time_point since;
        uint64_t more = 0;
        Record record;
    };
    struct Rate {
        TokenBucket budget;
        uint64_t left_out = 0;
        Clock::time_point said{};
    };
    bool repeats(const Record& record);
    void write_counted(Record record);
    void write(Record record);
    void append(const std::string& line);
    Result<> append_to_file(const std::string& line);
    Result<> open();
    Result<> rotate();
    void load(const std::string& path);

    Options options_;
    Fd file_;
    size_t file_bytes_ = 0;
    bool unsynced_ = false;
    bool torn_ = false; // the file's last line is not whole
    std::string problem_;
    uint64_t next_sequence_ = 1;
    std::deque<Record> records_;
    std::map<std::string, Repeat> repeats_;
    using RateKey = std::tuple<std::string, RecordKind, bool>; // agent, kind, denied
    std::map<RateKey, Rate> rates_;
    std::map<uint64_t, Follower> followers_;
    uint64_t next_follower_ = 1;
};

} // namespace nullbox::egress
