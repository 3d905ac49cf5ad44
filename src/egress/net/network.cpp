#include "egress/net/network.h"

#include <algorithm>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <map>
#include <set>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "egress/net/packet_log.h"
#include "egress/net/rules.h"
#include "egress/net/tap.h"
#include "egress/net/uplink.h"

namespace nullbox::egress {

// Events come in bursts; what they are about is looked at once.
constexpr std::chrono::milliseconds kSettle{20};
constexpr std::chrono::seconds kLookAgain{5}; // after netlink itself failed

class NetworkImpl {
public:
    NetworkImpl(Loop& loop, NetworkConfig config, NetworkEvents events, Links links, NetlinkSocket netfilter)
        : loop_(loop), config_(std::move(config)), events_(std::move(events)), links_(std::move(links)),
          netfilter_(std::move(netfilter)), uplink_(loop_, links_, config_, uplink_handlers()) {}

    Result<> start();
    ~NetworkImpl();
    Result<AttachedTap> attach(unsigned slot, const std::vector<Endpoint4>& literals);
    Result<> set_literals(unsigned slot, const std::vector<Endpoint4>& literals);
    Result<> detach(unsigned slot);
    void release() { uplink_.release(); }
    Result<TapCounters> counters(unsigned slot);
    const NetworkStatus& status() const { return status_; }

private:
    struct Attached {
        TapLink link;
        Fd fd; // ours keeps the device there when the VM process ends
        unsigned index = 0;
    };

    Uplink::Handlers uplink_handlers();
    RuleOptions rule_options() const;
    Result<> check_forwarding() const;
    Result<> load_rules();
    void packet_logged(const NetlinkView& view);
    Result<> remove_stale_taps();
    Result<> make_link(Attached& attached);
    void card_changed(const std::string& old_name, const std::string& new_name);
    void look_soon(std::chrono::milliseconds delay);
    void look();
    Result<> look_at_links();
    void update();

