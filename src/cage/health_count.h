// What an agent's checks come to: a pure counter, fed with the result of each look. Until the first good one,
// or until the grace is over, bad ones do not count: an agent that is still starting is not ill.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "manifest/agent.h"

namespace nullbox::cage {

class HealthCount {
public:
    using Time = std::chrono::steady_clock::time_point;
    HealthCount(manifest::AgentManifest::HealthCheck check, Time started)
        : check_(std::move(check)), grace_ends_(started + check_.grace) {}

    void good();
    // says: "answered 503", printable. Why the agent is to be ended, once it is enough.
    std::optional<std::string> bad(std::string says, Time now);
    // A pause is no part of the grace.
    void paused_for(std::chrono::steady_clock::duration span) { grace_ends_ += span; }
    // "unknown", "unknown: connection refused" (during the grace), "healthy", "failing (2 of 3): answered
    // 503".
    std::string describe() const;

private:
    manifest::AgentManifest::HealthCheck check_;
    Time grace_ends_;
    bool was_good_ = false;
    uint32_t failures_ = 0; // in a row
    std::string says_;      // of the last look, if it was bad
};

} // namespace nullbox::cage
