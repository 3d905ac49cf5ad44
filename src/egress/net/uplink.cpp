#include "egress/net/uplink.h"

#include <algorithm>

#include "base/log.h"
#include "base/text.h"

namespace nullbox::egress {

static const Link* choose(const std::vector<Link>& links, unsigned current) {
    const Link *in_use = nullptr, *with_cable = nullptr, *first = nullptr;
    for (const auto& link : links) {
        if (!link.is_card()) continue;
        if (link.index == current) in_use = &link;
        if (!with_cable && link.carrier) with_cable = &link;
        if (!first) first = &link;
    }
    if (in_use && (in_use->carrier || !with_cable)) return in_use;
    return with_cable ? with_cable : first;
}

void Uplink::note(const Result<>& result, std::string_view what) {
    if (result) return;
    problem_ = cat(what, ": ", result.error().message);
    log_warning(problem_);
}

void Uplink::look(const std::vector<Link>& links) {
    for (const auto& link : links) {
        // From before the configuration changed.
        if (link.vlan && !config_.vlan) note(links_.remove(link.index), cat("old VLAN ", link.name));
        // A cable shows only on a link that is up.
        if (link.is_card() && !link.up) note(links_.set_up(link.index), cat("network card ", link.name));
    }
    const Link* card = choose(links, config_.vlan ? below_.index : card_.index);
    std::optional<Link> vlan;
    if (config_.vlan) {
        below_ = card ? *card : Link{};
        if (card) vlan = vlan_on(*card, links);
        card = vlan ? &*vlan : nullptr;
    }
    if (!card) {
        leave_card();
        return;
    }
    if (card->index != card_.index || card->name != card_.name || card->mac != card_.mac) use_card(*card);
    bool had_cable = std::exchange(card_.carrier, card->carrier);
    if (had_cable == card->carrier) return;
    log_info(cat("network card ", card_.name, ": cable ", card->carrier ? "in" : "out"));
    if (card->carrier)
        cable_in();
    else if (dhcp_)
        dhcp_->stop();
    six_.cable(card->carrier);
    handlers_.changed();
}

// The VLAN's link, once it is there; made if it is not, of which events tell. What is left of another one,
// from before a restart, goes.
std::optional<Link> Uplink::vlan_on(const Link& card, const std::vector<Link>& links) {
    auto carry_out = [&]() -> Result<std::optional<Link>> {
        std::optional<Link> found;
        for (const auto& link : links) {
            if (!link.vlan) continue;
            if (link.below == card.index && link.vlan == config_.vlan && !found)
                found = link;
            else
                TRY(links_.remove(link.index));
        }
        // Once: the kernel tells of each change, and then we come here again.
        if (std::exchange(stripped_, card.index) != card.index) {
            TRY(links_.set_up_card(card.index)); // or it answers by ARP for the VLAN's address
            TRY(links_.strip(card.index));
        }
        if (!found) {
            TRY(links_.add_vlan(card.index, config_.vlan, cat("vlan", config_.vlan)));
            return found;
        }
        if (!found->up) TRY(links_.set_up(found->index));
        return found;
    };
    auto found = carry_out();
    vlan_problem_ = found ? "" : cat("VLAN ", config_.vlan, " on ", card.name, ": ", found.error().message);
    if (!found) log_warning(vlan_problem_);
    return found ? *found : std::nullopt;
}

void Uplink::use_card(const Link& card) {
    auto old_name = card_.name;
    give_up_address();
    dhcp_.reset();
    problem_.clear();
    card_ = card;
    card_.carrier = false; // look() sees it come
    log_info(cat("network card ", card_.name, ", ", card_.mac.text()));
    note(links_.set_up_card(card_.index), cat("network card ", card_.name));
    handlers_.card(old_name, card_.name);
    six_.use_card(card_);
    if (config_.dhcp) {
        DhcpLink::Handlers handlers{.use = [this](const DhcpLease& lease) { use_lease(lease); },
                                    .give_up = [this] { give_up_address(); },
                                    .changed = handlers_.changed};
        dhcp_ = std::make_unique<DhcpLink>(loop_, DhcpLink::Card{card_.index, card_.name, card_.mac},
                                           DhcpLink::Options{config_.hostname, config_.dhcp_patience},
                                           std::move(handlers));
    }
    handlers_.changed();
}

void Uplink::leave_card() {
    if (card_.index == 0) return;
    log_warning(cat("network card ", card_.name, " is gone"));
    auto old_name = card_.name;
    dhcp_.reset();
    address_.reset(); // it went with the card
    card_ = {};
    six_.use_card(card_);
    handlers_.card(old_name, "");
    handlers_.changed();
}

void Uplink::cable_in() {
    problem_.clear();
    if (dhcp_) {
        dhcp_->start();
    } else if (config_.address) {
        note(configure(*config_.address, config_.gateway, 0, false), "static address");
    }
}

// Our address is the card's only IPv4 address: one from before a restart of ours goes away once there is a
// new one.
Result<> Uplink::configure(Prefix4 address, std::optional<Ip4> gateway, uint32_t valid_s, bool by_dhcp) {
    for (const auto& other : TRY(links_.addresses())) {
        if (other.link != card_.index || other.address.v6) continue;
        auto old = Prefix4::parse(cat(other.address.text(), '/', other.prefix));
        if (old && *old != address) TRY(links_.remove_address(card_.index, *old));
    }
    // After the old one is gone: of two in one network the second would go with the first.
    TRY(links_.set_address(card_.index, address, valid_s));
    address_ = address;
    if (!gateway) return links_.remove_default_route(card_.index);
    return links_.set_default_route(card_.index, {.gateway = *gateway,
                                                  .source = address.address,
                                                  .on_link = !address.contains(*gateway),
                                                  .by_dhcp = by_dhcp});
}

void Uplink::use_lease(const DhcpLease& lease) {
    problem_.clear();
    if (lease.mtu && *lease.mtu < card_.mtu)
        note(links_.set_mtu(card_.index, *lease.mtu), "the MTU DHCP gave");
    auto valid_s = static_cast<uint32_t>(std::min<int64_t>(lease.duration.count(), UINT32_MAX - 1));
    if (address_ != lease.address)
        log_info(cat("address ", lease.address.text(), " from DHCP server ", lease.server.text()));
    note(configure(lease.address, lease.gateway, valid_s, true), "the address DHCP gave");
}

void Uplink::give_up_address() {
    if (!address_ || card_.index == 0) return;
    log_warning(cat("address ", address_->text(), " is given up"));
    note(links_.remove_default_route(card_.index), "default route");
    note(links_.remove_address(card_.index, *address_), "address");
    address_.reset();
}

// The address stays on the card: a start within seconds takes it up again, and the kernel ends it in its
// time.
void Uplink::release() {
    if (dhcp_) dhcp_->release();
}

// --- what it looks like

std::string Uplink::problem() const {
    if (!vlan_problem_.empty()) return vlan_problem_;
    return problem_.empty() && dhcp_ ? dhcp_->problem() : problem_;
}

std::optional<Ip4> Uplink::gateway() const {
    if (!address_) return std::nullopt;
    if (!dhcp_) return config_.gateway;
    return dhcp_->lease() ? dhcp_->lease()->gateway : std::nullopt;
}

static std::vector<IpAddress> as_addresses(const std::vector<Ip4>& list) {
    std::vector<IpAddress> out;
    for (auto address : list) out.push_back(IpAddress::of(address));
    return out;
}

// Of both families in turn: only the first few are asked, and one family may not work.
std::vector<IpAddress> Uplink::dns_servers() const {
    if (!config_.dns_servers.empty()) return config_.dns_servers;
    std::vector<IpAddress> four, out;
    if (dhcp_ && dhcp_->lease()) four = as_addresses(dhcp_->lease()->dns_servers);
    auto six = six_.dns_servers();
    for (size_t i = 0; i < std::max(four.size(), six.size()); i++) {
        if (i < four.size()) out.push_back(four[i]);
        if (i < six.size()) out.push_back(six[i]);
    }
    return out;
}

std::vector<IpAddress> Uplink::time_servers() const {
    return dhcp_ && dhcp_->lease() ? as_addresses(dhcp_->lease()->time_servers) : std::vector<IpAddress>();
}

NetworkStatus::Uplink Uplink::status() const {
    NetworkStatus::Uplink out{.name = card_.name, .mac = card_.mac, .carrier = card_.carrier};
    if (card_.index == 0)
        out.state = "waiting for a network card";
    else if (!card_.carrier)
        out.state = "no cable";
    else if (!dhcp_)
        out.state = address_ ? "static address" : "no address is configured";
    else
        out.state = dhcp_state_text(dhcp_->state());
    if (card_.carrier && !six_.state_text().empty()) {
        bool only = !address_ && !dhcp_; // IPv4 is switched off
        out.state = only ? six_.state_text() : cat(out.state, ", ", six_.state_text());
    }
    if (config_.vlan && below_.index != 0)
        out.state += cat(" (VLAN ", config_.vlan, " of ", below_.name, ")");
    return out;
}

} // namespace nullbox::egress
