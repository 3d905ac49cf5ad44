// IPv6 by router advertisement on one network card: RouterDiscovery with its ICMPv6 socket (CAP_NET_RAW) and
// its timer. The socket hears router advertisements of that card only; the firewall lets in none from
// elsewhere either (rules.h). The kernel's own accept_ra must be 0, or there are two who decide.
#pragma once

#include "egress/net/router_discovery.h"

namespace nullbox::egress {

class RouterLink {
public:
    struct Card {
        unsigned index = 0;
        std::string name;
        Mac mac;
    };
    struct Handlers {
        std::function<void(const RouterSetup&)> use; // at most once a second, however much is announced
    };
    RouterLink(Loop& loop, Card card, Handlers handlers);

    void start();
    void stop();
    // The kernel has found the address in use by somebody else (RFC 4862 section 5.4).
    void in_use(const Ip6& address);
    const RouterSetup& setup() const { return discovery_.setup(); }
    const std::string& problem() const { return problem_; } // empty: none

private:
    void carry_out(RouterActions actions);
    Result<> open();
    Result<> solicit();
    void readable();
    void set_timer();
    void use_soon();

    Loop& loop_;
    Card card_;
    Handlers handlers_;
    RouterDiscovery discovery_;
    std::string problem_;
    Clock::time_point used_{};
    Fd socket_;
    Watch socket_watch_, timer_, use_timer_; // after what they watch: dropped first
};

} // namespace nullbox::egress
