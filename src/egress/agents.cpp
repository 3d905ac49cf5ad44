#include "egress/agents.h"

#include <algorithm>

namespace nullbox::egress {

std::optional<Ip4> SyntheticNames::address_of(const HostName& name, bool by_wildcard) {
    if (auto known = addresses_.find(name); known != addresses_.end()) return known->second;
    if (names_.size() > last_.value - first_.value) return std::nullopt;
    if (by_wildcard && wildcard_names_ == kMaxWildcardNames) return std::nullopt;
    wildcard_names_ += by_wildcard;
    Ip4 address{first_.value + static_cast<uint32_t>(names_.size())};
    names_.push_back(name);
    addresses_.emplace(name, address);
    return address;
}

const HostName* SyntheticNames::name_of(Ip4 address) const {
    if (address < first_ || address.value - first_.value >= names_.size()) return nullptr;
    return &names_[address.value - first_.value];
}

void TokenBucket::refill(Clock::time_point now) {
    if (last_ == Clock::time_point{}) last_ = now;
    tokens_ = std::min(burst_, tokens_ + std::chrono::duration<double>(now - last_).count() * per_second_);
    last_ = now;
}

bool TokenBucket::take(Clock::time_point now) {
    refill(now);
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
}

bool TokenBucket::full(Clock::time_point now) {
    refill(now);
    return tokens_ >= burst_;
}

std::optional<unsigned> Agents::free_slot(const std::string& name) {
    std::optional<unsigned> unused, any;
    for (unsigned slot = 0; slot < kMaxSlots; slot++) {
        if (slots_[slot]) continue;
        if (last_names_[slot] == name) return slot;
        if (!any) any = slot;
        if (!unused && last_names_[slot].empty()) unused = slot;
    }
    return unused ? unused : any;
}

std::shared_ptr<Agent> Agents::attach(const std::string& name, Policy policy) {
    detach(name);
    auto slot = free_slot(name);
    if (!slot) return nullptr;
    last_names_[*slot] = name;
    slots_[*slot] = std::make_shared<Agent>(name, tap_link(*slot), std::move(policy));
    return slots_[*slot];
}

void Agents::detach(const std::string& name) {
    for (auto& agent : slots_)
        if (agent && agent->name == name) {
            agent->attached = false;
            agent.reset();
        }
}

std::shared_ptr<Agent> Agents::find(const std::string& name) const {
    for (const auto& agent : slots_)
        if (agent && agent->name == name) return agent;
    return nullptr;
}

std::shared_ptr<Agent> Agents::of_slot(unsigned slot) const {
    return slot < kMaxSlots ? slots_[slot] : nullptr;
}

std::optional<Flow> Agents::flow(Ip4 guest, IpAddress to, uint16_t port) const {
    auto slot = slot_of(guest);
    auto agent = slot ? of_slot(*slot) : nullptr;
    if (!agent || guest != agent->link.guest) return std::nullopt;
    if (to.v6) return Flow{agent, {to, port}};
    auto address = to.ip4();
    if (!kAgentNetwork.contains(address)) return Flow{agent, {to, port}}; // an address that was meant as such
    const auto* name = agent->names.name_of(address); // of this agent only: another's address is nothing here
    if (!name) return std::nullopt;
    return Flow{agent, {*name, port}};
}

std::vector<std::shared_ptr<Agent>> Agents::all() const {
    std::vector<std::shared_ptr<Agent>> found;
    for (const auto& agent : slots_)
        if (agent) found.push_back(agent);
    return found;
}

} // namespace nullbox::egress
