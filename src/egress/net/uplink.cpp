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
        // A cable shows only on a link that is up.
        if (link.is_card() && !link.up) note(links_.set_up(link.index), cat("network card ", link.name));
    }
    const Link* card = choose(links, card_.index);
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
                                           config_.hostname, std::move(handlers));
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

// --- what it looks like

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
    return out;
}

} // namespace nullbox::egress
