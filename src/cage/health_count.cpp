#include "cage/health_count.h"

#include "base/text.h"

namespace nullbox::cage {

void HealthCount::good() {
    was_good_ = true;
    failures_ = 0;
    says_.clear();
}

// "GET http://127.0.0.1:8080/health answered 503"
static std::string in_words(const manifest::AgentManifest::HealthCheck& check, const std::string& says) {
    auto what = check.kind == "http" ? cat("GET http://127.0.0.1:", check.port, check.path)
                                     : cat("connection to 127.0.0.1:", check.port);
    return cat(what, says.starts_with("answered") ? " " : ": ", says);
}

std::optional<std::string> HealthCount::bad(std::string says, Time now) {
    says_ = std::move(says);
    if (!was_good_ && now < grace_ends_) return std::nullopt;
    if (++failures_ < check_.failures) return std::nullopt;
    return cat("health: ", in_words(check_, says_),
               check_.failures > 1 ? cat(", ", failures_, " times in a row") : "");
}

std::string HealthCount::describe() const {
    if (failures_ > 0) return cat("failing (", failures_, " of ", check_.failures, "): ", says_);
    if (was_good_) return "healthy";
    return says_.empty() ? "unknown" : cat("unknown: ", says_);
}

} // namespace nullbox::cage
