#include "warden/uses.h"

#include <algorithm>

namespace nullbox::warden {

void Uses::add(Use use) {
    use.sequence = next_sequence_++;
    uses_.push_back(std::move(use));
    if (uses_.size() > kMost) uses_.pop_front();
    auto followers = followers_; // one may leave while it is told
    for (const auto& [id, each] : followers)
        if (followers_.contains(id)) each(uses_.back());
}

std::vector<Use> Uses::last(size_t count) const {
    auto from = uses_.end() - static_cast<std::ptrdiff_t>(std::min(count, uses_.size()));
    return {from, uses_.end()};
}

uint64_t Uses::follow(std::function<void(const Use&)> each) {
    followers_.emplace(next_follower_, std::move(each));
    return next_follower_++;
}

} // namespace nullbox::warden
