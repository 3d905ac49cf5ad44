#include "egress/net/uplink6.h"

#include <algorithm>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

namespace nullbox::egress {

void Uplink6::note(const Result<>& result, std::string_view what) {
    if (result) return;
    problem_ = cat(what, ": ", result.error().message);
    log_warning(problem_);
}

void Uplink6::use_card(const Link& card) {
    routers_.reset();
    given_.clear();
    router_.reset();
    cable_in_ = false;
    problem_.clear();
    duplicate_problem_.clear();
    kernel_problem_.clear();
    card_ = card;
    if (card_.index == 0) return;
    check_kernel_keeps_out();
    if (config_.router_advertisements && !config_.address6) {
        RouterLink::Handlers handlers{.use = [this](const RouterSetup&) {
            apply();
            changed_();
        }};
        routers_ = std::make_unique<RouterLink>(loop_, RouterLink::Card{card_.index, card_.name, card_.mac},
                                                std::move(handlers));
    }
}

// In the box PID 1 has switched it off, and /proc/sys is read-only for us; elsewhere we may do so ourselves.
void Uplink6::check_kernel_keeps_out() {
    auto path = cat(config_.proc_path, "/sys/net/ipv6/conf/", card_.name, "/accept_ra");
    auto value = read_file(path, 64);
    if (!value || trim(*value) == "0") return; // not there: a kernel without IPv6
    if (write_existing(path, "0\n")) return;
    kernel_problem_ = cat(path, " is ", trim(*value),
                          ": the kernel takes what routers announce by itself, unchecked; set it to 0");
    log_warning(kernel_problem_);
}

void Uplink6::cable(bool in) {
    if (card_.index == 0) return;
    cable_in_ = in;
    if (!in) {
        if (routers_) routers_->stop();
        return;
    }
    problem_.clear();
    apply();
    if (routers_) routers_->start();
}

RouterSetup Uplink6::wanted() const {
    if (routers_) return routers_->setup();
    RouterSetup setup;
    if (!config_.address6) return setup;
    setup.addresses.push_back({.address = *config_.address6,
                               .on_link = true,
                               .preferred_until = Clock::time_point::max(),
                               .valid_until = Clock::time_point::max()});
    setup.router = config_.gateway6;
    setup.router_until = Clock::time_point::max();
    return setup;
}

void Uplink6::apply() { note(configure(wanted()), "IPv6"); }

static uint32_t seconds_until(Clock::time_point until) {
    if (until == Clock::time_point::max()) return UINT32_MAX;
    auto left = std::chrono::duration_cast<std::chrono::seconds>(until - Clock::now()).count();
    return static_cast<uint32_t>(std::clamp<int64_t>(left, 0, UINT32_MAX - 1));
}

Result<> Uplink6::configure(const RouterSetup& setup) {
    std::map<Ip6, Given> given;
    for (const auto& one : setup.addresses) {
        auto before = given_.find(one.address.address);
        given.emplace(one.address.address, before == given_.end() ? Given{} : before->second);
        if (before == given_.end()) log_info(cat("IPv6 address ", one.address.text()));
    }
    for (const auto& [address, how] : given_)
        if (!given.contains(address)) log_info(cat("IPv6 address ", address.text(), " is given up"));
    given_ = std::move(given);
    for (const auto& other : TRY(links_.addresses())) {
        Ip6 address{other.address.bytes};
        if (other.link != card_.index || !other.address.v6 || address.link_local()) continue;
        if (!given_.contains(address))
            TRY(links_.remove_address(card_.index, Prefix6{address, other.prefix}));
    }
    for (const auto& one : setup.addresses)
        TRY(links_.set_address(card_.index,
                               Links::Address6{.address = one.address,
                                               .preferred_s = seconds_until(one.preferred_until),
                                               .valid_s = std::max(seconds_until(one.valid_until), 1u),
                                               .on_link = one.on_link}));
    if (setup.mtu && *setup.mtu < card_.mtu) TRY(links_.set_mtu(card_.index, *setup.mtu));
    if (!setup.router) {
        router_.reset();
        return links_.remove_default_route6(card_.index);
    }
    auto covered = [&](const RouterSetup::Address& one) { return one.address.contains(*setup.router); };
    TRY(links_.set_default_route(
        card_.index, Links::DefaultRoute6{.gateway = *setup.router,
                                          .valid_s = std::max(seconds_until(setup.router_until), 1u),
                                          .on_link = !setup.router->link_local() &&
                                                     std::ranges::none_of(setup.addresses, covered),
                                          .by_advert = routers_ != nullptr}));
    if (router_ != setup.router) log_info(cat("IPv6 router ", setup.router->text()));
    router_ = setup.router;
    return {};
}

// --- what the kernel makes of it

void Uplink6::look(const std::vector<LinkAddress>& addresses) {
    if (card_.index == 0 || !cable_in_) return;
    std::vector<Ip6> gone;
    for (auto& [address, how] : given_) {
        auto found = std::ranges::find_if(addresses, [&](const LinkAddress& one) {
            return one.link == card_.index && one.address == IpAddress::of(address);
        });
        if (found == addresses.end()) {
            gone.push_back(address);
        } else if (found->duplicate) { // it stays so; only a static one, see missing()
            duplicate_problem_ =
                cat("IPv6 address ", address.text(),
                    " is in use by another machine on this network and does not work; set network.address6 "
                    "to a free one");
        } else if (!found->tentative) {
            how.again = false;
            duplicate_problem_.clear();
        }
    }
    for (const auto& address : gone) missing(address);
}

// Taken away by the kernel: with the link for a moment, or because another machine has it (of an address with
// a time limit nothing remains, then). One more try tells.
void Uplink6::missing(const Ip6& address) {
    auto& how = given_[address];
    if (!std::exchange(how.again, true) || !routers_) return apply();
    duplicate_problem_ = cat("IPv6 address ", address.text(),
                             " is in use by another machine on this network; it is tried again in some "
                             "minutes, or set network.address6 to a free one");
    log_warning(duplicate_problem_);
    routers_->in_use(address);
}

// --- what it looks like

std::vector<IpAddress> Uplink6::dns_servers() const {
    std::vector<IpAddress> out;
    if (routers_)
        for (const auto& server : routers_->setup().dns_servers) out.push_back(IpAddress::of(server));
    return out;
}

std::string_view Uplink6::state_text() const {
    if (given_.empty()) return {};
    return routers_ ? "IPv6 by router advertisement" : "static IPv6 address";
}

const std::string& Uplink6::problem() const {
    for (const auto* one : {&kernel_problem_, &problem_, &duplicate_problem_})
        if (!one->empty()) return *one;
    static const std::string kNone;
    return routers_ ? routers_->problem() : kNone;
}

} // namespace nullbox::egress
