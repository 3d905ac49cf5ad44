// IPv6 by router advertisement, the host's side as a state machine: router discovery (RFC 4861 section 6.3),
// addresses from announced prefixes (RFC 4862 section 5.5), DNS servers (RFC 8106). Time and advertisements
// in, what the card shall have out. An address is the prefix and the card's EUI-64. Pure: the edge is
// router_link.h.
//
// Of everything there are a few at most, however much is announced: who is on the link can have us believe
// wrong things (as with DHCP), but not many. What was learnt before the cable was out counts on, unless
// nobody announces it again by the time our solicitations are over.
//
// Not done: noticing that a router is dead before its lifetime is over (the kernel's neighbour discovery
// finds it unreachable, and its packets are lost meanwhile), prefixes that are on-link only (their hosts are
// reached through the router), DHCPv6.
#pragma once

#include <functional>

#include "base/loop.h"
#include "egress/net/router_advert.h"

namespace nullbox::egress {

constexpr size_t kMaxRouters = 4, kMaxPrefixes = 4, kMaxServers6 = 4;

struct RouterSetup {
    struct Address {
        Prefix6 address;
        bool on_link = false; // the prefix's other hosts are on the link
        Clock::time_point preferred_until{}, valid_until{};
    };
    std::vector<Address> addresses; // at most kMaxPrefixes
    std::optional<Ip6> router;      // the best of those that live; link-local
    Clock::time_point router_until{};
    std::vector<Ip6> dns_servers; // global or link-local
    std::optional<uint32_t> mtu;  // 1280 or more

    // Whether the kernel must be told: other contents, or times that have moved by more than a second.
    bool differs_from(const RouterSetup& other) const;
};

struct RouterActions {
    bool solicit = false; // send one now
    bool changed = false; // setup() differs from what it was at the last `changed`
    std::string problem;  // for people; empty: none
};

class RouterDiscovery {
public:
    // random: 32 bits at a time, for the delay of the first solicitation.
    RouterDiscovery(Mac mac, std::function<uint32_t()> random) : mac_(mac), random_(std::move(random)) {}

    RouterActions start(Clock::time_point now); // the link has come up
    void stop();                                // the link is gone
    // The solicitation could not go out: there is no link-local address yet. It counts for none.
    void not_sent(Clock::time_point now);
    RouterActions receive(Clock::time_point now, const Ip6& router, const RouterAdvert& advert);
    RouterActions tick(Clock::time_point now); // at or after next()
    // Somebody else on the link has the address: it is left alone for some minutes.
    RouterActions in_use(Clock::time_point now, const Ip6& address);

    Clock::time_point next() const;
    const RouterSetup& setup() const { return setup_; }

private:
    struct Router {
        Ip6 address;
        int preference = 0;
        Clock::time_point until{}, heard{};
    };
    struct Prefix {
        Prefix6 prefix;
        bool on_link = false;
        Clock::time_point preferred_until{}, valid_until{}, heard{}, leave_alone_until{};
    };
    struct Server {
        Ip6 address;
        Clock::time_point until{}, heard{};
    };
    void take_router(Clock::time_point now, const Ip6& address, const RouterAdvert& advert);
    void take_prefix(Clock::time_point now, const AdvertPrefix& advert);
    void take_servers(Clock::time_point now, const AdvertServers& servers);
    void forget(Clock::time_point now);
    RouterActions result(Clock::time_point now, bool solicit = false);
    Ip6 address_in(const Prefix6& prefix) const;

    Mac mac_;
    std::function<uint32_t()> random_;
    bool running_ = false;
    bool managed_ = false; // the last advertisement says that addresses come by DHCPv6
    unsigned solicited_ = 0;
    Clock::time_point left_out_until_{}; // until when it is said that there was no room
    Clock::time_point started_{};
    Clock::time_point solicit_at_ = Clock::time_point::max();
    Clock::time_point settle_at_ = Clock::time_point::max(); // then what is from before started_ goes
    std::vector<Router> routers_;
    std::vector<Prefix> prefixes_;
    std::vector<Server> servers_;
    std::optional<uint32_t> mtu_;
    RouterSetup setup_;
};

} // namespace nullbox::egress
