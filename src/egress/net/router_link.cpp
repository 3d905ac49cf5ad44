#include "egress/net/router_link.h"

#include <algorithm>
#include <cerrno>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/text.h"

namespace nullbox::egress {

constexpr int kMessagesPerRound = 16;
constexpr std::chrono::seconds kUsePause{1};
constexpr std::array<uint8_t, 16> kAllRouters{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};

static uint32_t random_number() {
    uint32_t value = 0;
    (void)!::getrandom(&value, sizeof value, 0); // four bytes are never cut
    return value;
}

RouterLink::RouterLink(Loop& loop, Card card, Handlers handlers)
    : loop_(loop), card_(std::move(card)), handlers_(std::move(handlers)),
      discovery_(card_.mac, random_number) {}

void RouterLink::start() {
    if (auto opened = open(); !opened) {
        // A kernel without IPv6 has no routers to listen to.
        if (opened.error().code != EAFNOSUPPORT) {
            problem_ = cat("IPv6 on ", card_.name, ": ", opened.error().message);
            log_warning(problem_);
        }
        return;
    }
    carry_out(discovery_.start(Clock::now()));
}

void RouterLink::stop() {
    discovery_.stop();
    set_timer(); // what was learnt still ends in its time
}

void RouterLink::in_use(const Ip6& address) { carry_out(discovery_.in_use(Clock::now(), address)); }

void RouterLink::carry_out(RouterActions actions) {
    if (actions.problem != problem_ && !actions.problem.empty()) log_warning(actions.problem);
    problem_ = actions.problem;
    if (actions.solicit) {
        auto sent = solicit();
        // The link-local address is being checked still, or the kernel has not noticed the cable.
        if (!sent && (sent.error().code == EADDRNOTAVAIL || sent.error().code == ENETUNREACH)) {
            discovery_.not_sent(Clock::now());
        } else if (!sent) {
            problem_ = cat("IPv6 on ", card_.name, ": ", sent.error().message);
            log_warning(problem_);
        }
    }
    if (actions.changed) use_soon();
    set_timer();
}

void RouterLink::use_soon() {
    if (use_timer_) return;
    auto due = std::max(Clock::now(), used_ + kUsePause);
    use_timer_ = loop_.at(due, [this] {
        use_timer_.drop();
        used_ = Clock::now();
        handlers_.use(discovery_.setup());
    });
}

void RouterLink::set_timer() {
    timer_.drop();
    if (discovery_.next() == Clock::time_point::max()) return;
    timer_ = loop_.at(discovery_.next(), [this] { carry_out(discovery_.tick(Clock::now())); });
}

// --- the socket

template <typename T>
static Result<> set(int fd, int level, int option, const T& value, std::string_view what) {
    if (::setsockopt(fd, level, option, &value, sizeof value) < 0) return errno_error(what);
    return {};
}

Result<> RouterLink::open() {
    if (socket_) return {};
    Fd fd(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6));
    if (!fd) return errno_error("open an ICMPv6 socket (needs CAP_NET_RAW)");
    icmp6_filter only_adverts{};
    ICMP6_FILTER_SETBLOCKALL(&only_adverts);
    ICMP6_FILTER_SETPASS(ND_ROUTER_ADVERT, &only_adverts);
    TRY(set(fd.get(), IPPROTO_ICMPV6, ICMP6_FILTER, only_adverts, "listen to router advertisements only"));
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, card_.name.c_str(),
                     static_cast<socklen_t>(card_.name.size())) < 0)
        return errno_error(cat("bind a socket to ", card_.name));
    int hops = kAdvertHopLimit, on = 1, index = static_cast<int>(card_.index);
    TRY(set(fd.get(), IPPROTO_IPV6, IPV6_RECVHOPLIMIT, on, "learn hop limits"));
    TRY(set(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hops, "set the hop limit"));
    TRY(set(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_IF, index, "send to the card's link"));
    socket_watch_ = TRY(loop_.watch(fd.get(), EPOLLIN, [this](uint32_t) { readable(); }));
    socket_ = std::move(fd);
    return {};
}

Result<> RouterLink::solicit() {
    auto bytes = encode_router_solicit(card_.mac);
    sockaddr_in6 to{};
    to.sin6_family = AF_INET6;
    to.sin6_scope_id = card_.index;
    std::ranges::copy(kAllRouters, to.sin6_addr.s6_addr);
    if (::sendto(socket_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to) <
        0)
        return errno_error("ask for routers");
    return {};
}

static int hop_limit_of(msghdr& message) {
    for (auto* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != IPPROTO_IPV6 || part->cmsg_type != IPV6_HOPLIMIT) continue;
        int value = 0;
        std::memcpy(&value, CMSG_DATA(part), sizeof value);
        return value;
    }
    return -1;
}

void RouterLink::readable() {
    std::array<std::byte, kMaxAdvertBytes> buffer;
    for (int i = 0; i < kMessagesPerRound; i++) {
        sockaddr_in6 from{};
        iovec piece{.iov_base = buffer.data(), .iov_len = buffer.size()};
        alignas(cmsghdr) std::array<std::byte, 128> control;
        msghdr message{};
        message.msg_name = &from;
        message.msg_namelen = sizeof from;
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        ssize_t count = ::recvmsg(socket_.get(), &message, 0);
        if (count < 0) return; // nothing more, or an error that the next message meets again
        if (message.msg_flags & MSG_TRUNC) continue; // larger than any advertisement we take
        Ip6 source;
        std::ranges::copy(from.sin6_addr.s6_addr, source.bytes.begin());
        auto advert = parse_router_advert({.source = source,
                                           .hop_limit = hop_limit_of(message),
                                           .bytes = std::span(buffer).first(static_cast<size_t>(count))});
        if (advert) carry_out(discovery_.receive(Clock::now(), source, *advert));
    }
}

} // namespace nullbox::egress
