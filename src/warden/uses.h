// The record of every time a secret was asked for by a service on an agent's behalf: who, which, where to,
// given or not; never the value. The last kMost are kept, in memory.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace nullbox::warden {

struct Use {
    uint64_t sequence = 0;           // gaps are uses that were dropped
    int64_t time_ms = 0;             // since 1970
    std::string agent, secret, host; // secret is empty when none fitted; host is empty for an exposed one
    bool given = false;
};

class Uses {
public:
    static constexpr size_t kMost = 1024;

    void add(Use use);
    std::vector<Use> last(size_t count) const; // oldest first
    // Called with each new one, until unfollow(); may unfollow itself.
    uint64_t follow(std::function<void(const Use&)> each);
    void unfollow(uint64_t id) { followers_.erase(id); }

private:
    std::deque<Use> uses_;
    std::map<uint64_t, std::function<void(const Use&)>> followers_;
    uint64_t next_sequence_ = 1, next_follower_ = 1;
};

} // namespace nullbox::warden
