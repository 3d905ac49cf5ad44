#include "cage/health_watch.h"

#include "base/text.h"

namespace nullbox::cage {

constexpr auto kFirstLook = std::chrono::milliseconds(500); // most agents need longer, some are there already

HealthWatch::HealthWatch(Loop& loop, const manifest::AgentManifest::HealthCheck& check, Hooks hooks,
                         Limits limits)
    : loop_(loop), check_(check), hooks_(std::move(hooks)), limits_(limits), count_(check, Clock::now()),
      described_(count_.describe()) {
    timer_ = loop_.after(std::min(kFirstLook, check_.interval), [this] { ask(); });
}

void HealthWatch::ask() {
    asked_ = true;
    guest_link::CheckHealth question{.number = ++number_,
                                     .http = check_.kind == "http",
                                     .port = check_.port,
                                     .path = check_.path,
                                     .timeout_ms = static_cast<uint32_t>(limits_.answer.count())};
    timer_ = loop_.after(limits_.answer + limits_.way, [this] {
        asked_ = false;
        take(false, "the guest does not answer");
    });
    (void)hooks_.ask(question); // a link that is gone has its own end
}

void HealthWatch::ask_later() {
    timer_ = loop_.after(check_.interval, [this] { ask(); });
}

void HealthWatch::on_answer(const guest_link::Health& health) {
    if (!asked_ || paused_at_ || health.number != number_) return; // late, or made up
    asked_ = false;
    take(health.good, printable(health.says, guest_link::kMaxHealthText));
}

void HealthWatch::take(bool good, std::string says) {
    ask_later();
    std::optional<std::string> why;
    if (good)
        count_.good();
    else
        why = count_.bad(says.empty() ? "no reason given" : std::move(says), Clock::now());
    if (auto now = count_.describe(); now != described_) {
        described_ = std::move(now);
        hooks_.changed();
    }
    if (!why) return;
    timer_.drop();
    auto failing = std::move(hooks_.failing);
    failing(*std::move(why));
}

void HealthWatch::pause() {
    if (paused_at_) return;
    paused_at_ = Clock::now();
    timer_.drop();
}

// A question from before the pause is forgotten: its time-out ran on in the guest.
void HealthWatch::resume() {
    if (!paused_at_) return;
    count_.paused_for(Clock::now() - *paused_at_);
    paused_at_.reset();
    asked_ = false;
    ask_later();
}

} // namespace nullbox::cage
