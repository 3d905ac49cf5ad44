// How much of the network an agent has used in the last hour, and whether it may use more. A ledger is an
// agent's by its name: it stays over Detach and Attach, and its count survives egress, so that nothing an
// agent can bring about (its own restart, a crash of egress) gives it a new budget.
//
// Invariant: in any sixty minutes no more is allowed than the limit. Counted by the minute, in the minute
// under way and the sixty before it. What is in the file is never less than what was used: it is written
// ahead (`ahead`), and what was ahead at a crash counts as used.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/loop.h" // Clock

namespace nullbox::egress {

enum class Resource : uint8_t { Bytes, Connections, Requests };
constexpr size_t kResources = 3;
std::string_view name_of(Resource resource); // "bytes"

// For any sixty minutes; 0: no limit.
struct Budget {
    uint64_t bytes = 0; // up and down together
    uint64_t connections = 0, requests = 0;
    uint64_t limit(Resource resource) const;
    bool operator==(const Budget&) const = default;
};

class Ledger {
public:
    // Counts the amount, if the limit allows it; else what is left is forfeited, so that what is used up is
    // used up for all.
    bool take(Resource resource, uint64_t amount, const Budget& budget, Clock::time_point now);
    uint64_t used(Resource resource, Clock::time_point now);
    // True at most once in an hour for each resource: whether its end is to be told of.
    bool tells(Resource resource, Clock::time_point now);
    bool unused(Clock::time_point now);

private:
    friend class Budgets;
    static constexpr size_t kMinutes = 61;
    struct Count {
        std::array<uint64_t, kMinutes> minutes{}; // by minute of the clock, modulo
        uint64_t sum = 0;
        uint64_t unwritten = 0; // since the file was written
        uint64_t ahead = 0;     // that the file has beyond what was used then
        std::optional<Clock::time_point> told;
    };
    Count& count(Resource resource, Clock::time_point now);
    void add(Count& count, size_t minutes_ago, uint64_t amount);

    std::array<Count, kResources> counts_{};
    int64_t minute_ = 0; // that counts_ are brought to
    std::function<void()> write_;
};

class Budgets {
public:
    struct Options {
        std::string path;                // empty: in memory only
        std::function<int64_t()> now_ms; // wall clock
        std::function<Clock::time_point()> now = [] { return Clock::now(); };
    };
    // A file that cannot be read or written is a problem(), not a failure: counting goes on.
    explicit Budgets(Options options);
    ~Budgets();
    Budgets(const Budgets&) = delete;

    std::shared_ptr<Ledger> of(const std::string& agent);
    // To be called every few seconds: writes what is due, forgets what no longer counts.
    void tick();
    const std::string& problem() const { return problem_; } // empty: none

private:
    void write(bool ahead);
    void load();

    Options options_;
    std::string problem_;
    int64_t written_ = -1; // the minute
    std::map<std::string, std::shared_ptr<Ledger>> ledgers_;
};

} // namespace nullbox::egress