    Loop& loop_;
    NetworkConfig config_;
    NetworkEvents events_;
    Links links_;
    NetlinkSocket netfilter_;
    NetworkStatus status_; // what update() last put together
    bool rules_loaded_ = false, started_ = false;
    std::vector<LinkAddress> addresses_;
    std::string rules_problem_, look_problem_;
    std::set<std::string> in_uplinks_; // what the rules' set holds
    std::map<unsigned, Attached> attached_;
    std::unique_ptr<NetlinkEvents> link_events_, packet_log_;
    Uplink uplink_;
    Watch look_timer_;
};

Uplink::Handlers NetworkImpl::uplink_handlers() {
    return {.card = [this](const std::string& old_name,
                           const std::string& new_name) { card_changed(old_name, new_name); },
            .changed = [this] { look_soon(kSettle); }};
}

RuleOptions NetworkImpl::rule_options() const {
    return {
        .gate_port = config_.gate_port, .proxy_port = config_.proxy_port, .egress_uid = config_.egress_uid};
}

// --- start

Result<> NetworkImpl::start() {
    link_events_ = TRY(NetlinkEvents::open(
        loop_, NETLINK_ROUTE, {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE},
        {.message = [this](const NetlinkView&) { look_soon(kSettle); },
         .lost = [this] { look_soon(kSettle); }}));
    if (auto loaded = load_rules(); !loaded) log_error(rules_problem_);
    TRY(remove_stale_taps());
    look();
    started_ = true;
    return {};
}

NetworkImpl::~NetworkImpl() {
    for (auto& [slot, attached] : attached_) {
        (void)links_.remove(attached.index);
        (void)netfilter_.batch(remove_agent_rules(attached.link));
    }
}

// Their VM processes hold them open, but their rules went with the old table; cage attaches again.
Result<> NetworkImpl::remove_stale_taps() {
    for (const auto& link : TRY(links_.links()))
        if (link.kind == "tun" && slot_of_tap(link.name)) TRY(links_.remove(link.index));
    return {};
}

Result<> NetworkImpl::check_forwarding() const {
    for (auto name : {"/sys/net/ipv4/ip_forward", "/sys/net/ipv6/conf/all/forwarding"}) {
        auto path = config_.proc_path + name;
        auto value = read_file(path, 64);
        if (!value && value.error().code == ENOENT) continue; // no such family in this kernel
        if (!value) return std::move(value.error());
        if (trim(*value) != "0")
            return error(cat(path, " is ", trim(*value), ": this box must forward nothing; set it to 0"));
    }
    return {};
}

// The whole table at once; if it stays out, the reason stays in status() and no agent gets a network.
Result<> NetworkImpl::load_rules() {
    auto load = [&]() -> Result<> {
        TRY(check_forwarding());
        if (!packet_log_) {
            packet_log_ = TRY(NetlinkEvents::open(loop_, NETLINK_NETFILTER, {},
                                                  {.message =
                                                       [this](const NetlinkView& view) {
                                                           auto packet = parse_packet_log(view);
                                                           if (packet && events_.dropped)
                                                               events_.dropped(*packet);
                                                       },
                                                   .lost = {}}));
            for (const auto& message : subscribe_to_packet_log()) TRY(packet_log_->send(message));
        }
        TRY(netfilter_.batch(base_rules(rule_options(), uplink_.name())));
        in_uplinks_.clear();
        if (!uplink_.name().empty()) in_uplinks_.insert(uplink_.name());
        return links_.route_proxy_packets();
    };
    auto loaded = load();
    rules_loaded_ = loaded.has_value();
    rules_problem_.clear();
    if (!loaded)
        rules_problem_ =
            cat("the firewall's rules are not loaded, so no agent gets a network: ", loaded.error().message);
    return loaded;
}

void NetworkImpl::packet_logged(const NetlinkView& view) {
    // Without the log packets are dropped and counted all the same; only the records lack them.
    if (auto ack = parse_ack(view); ack && ack->error != 0)
        log_warning(errno_error(ack->error, "take the log of dropped packets").message);
    auto packet = parse_packet_log(view);
    if (packet && events_.dropped) events_.dropped(*packet);
}

// --- the uplink

void NetworkImpl::card_changed(const std::string& old_name, const std::string& new_name) {
    if (!rules_loaded_) return; // load_rules() puts it in
    std::vector<NetlinkMessage> batch;
    auto append = [&](std::vector<NetlinkMessage> more) {
        std::ranges::move(more, std::back_inserter(batch));
    };
    if (in_uplinks_.contains(old_name)) append(remove_uplink(old_name));
    if (!new_name.empty()) append(add_uplink(new_name));
    if (batch.empty()) return;
    if (auto done = netfilter_.batch(batch); !done) {
        // Closed, not open: the card's packets are dropped.
        rules_problem_ = cat("network card ", new_name, " is not let through: ", done.error().message);
        log_error(rules_problem_);
        return;
    }
    in_uplinks_.erase(old_name);
    if (!new_name.empty()) in_uplinks_.insert(new_name);
}

void NetworkImpl::look_soon(std::chrono::milliseconds delay) {
    if (!look_timer_) look_timer_ = loop_.after(delay, [this] { look(); });
}

void NetworkImpl::look() {
    look_timer_.drop();
    auto looked = look_at_links();
    look_problem_ = looked ? "" : looked.error().message;
    if (!looked) {
        log_warning(look_problem_);
        look_soon(kLookAgain);
    }
    update();
}

Result<> NetworkImpl::look_at_links() {
    auto links = TRY(links_.links());
    if (config_.manage_uplink) uplink_.look(links);
    addresses_ = TRY(links_.addresses());
    if (config_.manage_uplink) uplink_.look(addresses_);
    return {};
}

void NetworkImpl::update() {
    auto before = status_;
    status_.addresses.clear();
    status_.own_addresses.clear();
    for (const auto& address : addresses_) {
        status_.own_addresses.push_back({address.address, address.prefix});
        if (address.link == uplink_.index() && address.usable()) status_.addresses.push_back(address.address);
    }
    status_.rules_loaded = rules_loaded_;
    status_.uplink = uplink_.status();
    status_.uplink_index = uplink_.index();
    status_.gateway = uplink_.gateway();
    status_.gateway6 = uplink_.gateway6();
    status_.dns_servers = uplink_.dns_servers();
    status_.time_servers = uplink_.time_servers();
    status_.problems.clear();
    for (const auto& problem : {rules_problem_, look_problem_, uplink_.problem(), uplink_.problem6()})
        if (!problem.empty()) status_.problems.push_back(problem);
    if (started_ && status_ != before && events_.changed) events_.changed();
}

// --- agents

Result<> NetworkImpl::make_link(Attached& attached) {
    auto tap = TRY(make_tap(config_.tun_path, attached.link));
    attached.fd = std::move(tap.fd);
    attached.index = tap.link;
    TRY(links_.set_up_tap(attached.index, attached.link));
    TRY(links_.set_address(attached.index, {attached.link.gateway, kGuestPrefix}));
    TRY(links_.set_up(attached.index));
    return links_.set_neighbour(attached.index, attached.link.guest, attached.link.guest_mac);
}

// A set takes no endpoint twice.
static std::vector<Endpoint4> without_repeats(const std::vector<Endpoint4>& literals) {
    std::set<Endpoint4> unique(literals.begin(), literals.end());
    return {unique.begin(), unique.end()};
}

Result<> NetworkImpl::set_literals(unsigned slot, const std::vector<Endpoint4>& literals) {
    if (!attached_.contains(slot)) return error(cat("agent link ", slot, " is not attached"));
    if (literals.size() > kMaxLiterals)
        return error(cat(literals.size(), " literal addresses, at most ", kMaxLiterals, " are possible"));
    return netfilter_.batch(agent_literals(slot, without_repeats(literals)));
}

Result<AttachedTap> NetworkImpl::attach(unsigned slot, const std::vector<Endpoint4>& literals) {
    if (slot >= kMaxSlots) return error(cat("no link for agent ", slot, ": there are ", kMaxSlots));
    if (literals.size() > kMaxLiterals)
        return error(cat(literals.size(), " literal addresses, at most ", kMaxLiterals, " are possible"));
    TRY(detach(slot));
    if (!rules_loaded_) {
        auto loaded = load_rules();
        update();
        if (!loaded) return error(rules_problem_);
    }
    TRY(check_forwarding());
    Attached attached{.link = tap_link(slot)};
    TRY(netfilter_.batch(agent_rules(attached.link, without_repeats(literals), rule_options())));
    auto undo = [&](Error why) {
        if (attached.index != 0) (void)links_.remove(attached.index);
        (void)netfilter_.batch(remove_agent_rules(attached.link));
        return why;
    };
    if (auto made = make_link(attached); !made) return undo(std::move(made.error()));
    auto theirs = attached.fd.duplicate();
    if (!theirs) return undo(std::move(theirs.error()));
    AttachedTap out{.link = attached.link, .fd = std::move(*theirs)};
    attached_.emplace(slot, std::move(attached));
    return out;
}

Result<> NetworkImpl::detach(unsigned slot) {
    auto found = attached_.find(slot);
    if (found == attached_.end()) return {};
    // The link first: from here on there is nobody for whom the rules' absence could matter.
    TRY(links_.remove(found->second.index));
    auto link = found->second.link;
    attached_.erase(found);
    return netfilter_.batch(remove_agent_rules(link));
}

Result<TapCounters> NetworkImpl::counters(unsigned slot) {
    if (!attached_.contains(slot)) return error(cat("agent link ", slot, " is not attached"));
    auto read = [&](const std::string& name) -> Result<nft::Count> {
        for (const auto& reply : TRY(netfilter_.request(nft::read_counter(name))))
            return nft::parse_counter(reply.view());
        return error(cat("no counter ", name));
    };
    auto names = counter_names(slot);
    auto dns = TRY(read(names.dns)), proxy = TRY(read(names.proxy)), dropped = TRY(read(names.dropped));
    return TapCounters{.dns_packets = dns.packets,
                       .proxy_packets = proxy.packets,
                       .dropped_packets = dropped.packets,
                       .dns_bytes = dns.bytes,
                       .proxy_bytes = proxy.bytes,
                       .dropped_bytes = dropped.bytes};
}

// --- the public face

bool NetworkStatus::online4() const {
    return gateway && std::ranges::any_of(addresses, [](const auto& one) { return !one.v6; });
}
bool NetworkStatus::online6() const {
    return gateway6 &&
           std::ranges::any_of(addresses, [](const auto& one) { return one.v6 && !one.link_local6(); });
}

Network::Network(std::unique_ptr<NetworkImpl> impl) : impl_(std::move(impl)) {}
Network::~Network() = default;

Result<std::unique_ptr<Network>> Network::start(Loop& loop, NetworkConfig config, NetworkEvents events) {
    auto links = TRY(Links::open());
    auto netfilter = TRY(NetlinkSocket::open(NETLINK_NETFILTER));
    auto impl = std::make_unique<NetworkImpl>(loop, std::move(config), std::move(events), std::move(links),
                                              std::move(netfilter));
    TRY(impl->start());
    return std::unique_ptr<Network>(new Network(std::move(impl)));
}

const NetworkStatus& Network::status() const { return impl_->status(); }
Result<AttachedTap> Network::attach(unsigned slot, const std::vector<Endpoint4>& literals) {
    return impl_->attach(slot, literals);
}
Result<> Network::set_literals(unsigned slot, const std::vector<Endpoint4>& literals) {
    return impl_->set_literals(slot, literals);
}
void Network::release() { impl_->release(); }
Result<> Network::detach(unsigned slot) { return impl_->detach(slot); }
Result<TapCounters> Network::counters(unsigned slot) const { return impl_->counters(slot); }

} // namespace nullbox::egress
