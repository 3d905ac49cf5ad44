#include "egress/net/router_discovery.h"

#include <algorithm>
#include <array>

#include "base/text.h"

namespace nullbox::egress {

using std::chrono::milliseconds;
using std::chrono::seconds;

// RFC 4861 section 10.
constexpr unsigned kSolicitations = 3;
constexpr seconds kSolicitPause{4};
constexpr uint32_t kFirstDelayMs = 1000;
constexpr seconds kNotSentPause{1};

constexpr auto kTwoHours = std::chrono::hours(2); // RFC 4862 section 5.5.3 e
constexpr auto kLeaveAlone = std::chrono::minutes(5), kToldAbout = std::chrono::minutes(10);
constexpr uint8_t kPrefixLength = 64; // what EUI-64 leaves (RFC 4291 section 2.5.1)
constexpr uint32_t kLeastMtu = 1280, kMostMtu = 65'535;
constexpr auto kNever = Clock::time_point::max();

static Clock::time_point after(Clock::time_point now, uint32_t lifetime_s) {
    return lifetime_s == kAdvertForEver ? kNever : now + seconds(lifetime_s);
}

static bool close_to(Clock::time_point a, Clock::time_point b) {
    return (a < b ? b - a : a - b) <= seconds(1);
}

bool RouterSetup::differs_from(const RouterSetup& other) const {
    auto same = [](const Address& a, const Address& b) {
        return a.address == b.address && a.on_link == b.on_link &&
               close_to(a.preferred_until, b.preferred_until) && close_to(a.valid_until, b.valid_until);
    };
    return !std::ranges::equal(addresses, other.addresses, same) || router != other.router ||
           !close_to(router_until, other.router_until) || dns_servers != other.dns_servers ||
           mtu != other.mtu;
}

// --- time

RouterActions RouterDiscovery::start(Clock::time_point now) {
    running_ = true;
    solicited_ = 0;
    started_ = now;
    // So that not all hosts ask at once after a power cut (RFC 4861 section 6.3.7).
    solicit_at_ = now + milliseconds(random_() % (kFirstDelayMs + 1));
    settle_at_ = now + milliseconds(kFirstDelayMs) + kSolicitations * kSolicitPause;
    return result(now);
}

void RouterDiscovery::stop() {
    running_ = false;
    solicit_at_ = settle_at_ = kNever;
}

void RouterDiscovery::not_sent(Clock::time_point now) {
    if (solicited_ > 0) solicited_--;
    solicit_at_ = now + kNotSentPause;
    // Who has not been asked cannot have failed to answer.
    if (settle_at_ != kNever) settle_at_ = std::max(settle_at_, now + kSolicitations * kSolicitPause);
}

RouterActions RouterDiscovery::tick(Clock::time_point now) {
    bool solicit = running_ && now >= solicit_at_;
    if (solicit) solicit_at_ = ++solicited_ < kSolicitations ? now + kSolicitPause : kNever;
    return result(now, solicit);
}

void RouterDiscovery::forget(Clock::time_point now) {
    bool settle = now >= settle_at_;
    if (settle) settle_at_ = kNever;
    auto gone = [&](Clock::time_point until, Clock::time_point heard) {
        return until <= now || (settle && heard < started_);
    };
    std::erase_if(routers_, [&](const Router& one) { return gone(one.until, one.heard); });
    std::erase_if(prefixes_, [&](const Prefix& one) { return gone(one.valid_until, one.heard); });
    std::erase_if(servers_, [&](const Server& one) { return gone(one.until, one.heard); });
}

Clock::time_point RouterDiscovery::next() const {
    auto next = std::min(solicit_at_, settle_at_);
    if (left_out_until_ != Clock::time_point{}) next = std::min(next, left_out_until_);
    for (const auto& one : routers_) next = std::min(next, one.until);
    for (const auto& one : servers_) next = std::min(next, one.until);
    for (const auto& one : prefixes_) {
        next = std::min(next, one.valid_until);
        if (one.leave_alone_until != Clock::time_point{}) next = std::min(next, one.leave_alone_until);
    }
    return next;
}

// --- what is announced

void RouterDiscovery::take_router(Clock::time_point now, const Ip6& address, const RouterAdvert& advert) {
    auto found = std::ranges::find(routers_, address, &Router::address);
    if (advert.lifetime_s == 0) {
        if (found != routers_.end()) routers_.erase(found);
        return;
    }
    solicit_at_ = kNever; // there is a router: nobody needs to be asked
    if (found == routers_.end()) {
        if (routers_.size() == kMaxRouters) {
            left_out_until_ = now + kToldAbout;
            return;
        }
        found = routers_.insert(found, {.address = address});
    }
    found->preference = advert.preference;
    found->until = now + seconds(advert.lifetime_s);
    found->heard = now;
}

void RouterDiscovery::take_prefix(Clock::time_point now, const AdvertPrefix& advert) {
    if (!advert.autonomous || advert.prefix.length != kPrefixLength || advert.preferred_s > advert.valid_s ||
        !advert.prefix.address.global_unicast())
        return;
    auto prefix = advert.prefix;
    std::fill(prefix.address.bytes.begin() + kPrefixLength / 8, prefix.address.bytes.end(), uint8_t{0});
    auto found = std::ranges::find(prefixes_, prefix, &Prefix::prefix);
    auto valid_until = after(now, advert.valid_s);
    if (found == prefixes_.end()) {
        if (advert.valid_s == 0) return;
        if (prefixes_.size() == kMaxPrefixes) {
            left_out_until_ = now + kToldAbout;
            return;
        }
        found = prefixes_.insert(found, {.prefix = prefix});
    } else if (valid_until < found->valid_until && valid_until <= now + kTwoHours) {
        // Nobody takes an address away in a hurry: the sender may be anybody (section 5.5.3 e).
        valid_until = std::min(found->valid_until, now + kTwoHours);
    }
    found->on_link = advert.on_link;
    found->valid_until = valid_until;
    found->preferred_until = std::min(valid_until, after(now, advert.preferred_s));
    found->heard = now;
}

void RouterDiscovery::take_servers(Clock::time_point now, const AdvertServers& servers) {
    for (const auto& address : servers.addresses) {
        if (!address.global_unicast() && !address.link_local()) continue;
        auto found = std::ranges::find(servers_, address, &Server::address);
        if (servers.lifetime_s == 0) {
            if (found != servers_.end()) servers_.erase(found);
            continue;
        }
        if (found == servers_.end()) {
            if (servers_.size() == kMaxServers6) {
                left_out_until_ = now + kToldAbout;
                return;
            }
            found = servers_.insert(found, {.address = address});
        }
        found->until = after(now, servers.lifetime_s);
        found->heard = now;
    }
}

RouterActions RouterDiscovery::receive(Clock::time_point now, const Ip6& router, const RouterAdvert& advert) {
    if (!running_) return {};
    forget(now); // so that what is over leaves its place to what comes
    take_router(now, router, advert);
    for (const auto& prefix : advert.prefixes) take_prefix(now, prefix);
    for (const auto& servers : advert.servers) take_servers(now, servers);
    if (advert.mtu && *advert.mtu >= kLeastMtu && *advert.mtu <= kMostMtu) mtu_ = advert.mtu;
    managed_ = advert.managed;
    return result(now);
}

RouterActions RouterDiscovery::in_use(Clock::time_point now, const Ip6& address) {
    for (auto& one : prefixes_)
        if (address_in(one.prefix) == address) one.leave_alone_until = now + kLeaveAlone;
    return result(now);
}

// --- what follows

Ip6 RouterDiscovery::address_in(const Prefix6& prefix) const {
    const auto& mac = mac_.bytes;
    std::array<uint8_t, 8> eui{static_cast<uint8_t>(mac[0] ^ 2),
                               mac[1],
                               mac[2],
                               0xff,
                               0xfe,
                               mac[3],
                               mac[4],
                               mac[5]}; // RFC 4291 appendix A
    auto address = prefix.address;
    std::ranges::copy(eui, address.bytes.begin() + kPrefixLength / 8);
    return address;
}

RouterActions RouterDiscovery::result(Clock::time_point now, bool solicit) {
    forget(now);
    if (left_out_until_ <= now) left_out_until_ = {};
    RouterSetup setup{.mtu = mtu_};
    for (auto& one : prefixes_) {
        if (one.leave_alone_until > now) continue;
        one.leave_alone_until = {};
        setup.addresses.push_back({.address = {address_in(one.prefix), kPrefixLength},
                                   .on_link = one.on_link,
                                   .preferred_until = one.preferred_until,
                                   .valid_until = one.valid_until});
    }
    // The first of the best: a router that comes later changes nothing unless it says that it is better.
    auto best = std::ranges::max_element(routers_, {}, &Router::preference);
    if (best != routers_.end()) {
        setup.router = best->address;
        setup.router_until = best->until;
    }
    for (const auto& one : servers_) setup.dns_servers.push_back(one.address);
    RouterActions actions{.solicit = solicit, .changed = setup.differs_from(setup_)};
    if (actions.changed) setup_ = std::move(setup);
    if (managed_ && setup_.addresses.empty() && !routers_.empty())
        actions.problem =
            "IPv6: the router gives addresses by DHCPv6 only, which this box does not speak; set "
            "network.address6 and gateway6";
    else if (left_out_until_ > now)
        actions.problem = cat("IPv6: more is announced on this network than a box can need (", kMaxRouters,
                              " routers, ", kMaxPrefixes, " prefixes, ", kMaxServers6,
                              " DNS servers): the rest is left out; look for who sends it");
    return actions;
}

} // namespace nullbox::egress
