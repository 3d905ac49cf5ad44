// The IPv6 half of the box's own way to the outside: a static address, or what routers announce, or nothing;
// set over netlink, so that the kernel keeps the times even when we end. The link-local address is the
// kernel's own. Whatever other IPv6 address the card has (from before a restart, or the kernel's own doing)
// is taken away.
#pragma once

#include <map>

#include "egress/net/links.h"
#include "egress/net/network.h"
#include "egress/net/router_link.h"

namespace nullbox::egress {

class Uplink6 {
public:
    Uplink6(Loop& loop, Links& links, const NetworkConfig& config, std::function<void()> changed)
        : loop_(loop), links_(links), config_(config), changed_(std::move(changed)) {}

    void use_card(const Link& card); // another one than before; index 0: none
    void cable(bool in);
    // Of all links, whenever they have changed: finds out which of ours are somebody else's.
    void look(const std::vector<LinkAddress>& addresses);

    std::optional<Ip6> gateway() const { return router_; }
    std::vector<IpAddress> dns_servers() const;
    std::string_view state_text() const; // empty: no IPv6 to speak of
    const std::string& problem() const;

private:
    void apply();
    Result<> configure(const RouterSetup& setup);
    RouterSetup wanted() const;
    void note(const Result<>& result, std::string_view what);
    void check_kernel_keeps_out();
    void missing(const Ip6& address);

    Loop& loop_;
    Links& links_;
    const NetworkConfig& config_;
    std::function<void()> changed_;
    Link card_;
    std::unique_ptr<RouterLink> routers_;
    struct Given {
        bool again = false; // set a second time, after it had gone
    };
    std::map<Ip6, Given> given_; // that the card should have
    bool cable_in_ = false;
    std::optional<Ip6> router_; // that the kernel's default route is through
    std::string kernel_problem_, problem_, duplicate_problem_;
};

} // namespace nullbox::egress
