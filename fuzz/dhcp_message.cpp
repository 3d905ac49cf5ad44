// What a DHCP server, or anybody on the LAN, sends: a packet, then the message in it; and answers to our ARP.
// Whatever is accepted must survive being written and read again, and must not confuse the client in any
// state.
#include "base/check.h"
#include "egress/net/arp_probe.h"
#include "egress/net/dhcp.h"

using namespace nullbox::egress;

static void feed_client(const DhcpMessage& message) {
    uint32_t id = message.transaction;
    DhcpClient client(message.mac, "box", [id] { return id; });
    auto now = nullbox::Clock::time_point(std::chrono::seconds(1000));
    (void)client.start(now);
    for (auto type : {DhcpType::Offer, DhcpType::Ack, DhcpType::Ack, DhcpType::Nak}) {
        auto again = message;
        again.reply = true;
        again.type = type;
        auto actions = client.receive(now, again);
        if (actions.use) CHECK(actions.use->address.length >= 8 && actions.use->expires > now);
        if (client.next() - now < std::chrono::hours(24)) now = std::max(now, client.next());
        auto due = client.tick(now);
        if (due.use) CHECK(due.use->address.length >= 8 && due.use->expires > now);
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto bytes = std::as_bytes(std::span(data, size));
    if (auto packet = unwrap_from_udp(bytes)) CHECK(packet->payload.size() < size);
    (void)arp_claimant(bytes, {{2, 0, 0, 0, 0, 9}}, Ip4{0xc0000232});
    auto message = parse_dhcp(bytes);
    if (!message) return 0;
    auto again = parse_dhcp(encode(*message));
    CHECK(again && *again == *message);
    feed_client(*message);
    return 0;
}
