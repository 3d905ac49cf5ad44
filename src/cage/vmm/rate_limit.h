// A limit of bytes and operations a second, as two token buckets that hold one second's worth. An operation
// may begin when neither bucket is empty, and takes what it needs then, into debt if it must: so one that is
// larger than a bucket is late, never stuck, and over any time no more passes than the rate and one burst.
// Pure but for the clock it is given.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "base/loop.h" // Clock

namespace nullbox::cage {

class RateLimit {
public:
    struct Rates {
        uint64_t bytes_per_s = 0, operations_per_s = 0; // 0: as many as there are
    };
    using Now = std::function<Clock::time_point()>;
    explicit RateLimit(Rates rates, Now now = Clock::now) : now_(std::move(now)) {
        bytes_ = {.per_s = rates.bytes_per_s, .paid_until = now_() - kBurst};
        operations_ = {.per_s = rates.operations_per_s, .paid_until = now_() - kBurst};
    }

    // When the next operation may begin; not in the future: now.
    Clock::time_point next() const { return std::max(bytes_.paid_until, operations_.paid_until); }
    bool is_open() const { return next() <= now_(); }
    // One operation of so many bytes has begun.
    void take(uint32_t bytes) {
        auto now = now_();
        bytes_.take(bytes, now);
        operations_.take(1, now);
    }

private:
    static constexpr auto kBurst = std::chrono::seconds(1);
    // The level of a bucket as the time until which its rate is used up: a full one's is a burst ago.
    struct Bucket {
        uint64_t per_s = 0;
        Clock::time_point paid_until;
        void take(uint64_t count, Clock::time_point now) {
            if (per_s == 0) return;
            constexpr uint64_t kNanosecond = 1'000'000'000; // times 2^32 is below 2^63
            paid_until = std::max(paid_until, now - kBurst) +
                         std::chrono::nanoseconds(static_cast<int64_t>(count * kNanosecond / per_s));
        }
    };
    Now now_;
    Bucket bytes_, operations_;
};

} // namespace nullbox::cage
