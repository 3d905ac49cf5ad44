#include "egress/net/arp_probe.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/text.h"

namespace nullbox::egress {

// Offsets of RFC 826 for IPv4 on Ethernet; numbers in network order.
constexpr size_t kArpBytes = 28, kOperation = 6, kSenderMac = 8, kSenderIp = 14, kTargetIp = 24;
constexpr std::array kHead{std::byte{0}, std::byte{1}, std::byte{8},
                           std::byte{0}, std::byte{6}, std::byte{4}};
constexpr uint32_t kRequest = 1, kReply = 2;
constexpr int kPacketsPerRound = 16;

static uint32_t read_number(std::span<const std::byte> bytes) {
    uint32_t value = 0;
    for (std::byte byte : bytes) value = value << 8 | std::to_integer<uint32_t>(byte);
    return value;
}

std::vector<std::byte> encode_arp_probe(const Mac& ours, Ip4 address) {
    std::vector<std::byte> out(kArpBytes);
    std::ranges::copy(kHead, out.begin());
    out[kOperation + 1] = std::byte{kRequest};
    std::ranges::copy(std::as_bytes(std::span(ours.bytes)), out.begin() + kSenderMac);
    for (size_t i = 0; i < 4; i++) out[kTargetIp + i] = static_cast<std::byte>(address.value >> (24 - 8 * i));
    return out;
}

std::optional<Mac> arp_claimant(std::span<const std::byte> packet, const Mac& ours, Ip4 address) {
    if (packet.size() < kArpBytes || !std::ranges::equal(packet.first(kHead.size()), kHead))
        return std::nullopt;
    auto operation = read_number(packet.subspan(kOperation, 2));
    if (operation != kRequest && operation != kReply) return std::nullopt;
    Mac sender;
    std::ranges::copy(packet.subspan(kSenderMac, sender.bytes.size()),
                      std::as_writable_bytes(std::span(sender.bytes)).begin());
    if (sender == ours) return std::nullopt;
    Ip4 from{read_number(packet.subspan(kSenderIp, 4))}, about{read_number(packet.subspan(kTargetIp, 4))};
    bool other_probe = operation == kRequest && from.value == 0 && about == address;
    return from == address || other_probe ? std::optional(sender) : std::nullopt;
}

static sockaddr_ll everybody(unsigned link) {
    sockaddr_ll name{};
    name.sll_family = AF_PACKET;
    name.sll_protocol = htons(ETH_P_ARP);
    name.sll_ifindex = static_cast<int>(link);
    name.sll_halen = ETH_ALEN;
    std::fill_n(name.sll_addr, ETH_ALEN, uint8_t{0xff});
    return name;
}

Result<std::unique_ptr<ArpProbe>> ArpProbe::open(Loop& loop, unsigned link, const Mac& ours, Ip4 address,
                                                 Claimed claimed) {
    std::unique_ptr<ArpProbe> probe(new ArpProbe(link, ours, address, std::move(claimed)));
    probe->socket_ = Fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe->socket_) return errno_error("open a packet socket for ARP (needs CAP_NET_RAW)");
    auto name = everybody(link);
    if (::bind(probe->socket_.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) < 0)
        return errno_error("bind the packet socket for ARP");
    probe->watch_ =
        TRY(loop.watch(probe->socket_.get(), EPOLLIN, [raw = probe.get()](uint32_t) { raw->readable(); }));
    return probe;
}

Result<> ArpProbe::send() {
    auto packet = encode_arp_probe(ours_, address_);
    auto name = everybody(link_);
    if (::sendto(socket_.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&name),
                 sizeof name) < 0)
        return errno_error(cat("ask by ARP for ", address_.text()));
    return {};
}

void ArpProbe::readable() {
    std::array<std::byte, 128> buffer;
    for (int i = 0; i < kPacketsPerRound; i++) {
        ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
        if (count < 0) return;
        auto by = arp_claimant(std::span(buffer).first(static_cast<size_t>(count)), ours_, address_);
        if (by) claimed_(*by);
    }
}

} // namespace nullbox::egress
