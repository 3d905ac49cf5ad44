// Keeps the box's clock by SNTP (RFC 4330, the client's part of RFC 5905). The first answer may step the
// clock to any time not before not_before (the image's build time): a box may wake up in 1970, and
// certificates need a date. Later, small differences are slewed; one above 1000 s is believed only if two
// servers agree or there is nobody else to ask.
//
// Setting the clock needs CAP_SYS_TIME. SNTP is not authenticated: who owns the uplink can move the clock
// forward.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "egress/net/address.h"

namespace nullbox::egress {

struct TimeStatus {
    bool synchronised = false;
    std::string server;                  // that answered last
    std::chrono::microseconds offset{0}; // of our clock then; what was corrected
    Clock::time_point last_answer{};
    std::string problem; // empty: none
};

// The real clock, or a test's.
struct SystemClock {
    std::function<int64_t()> now_ns; // since 1970
    std::function<Result<>(int64_t now_ns)> step;
    std::function<Result<>(std::chrono::nanoseconds by)> slew; // replaces an earlier slew
    static SystemClock real();
};

class TimeSync {
public:
    // A name's addresses. The answer may come at once or later; a later start() forgets it.
    using Answer = std::function<void(Result<std::vector<IpAddress>>)>;
    using Lookup = std::function<void(const std::string& name, Answer answer)>;
    struct Options {
        int64_t not_before_s = 0;
        uint16_t port = 123;
        std::chrono::milliseconds timeout{2000};
        std::chrono::seconds poll{1024}; // when synchronised; before, from 2 s up
    };

    TimeSync(Loop& loop, Lookup lookup, SystemClock clock, Options options);
    ~TimeSync();
    // Names or addresses, asked in turn. Call it when the network comes up, and again when the list changes.
    void start(std::vector<std::string> servers);
    const TimeStatus& status() const;
    void on_change(std::function<void()> changed);

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace nullbox::egress
