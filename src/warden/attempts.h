// How soon the next passphrase may be tried. The first few mistakes cost nothing; then each one doubles the
// wait, from one second to a minute. A right one begins anew. Pure: the caller says what time it is.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace nullbox::warden {

class Attempts {
public:
    using Time = std::chrono::steady_clock::time_point;
    static constexpr uint32_t kFree = 3;
    static constexpr std::chrono::seconds kFirst{1}, kMost{60};

    void failed(Time now) {
        wrong_ = std::min(wrong_ + 1, kFree + 16);
        if (wrong_ > kFree)
            next_ = now + std::min<std::chrono::seconds>(kMost, kFirst * (1 << (wrong_ - kFree - 1)));
    }
    void succeeded() { *this = {}; }
    // Zero: now.
    std::chrono::milliseconds wait(Time now) const {
        return std::max(std::chrono::milliseconds(0),
                        std::chrono::ceil<std::chrono::milliseconds>(next_ - now));
    }

private:
    uint32_t wrong_ = 0;
    Time next_{};
};

} // namespace nullbox::warden
