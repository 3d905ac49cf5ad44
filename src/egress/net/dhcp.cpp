#include "egress/net/dhcp.h"

#include <algorithm>

#include "base/check.h"
#include "base/text.h"
#include "egress/net/tap_link.h"

namespace nullbox::egress {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kFirstPause{4}, kLongestPause{64};
constexpr seconds kPauseAfterLoss{1};
constexpr unsigned kRequestTries = 4;
constexpr unsigned kProbes = 3; // as RFC 5227, whose pauses are of seconds
constexpr milliseconds kProbePause{200};
constexpr seconds kPauseAfterDecline{10}; // RFC 2131 section 3.1, step 5
constexpr seconds kLeastRenewalPause{60};
constexpr seconds kShortestLease{4}; // shorter ones are taken as this: a server must not keep us busy
constexpr uint32_t kForEver = UINT32_MAX;
constexpr uint16_t kLeastMtu = 576;

std::string_view dhcp_state_text(DhcpState state) {
    switch (state) {
    case DhcpState::Stopped:
        return "no link";
    case DhcpState::Selecting:
        return "asking for an address (DHCP)";
    case DhcpState::Requesting:
        return "taking the address that was offered (DHCP)";
    case DhcpState::Rebooting:
        return "asking whether the old address still holds (DHCP)";
    case DhcpState::Probing:
        return "checking that nobody else has the address (DHCP)";
    case DhcpState::Bound:
        return "address by DHCP";
    case DhcpState::Renewing:
        return "address by DHCP, renewing it";
    case DhcpState::Rebinding:
        return "address by DHCP, its server does not answer, asking all";
    }
    return "";
}

void DhcpClient::enter(DhcpState state, Clock::time_point next) {
    state_ = state;
    next_ = next;
}

// A new exchange of messages.
void DhcpClient::begin(Clock::time_point now, DhcpState state) {
    asked_since_ = now;
    tries_ = 0;
    transaction_ = random_();
    offer_.reset();
    new_.reset();
    enter(state, now);
}

// 4, 8, 16, 32, 64 seconds, each a second more or less (RFC 2131 section 4.1).
Clock::duration DhcpClient::back_off() {
    auto pause = std::min(kFirstPause * (1u << std::min(tries_, 10u)), kLongestPause);
    tries_++;
    return milliseconds(pause) + milliseconds(random_() % 2001) - seconds(1);
}

DhcpMessage DhcpClient::message(Clock::time_point now, DhcpType type) const {
    auto asked = std::chrono::duration_cast<seconds>(now - asked_since_).count();
    return {.type = type,
            .transaction = transaction_,
            .seconds = static_cast<uint16_t>(std::clamp<int64_t>(asked, 0, UINT16_MAX)),
            .mac = mac_,
            .hostname = hostname_};
}

DhcpActions DhcpClient::start(Clock::time_point now) {
    bool remembered = lease_ && lease_->expires > now;
    if (!remembered) lease_.reset();
    unheard_since_ = now;
    begin(now, remembered ? DhcpState::Rebooting : DhcpState::Selecting);
    return ask_again(now);
}

DhcpActions DhcpClient::discover(Clock::time_point now) {
    begin(now, DhcpState::Selecting);
    return ask_again(now);
}

// The same question once more, or the first time.
DhcpActions DhcpClient::ask_again(Clock::time_point now) {
    DhcpActions actions;
    auto type = state_ == DhcpState::Selecting ? DhcpType::Discover : DhcpType::Request;
    if (type == DhcpType::Request && tries_ == kRequestTries) {
        bool had_address = state_ == DhcpState::Rebooting;
        lease_.reset();
        actions = discover(now);
        actions.give_up_address = actions.lasting = had_address;
        actions.problem = "DHCP: the server does not answer to our request; asking all servers again";
        return actions;
    }
    DhcpSend send{.message = message(now, type)};
    if (state_ == DhcpState::Requesting) {
        send.message.requested = offer_->yours;
        send.message.server = offer_->server;
    } else if (state_ == DhcpState::Rebooting) {
        send.message.requested = lease_->address.address;
    }
    actions.send.push_back(std::move(send));
    next_ = now + back_off();
    return actions;
}

// Asks for a longer time: the server while Renewing, everybody while Rebinding.
DhcpActions DhcpClient::renew(Clock::time_point now) {
    DhcpActions actions;
    DhcpSend send{.message = message(now, DhcpType::Request)};
    send.message.client = lease_->address.address;
    send.to = state_ == DhcpState::Renewing ? lease_->server : Ip4{UINT32_MAX};
    actions.send.push_back(std::move(send));
    auto end = state_ == DhcpState::Renewing ? rebind_at_ : lease_->expires;
    next_ = std::min(end, now + std::max<Clock::duration>((end - now) / 2, kLeastRenewalPause));
    return actions;
}

DhcpActions DhcpClient::lose(Clock::time_point now, std::string problem) {
    lease_.reset();
    unheard_since_ = now;
    begin(now, DhcpState::Selecting);
    next_ = now + kPauseAfterLoss; // a server that offers and refuses in turn must not keep us busy
    return {.give_up_address = true, .problem = std::move(problem), .lasting = true};
}

DhcpActions DhcpClient::tick(Clock::time_point now) {
    if (now < next_) return {};
    switch (state_) {
    case DhcpState::Stopped:
        return {};
    case DhcpState::Selecting:
    case DhcpState::Requesting:
    case DhcpState::Rebooting:
        return ask_again(now);
    case DhcpState::Probing:
        return tries_ < kProbes ? probe(now) : bind(now);
    case DhcpState::Bound:
        begin(now, DhcpState::Renewing);
        return renew(now);
    case DhcpState::Renewing:
        if (now >= rebind_at_) begin(now, DhcpState::Rebinding);
        return renew(now);
    case DhcpState::Rebinding:
        if (now >= lease_->expires) return lose(now, "DHCP: the lease ran out and nobody renewed it");
        return renew(now);
    }
    return {};
}

// --- answers

static bool usable(Ip4 address) {
    uint8_t first = static_cast<uint8_t>(address.value >> 24);
    return first != 0 && first != 127 && first < 224 && !kAgentNetwork.contains(address);
}

// Of an answer without a mask: what the address's old class says (RFC 950).
static uint8_t class_prefix(Ip4 address) {
    if (address.value >> 31 == 0) return 8;
    return address.value >> 30 == 2 ? 16 : 24;
}

static std::vector<Ip4> usable_ones(const std::vector<Ip4>& list) {
    std::vector<Ip4> out;
    std::ranges::copy_if(list, std::back_inserter(out), usable);
    return out;
}

DhcpActions DhcpClient::take(Clock::time_point now, const DhcpMessage& ack) {
    auto prefix = ack.mask ? prefix_length(*ack.mask) : class_prefix(ack.yours);
    if (!prefix || *prefix < 8) return {.problem = "DHCP: the server gave a network mask that is none"};
    DhcpLease lease{.address = {ack.yours, *prefix},
                    .dns_servers = usable_ones(ack.dns_servers),
                    .time_servers = usable_ones(ack.time_servers),
                    .server = *ack.server};
    if (auto routers = usable_ones(ack.routers); !routers.empty()) lease.gateway = routers.front();
    if (ack.mtu && *ack.mtu >= kLeastMtu) lease.mtu = ack.mtu;
    if (*ack.lease_s != kForEver) {
        lease.duration = std::max(seconds(*ack.lease_s), kShortestLease);
        lease.expires = now + lease.duration;
        // The server's times if they are in order, else RFC 2131's.
        auto renewal = seconds(ack.renewal_s.value_or(0)), rebinding = seconds(ack.rebinding_s.value_or(0));
        if (rebinding.count() == 0 || rebinding >= lease.duration) rebinding = lease.duration * 7 / 8;
        if (renewal.count() == 0 || renewal >= rebinding) renewal = std::min(lease.duration / 2, rebinding);
        renew_at_ = now + renewal;
        rebind_at_ = now + rebinding;
    }
    // One that is only prolonged is ours all the time.
    bool fresh = state_ == DhcpState::Requesting || state_ == DhcpState::Rebooting;
    begin(now, DhcpState::Probing);
    new_ = std::move(lease);
    unheard_since_.reset();
    return fresh ? probe(now) : bind(now);
}

DhcpActions DhcpClient::probe(Clock::time_point now) {
    tries_++;
    next_ = now + kProbePause;
    return {.probe = new_->address.address};
}

DhcpActions DhcpClient::bind(Clock::time_point now) {
    auto lease = *std::exchange(new_, std::nullopt);
    lease_ = lease;
    begin(now, DhcpState::Bound);
    next_ = lease.duration.count() == 0 ? Clock::time_point::max() : renew_at_;
    return {.use = std::move(lease)};
}

DhcpActions DhcpClient::in_use(Clock::time_point now, const Mac& by) {
    if (state_ != DhcpState::Probing) return {};
    auto refused = *new_;
    auto had_address = lease_.has_value();
    DhcpSend decline{.message = message(now, DhcpType::Decline)};
    decline.message.requested = refused.address.address;
    decline.message.server = refused.server;
    auto actions =
        lose(now, cat("DHCP: server ", refused.server.text(), " gave ", refused.address.address.text(),
                      ", which ", by.text(), " has already; asking for another"));
    actions.give_up_address = had_address;
    actions.send.push_back(std::move(decline));
    next_ = now + kPauseAfterDecline;
    return actions;
}

DhcpActions DhcpClient::release(Clock::time_point now) {
    DhcpActions actions;
    bool has_address =
        state_ == DhcpState::Bound || state_ == DhcpState::Renewing || state_ == DhcpState::Rebinding;
    if (has_address && lease_) {
        transaction_ = random_();
        DhcpSend send{.message = message(now, DhcpType::Release), .to = lease_->server};
        send.message.client = lease_->address.address;
        send.message.server = lease_->server;
        actions.send.push_back(std::move(send));
    }
    lease_.reset();
    stop();
    return actions;
}

std::optional<Clock::time_point> DhcpClient::waiting_since() const {
    return state_ == DhcpState::Stopped ? std::nullopt : unheard_since_;
}

DhcpActions DhcpClient::receive(Clock::time_point now, const DhcpMessage& message) {
    if (!message.reply || message.transaction != transaction_ || message.mac != mac_ || !message.server)
        return {};
    bool asking = state_ == DhcpState::Requesting || state_ == DhcpState::Rebooting ||
                  state_ == DhcpState::Renewing || state_ == DhcpState::Rebinding;
    if (message.type == DhcpType::Offer && state_ == DhcpState::Selecting) {
        if (!usable(message.yours) || !message.lease_s) return {};
        offer_ = message;
        tries_ = 0;
        state_ = DhcpState::Requesting;
        return ask_again(now);
    }
    if (!asking) return {};
    // The offer was one server's; another's word on it counts for nothing.
    if (state_ == DhcpState::Requesting && message.server != offer_->server) return {};
    if (message.type == DhcpType::Nak)
        return lose(now,
                    cat("DHCP: server ", message.server->text(), " refuses our address; asking for another"));
    if (message.type != DhcpType::Ack || !usable(message.yours) || !message.lease_s) return {};
    return take(now, message);
}

} // namespace nullbox::egress
