// The box's own way to the outside: which network card, and its address, by DHCP or as the configuration
// says. A card may come late, go, or be replaced by another; the cable may be pulled. Whatever happens is
// noticed by events and looked at anew as a whole, so that no order of events matters.
//
// The card is the one in use if its cable is in, else the first Ethernet link with a cable in, else the
// first. With a VLAN in the configuration all of the above is the VLAN's link on that card, and the card
// itself has no address, and no rule lets a packet of its own in or out.
#pragma once

#include "egress/net/dhcp_link.h"
#include "egress/net/links.h"
#include "egress/net/network.h"
#include "egress/net/uplink6.h"

namespace nullbox::egress {

class Uplink {
public:
    struct Handlers {
        // The card is another one; empty names: none. Called before the new card gets an address.
        std::function<void(const std::string& old_name, const std::string& new_name)> card;
        std::function<void()> changed;
    };
    Uplink(Loop& loop, Links& links, const NetworkConfig& config, Handlers handlers)
        : loop_(loop), links_(links), config_(config), handlers_(std::move(handlers)),
          six_(loop, links, config, handlers_.changed) {}

    // Call them whenever links have changed.
    void look(const std::vector<Link>& links);
    void look(const std::vector<LinkAddress>& addresses) { six_.look(addresses); }

    // At the end: gives a DHCP lease back.
    void release();

    NetworkStatus::Uplink status() const;
    unsigned index() const { return card_.index; } // 0: no card
    const std::string& name() const { return card_.name; }
    std::optional<Ip4> gateway() const;
    std::optional<Ip6> gateway6() const { return six_.gateway(); }
    std::vector<IpAddress> dns_servers() const;
    std::vector<IpAddress> time_servers() const;
    std::string problem() const;
    const std::string& problem6() const { return six_.problem(); }

private:
    std::optional<Link> vlan_on(const Link& card, const std::vector<Link>& links);
    void use_card(const Link& card);
    void leave_card();
    void cable_in();
    void use_lease(const DhcpLease& lease);
    void give_up_address();
    Result<> configure(Prefix4 address, std::optional<Ip4> gateway, uint32_t valid_s, bool by_dhcp);
    void note(const Result<>& result, std::string_view what);

    Loop& loop_;
    Links& links_;
    const NetworkConfig& config_;
    Handlers handlers_;
    Link card_;                      // index 0: none; with a VLAN its link
    Link below_;                     // with a VLAN the card
    unsigned stripped_ = 0;          // the card that has been made to have no address
    std::optional<Prefix4> address_; // that we have set
    std::string problem_, vlan_problem_;
    std::unique_ptr<DhcpLink> dhcp_;
    Uplink6 six_;
};

} // namespace nullbox::egress
