#include "egress/net/dhcp_link.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/text.h"

namespace nullbox::egress {

using namespace std::chrono_literals;

constexpr int kMessagesPerRound = 16;
constexpr size_t kLargestPacket = 1500;

static uint32_t random_number() {
    uint32_t value = 0;
    // Blocks at most until the kernel's pool is ready; four bytes are never cut.
    (void)!::getrandom(&value, sizeof value, 0);
    return value;
}

DhcpLink::DhcpLink(Loop& loop, Card card, Options options, Handlers handlers)
    : loop_(loop), card_(std::move(card)), patience_(options.patience), handlers_(std::move(handlers)),
      client_(card_.mac, std::move(options.hostname), random_number) {}

void DhcpLink::start() { carry_out(client_.start(Clock::now())); }

void DhcpLink::stop() {
    client_.stop();
    carry_out({});
}

void DhcpLink::release() { carry_out(client_.release(Clock::now())); }

void DhcpLink::carry_out(DhcpActions actions) {
    if (!actions.problem.empty()) log_warning(actions.problem);
    problem_ = actions.problem;
    if (actions.lasting) lost_ = std::exchange(problem_, {});
    if (actions.give_up_address) handlers_.give_up();
    if (actions.use) {
        lost_.clear();
        handlers_.use(*actions.use);
    }
    auto note = [&](const Result<>& done) {
        if (done) return; // not fatal: the client asks again by itself
        problem_ = cat("DHCP on ", card_.name, ": ", done.error().message);
        log_warning(problem_);
    };
    if (actions.probe) note(probe(*actions.probe));
    for (const auto& message : actions.send) note(send(message));
    if (client_.state() != DhcpState::Probing) {
        probe_.reset();
        conflict_.drop();
    }
    if (client_.state() == DhcpState::Bound || client_.state() == DhcpState::Stopped) {
        socket_watch_.drop();
        socket_.reset();
    }
    set_timer();
    handlers_.changed();
}

Result<> DhcpLink::probe(Ip4 address) {
    if (!probe_)
        probe_ = TRY(ArpProbe::open(loop_, card_.index, card_.mac, address, [this](const Mac& by) {
            // Not within its own call: this ends it.
            conflict_ = loop_.after({}, [this, by] { carry_out(client_.in_use(Clock::now(), by)); });
        }));
    return probe_->send();
}

std::string DhcpLink::problem() const {
    std::string out = problem_;
    auto add = [&](std::string_view text) { out += cat(out.empty() ? "" : "; ", text); };
    if (!lost_.empty()) add(lost_);
    auto since = client_.waiting_since();
    auto waited = since ? Clock::now() - *since : Clock::duration{};
    if (waited < patience_) return out;
    // In steps, so that who shows this shows it seldom.
    auto shown = patience_;
    for (std::chrono::seconds step : {1min, 5min, 15min, 60min, 360min, 1440min})
        if (step > shown && waited >= step) shown = step;
    add(cat("no answer to DHCP on ", card_.name, " for ", shown.count(),
            " s: is its cable in the right network, and is a DHCP server there? Without one set "
            "network.address and network.gateway, or network.dhcp = false"));
    return out;
}

void DhcpLink::set_timer() {
    timer_.drop();
    auto since = client_.waiting_since();
    if (!since)
        no_answer_.drop();
    else if (auto due = *since + patience_; due > Clock::now())
        no_answer_ = loop_.at(due, [this] { handlers_.changed(); });
    if (client_.next() == Clock::time_point::max()) return;
    timer_ = loop_.at(client_.next(), [this] { carry_out(client_.tick(Clock::now())); });
}

// --- sockets

// UDP to the client port, not a fragment: all else would wake us for nothing.
static Result<> filter(int fd) {
    constexpr uint32_t kProtocol = 9, kFlags = 6, kDestinationPort = 2;
    std::array<sock_filter, 9> program{{
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kProtocol),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 6),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kFlags),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 4, 0),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, kDestinationPort),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kDhcpClientPort, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, kLargestPacket),
        BPF_STMT(BPF_RET | BPF_K, 0),
    }};
    sock_fprog described{.len = program.size(), .filter = program.data()};
    if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &described, sizeof described) < 0)
        return errno_error("set the packet filter");
    return {};
}

Result<> DhcpLink::take_socket(Fd fd, bool raw) {
    auto watch = TRY(loop_.watch(fd.get(), EPOLLIN, [this](uint32_t) { readable(); }));
    socket_watch_ = std::move(watch); // the old one goes before its descriptor does
    socket_ = std::move(fd);
    raw_ = raw;
    return {};
}

static sockaddr_ll everybody(unsigned link) {
    sockaddr_ll name{};
    name.sll_family = AF_PACKET;
    name.sll_protocol = htons(ETH_P_IP);
    name.sll_ifindex = static_cast<int>(link);
    name.sll_halen = ETH_ALEN;
    for (size_t i = 0; i < ETH_ALEN; i++) name.sll_addr[i] = 0xff;
    return name;
}

Result<> DhcpLink::open_packet_socket() {
    if (socket_ && raw_) return {};
    // No protocol yet: nothing arrives before the filter is there.
    Fd fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return errno_error("open a packet socket (needs CAP_NET_RAW)");
    TRY(filter(fd.get()));
    auto name = everybody(card_.index);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) < 0)
        return errno_error("bind the packet socket");
    return take_socket(std::move(fd), true);
}

static sockaddr_in internet_name(Ip4 address, uint16_t port) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(address.value);
    return name;
}

Result<> DhcpLink::open_udp_socket() {
    if (socket_ && !raw_) return {};
    Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return errno_error("open a UDP socket");
    int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, card_.name.c_str(),
                     static_cast<socklen_t>(card_.name.size())) < 0)
        return errno_error(cat("bind a socket to ", card_.name));
    // To no address: a refusal comes to everybody (RFC 2131 section 4.1). Ours is the card's only one, so
    // that packets leave with it.
    auto name = internet_name(Ip4{0}, kDhcpClientPort);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) < 0)
        return errno_error(cat("bind to UDP port ", kDhcpClientPort));
    return take_socket(std::move(fd), false);
}

Result<> DhcpLink::send(const DhcpSend& send) {
    auto bytes = encode(send.message);
    ssize_t sent = 0;
    if (send.to) {
        TRY(open_udp_socket());
        auto name = internet_name(*send.to, kDhcpServerPort);
        sent = ::sendto(socket_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&name),
                        sizeof name);
    } else {
        TRY(open_packet_socket());
        auto packet = wrap_in_udp(Ip4{0}, Ip4{UINT32_MAX}, bytes);
        auto name = everybody(card_.index);
        sent = ::sendto(socket_.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&name),
                        sizeof name);
    }
    if (sent < 0) return errno_error("send");
    return {};
}

void DhcpLink::readable() {
    std::array<std::byte, kLargestPacket> buffer;
    for (int i = 0; i < kMessagesPerRound && socket_; i++) {
        ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
        if (count < 0) return; // nothing more, or an error that the next send meets again
        std::span<const std::byte> bytes(buffer.data(), static_cast<size_t>(count));
        if (raw_) {
            auto packet = unwrap_from_udp(bytes);
            if (!packet) continue;
            bytes = packet->payload;
        }
        if (auto message = parse_dhcp(bytes)) carry_out(client_.receive(Clock::now(), *message));
    }
}

} // namespace nullbox::egress
