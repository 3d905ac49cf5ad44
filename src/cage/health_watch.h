// Looks at an agent that runs, as its manifest's [health_check] says: asks agent-init (CheckHealth), waits
// for its Health, and asks again an interval after that. The schedule and the count are the host's, so the
// guest decides nothing: no answer in time is a bad one, and an answer to another question is no answer.
#pragma once

#include <functional>

#include "base/loop.h"
#include "cage/health_count.h"
#include "guest_link/frames.h"

namespace nullbox::cage {

class HealthWatch {
public:
    struct Hooks {
        std::function<Result<>(const guest_link::CheckHealth&)> ask;
        std::function<void()> changed;                // describe() says something else now
        std::function<void(std::string why)> failing; // once, the last call; may drop the watch
    };
    // What the agent may take to answer, and what its answer may take to come here on a machine under load.
    struct Limits {
        std::chrono::milliseconds answer{5'000}, way{5'000};
    };
    HealthWatch(Loop& loop, const manifest::AgentManifest::HealthCheck& check, Hooks hooks, Limits limits);

    void on_answer(const guest_link::Health& health);
    // Nothing is asked and nothing is waited for until resume.
    void pause();
    void resume();
    std::string describe() const { return count_.describe(); }

private:
    void ask();
    void ask_later();
    void take(bool good, std::string says);

    Loop& loop_;
    manifest::AgentManifest::HealthCheck check_;
    Hooks hooks_;
    Limits limits_;
    HealthCount count_;
    Watch timer_;
    uint32_t number_ = 0; // of the last question
    bool asked_ = false;  // and it is not answered yet
    std::optional<Clock::time_point> paused_at_;
    std::string described_;
};

} // namespace nullbox::cage
