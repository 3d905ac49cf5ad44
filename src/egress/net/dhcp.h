// The DHCPv4 client's state machine (RFC 2131 section 4.4): time and messages in, actions out. It gets an
// address, keeps it by renewing and rebinding, gives it up when it expires or the server says so, and asks
// again with growing pauses for as long as it takes. An address is used once nobody on the link has answered
// for it (section 4.4.1, probes of RFC 5227 in a shorter time: a box is wanted soon). Pure: the edge is
// dhcp_link.h.
#pragma once

#include <functional>

#include "base/loop.h"
#include "egress/net/dhcp_message.h"

namespace nullbox::egress {

struct DhcpLease {
    Prefix4 address;
    std::optional<Ip4> gateway;
    std::vector<Ip4> dns_servers, time_servers;
    std::optional<uint16_t> mtu;
    Ip4 server;
    std::chrono::seconds duration{0}; // zero: for ever
    Clock::time_point expires = Clock::time_point::max();
    bool operator==(const DhcpLease&) const = default;
};

enum class DhcpState { Stopped, Selecting, Requesting, Rebooting, Probing, Bound, Renewing, Rebinding };
std::string_view dhcp_state_text(DhcpState state); // for people

struct DhcpSend {
    DhcpMessage message;
    // Nothing: to everybody, from no address, before there is one. Otherwise from our address to this one.
    std::optional<Ip4> to;
};

struct DhcpActions {
    std::vector<DhcpSend> send;
    std::optional<Ip4> probe;     // ask by ARP whether somebody has this address; answers go to in_use()
    std::optional<DhcpLease> use; // set or prolong this address
    bool give_up_address = false;
    std::string problem;  // for the log; empty: none
    bool lasting = false; // it has cost us the address, and is of interest until there is one again
};

class DhcpClient {
public:
    // random: 32 bits at a time, for transaction ids and the spread of pauses.
    DhcpClient(Mac mac, std::string hostname, std::function<uint32_t()> random)
        : mac_(mac), hostname_(std::move(hostname)), random_(std::move(random)) {}

    // The link has come up. With a lease from before it asks whether that still holds (INIT-REBOOT).
    DhcpActions start(Clock::time_point now);
    // The link is gone; the lease is remembered for start().
    void stop() { enter(DhcpState::Stopped, Clock::time_point::max()); }
    DhcpActions receive(Clock::time_point now, const DhcpMessage& message);
    DhcpActions tick(Clock::time_point now); // at or after next()
    // Somebody else has the address that was probed for.
    DhcpActions in_use(Clock::time_point now, const Mac& by);
    // The end: the server may give our address to others.
    DhcpActions release(Clock::time_point now);
    // Since when there has been no address, nor a word from a server that would lead to one; nothing: there
    // is, or we do not ask.
    std::optional<Clock::time_point> waiting_since() const;
    Clock::time_point next() const { return next_; }
    DhcpState state() const { return state_; }
    const std::optional<DhcpLease>& lease() const { return lease_; }

private:
    void enter(DhcpState state, Clock::time_point next);
    void begin(Clock::time_point now, DhcpState state);
    DhcpActions ask_again(Clock::time_point now);
    DhcpActions discover(Clock::time_point now);
    DhcpActions renew(Clock::time_point now);
    DhcpActions lose(Clock::time_point now, std::string problem);
    DhcpActions take(Clock::time_point now, const DhcpMessage& ack);
    DhcpActions probe(Clock::time_point now);
    DhcpActions bind(Clock::time_point now);
    DhcpMessage message(Clock::time_point now, DhcpType type) const;
    Clock::duration back_off();

    Mac mac_;
    std::string hostname_;
    std::function<uint32_t()> random_;
    DhcpState state_ = DhcpState::Stopped;
    Clock::time_point next_ = Clock::time_point::max();
    Clock::time_point asked_since_{}, renew_at_{}, rebind_at_{};
    unsigned tries_ = 0;
    uint32_t transaction_ = 0;
    std::optional<DhcpMessage> offer_;
    std::optional<DhcpLease> lease_; // in use, or remembered
    std::optional<DhcpLease> new_;   // given, and not yet in use
    std::optional<Clock::time_point> unheard_since_;
};

} // namespace nullbox::egress
