// Network owns everything of the host's network: links, the address by DHCP or from the configuration, the
// firewall table and every agent's tap. The daemon has exactly one, on its base::Loop; no call blocks longer
// than the kernel takes to answer.
//
// Invariant: an agent's tap exists only while the firewall table is loaded and holds that tap's rules, and
// ip_forward is 0 (fail closed). A tap whose rules are gone is dropped from, because every chain's policy is
// drop. The box's own address does not depend on agents: without rules it still comes up, so that an operator
// can reach the reason.
//
// Needs CAP_NET_ADMIN, CAP_NET_RAW (DHCP before there is an address, router advertisements),
// CAP_NET_BIND_SERVICE (DHCP, DNS), /dev/net/tun read-write, /proc/sys/net readable.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "egress/net/tap_link.h"

namespace nullbox::egress {

struct NetworkConfig {
    uint16_t vlan = 0; // 1..4094: the uplink is this VLAN of the card (IEEE 802.1Q); 0: the card itself
    bool dhcp = true;
    // With dhcp = false.
    std::optional<Prefix4> address;
    std::optional<Ip4> gateway;
    bool router_advertisements = true; // unless there is an address6
    std::optional<Prefix6> address6;
    std::optional<Ip6> gateway6;
    std::vector<IpAddress> dns_servers; // if any, instead of what DHCP and router advertisements say
    std::string hostname;               // told to the DHCP server; may be empty
    uint16_t gate_port = 8443;          // TCP, open on the uplink
    uint16_t proxy_port = 15001;        // where open_proxy_listener() listens, on 127.0.0.1
    uint32_t egress_uid = 101;          // whose sockets may open connections to the outside
    std::string tun_path = "/dev/net/tun";
    std::string proc_path = "/proc";
    std::chrono::seconds dhcp_patience{15}; // then it is said that no server answers
    bool manage_uplink = true;              // false: leaves links that are no taps of ours alone (tests)
};

struct NetworkStatus {
    struct Uplink {
        std::string name; // empty: no network card yet; with a VLAN its link's: "vlan5"
        Mac mac;
        bool carrier = false;
        std::string state; // in words: "waiting for a network card", "asking for an address (DHCP)"
        bool operator==(const Uplink&) const = default;
    };
    Uplink uplink;
    unsigned uplink_index = 0;             // the link that link-local servers are on; 0: none
    std::vector<IpAddress> addresses;      // of the uplink, both families, link-local ones included; in use
    std::vector<OwnAddress> own_addresses; // of every link, loopback too: what the proxy must not dial
    std::optional<Ip4> gateway;
    std::optional<Ip6> gateway6;
    std::vector<IpAddress> dns_servers;  // configured, else by DHCP and router advertisements
    std::vector<IpAddress> time_servers; // by DHCP
    bool rules_loaded = false;
    std::vector<std::string> problems; // each says what, why, what to do
    bool operator==(const NetworkStatus&) const = default;
    bool online4() const;
    bool online6() const; // with an address that is more than link-local
    bool online() const { return online4() || online6(); }
};

// A packet from an agent that the rules dropped. At most ten a second and agent are told, all are counted.
struct DroppedPacket {
    unsigned slot = 0;
    uint8_t protocol = 0; // IP protocol number; guest-controlled, as all below
    IpAddress source, destination;
    uint16_t destination_port = 0; // TCP and UDP, else 0
    std::string text() const;      // "UDP 198.18.0.2 -> 8.8.8.8 port 53"
};

struct TapCounters { // since attach
    uint64_t dns_packets = 0, proxy_packets = 0, dropped_packets = 0;
    uint64_t dns_bytes = 0, proxy_bytes = 0, dropped_bytes = 0; // from the guest
};

struct NetworkEvents {
    std::function<void()> changed; // status() differs
    std::function<void(const DroppedPacket&)> dropped;
};

struct AttachedTap {
    TapLink link;
    Fd fd; // IFF_TAP|IFF_NO_PI|IFF_VNET_HDR, header of 12 bytes, nonblocking, no offload; the interface is up
};

class NetworkImpl;

class Network {
public:
    // Fails only when netlink itself cannot be had. What else is wrong (no card, rules refused, ip_forward
    // on) is in status().problems; rules are tried again at each attach(). No event before start() returns.
    static Result<std::unique_ptr<Network>> start(Loop& loop, NetworkConfig config, NetworkEvents events);
    ~Network(); // takes the taps away; address and rules stay, the next start() replaces them atomically

    const NetworkStatus& status() const;

    // Rules first, then the tap, then its address; any failure undoes all. An attached slot is replaced.
    // literals: the manifest's "192.0.2.7:443" entries; TCP to exactly these comes to the proxy as TCP to a
    // synthetic address does, with getsockname() the literal. At most kMaxLiterals.
    Result<AttachedTap> attach(unsigned slot, const std::vector<Endpoint4>& literals = {});
    // In place of those that attach() was given, in one step.
    Result<> set_literals(unsigned slot, const std::vector<Endpoint4>& literals);
    // For an orderly end of the box: gives the DHCP lease back (RFC 2131 section 4.4.6). Nothing comes after
    // it.
    void release();
    // A slot that is not attached is fine.
    Result<> detach(unsigned slot);
    Result<TapCounters> counters(unsigned slot) const;

private:
    explicit Network(std::unique_ptr<NetworkImpl> impl);
    std::unique_ptr<NetworkImpl> impl_;
};

} // namespace nullbox::egress
