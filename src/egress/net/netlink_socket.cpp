#include "egress/net/netlink_socket.h"

#include <cerrno>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"

namespace nullbox::egress {

constexpr size_t kDatagramBytes = size_t{64} << 10; // the kernel's dumps come in pieces of at most 32 KiB
constexpr int kBufferBytes = 1 << 20;               // a whole batch goes in one datagram
constexpr int kDumpTries = 4;
constexpr int kDatagramsPerRound = 64; // of events, before others on the loop have their turn

static Result<Fd> open_netlink(int protocol, int more_flags) {
    Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | more_flags, protocol));
    if (!fd) return errno_error("open a netlink socket");
    // What the kernel is too old for is done without; every use checks its own result.
    int on = 1;
    ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
    ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
    ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
    for (int option : {SO_SNDBUFFORCE, SO_RCVBUFFORCE})
        ::setsockopt(fd.get(), SOL_SOCKET, option, &kBufferBytes, sizeof kBufferBytes);
    for (int option : {SO_SNDBUF, SO_RCVBUF}) { // without CAP_NET_ADMIN where it counts: as much as we may
        int now = 0;
        socklen_t size = sizeof now;
        ::getsockopt(fd.get(), SOL_SOCKET, option, &now, &size);
        if (now < kBufferBytes)
            ::setsockopt(fd.get(), SOL_SOCKET, option, &kBufferBytes, sizeof kBufferBytes);
    }
    timeval limit{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
        return errno_error("bind a netlink socket");
    return fd;
}

// One datagram of the kernel's; an empty one if it came from somebody else.
static Result<std::vector<std::byte>> receive_datagram(int fd) {
    std::vector<std::byte> buffer(kDatagramBytes);
    sockaddr_nl from{};
    socklen_t size = sizeof from;
    ssize_t count =
        ::recvfrom(fd, buffer.data(), buffer.size(), MSG_TRUNC, reinterpret_cast<sockaddr*>(&from), &size);
    if (count < 0) return errno_error("receive from netlink");
    if (static_cast<size_t>(count) > buffer.size())
        return error(cat("netlink datagram of ", count, " bytes, more than ", kDatagramBytes));
    buffer.resize(from.nl_pid == 0 ? static_cast<size_t>(count) : 0);
    return buffer;
}

static Error refusal(std::string_view label, const NetlinkAck& ack) {
    auto refused = errno_error(ack.error, label);
    if (!ack.text.empty()) refused.message += cat(" (", ack.text, ")");
    return refused;
}

Result<NetlinkSocket> NetlinkSocket::open(int protocol) {
    return NetlinkSocket(TRY(open_netlink(protocol, 0)));
}

Result<> NetlinkSocket::send(std::span<const std::byte> bytes) {
    ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), 0);
    if (sent < 0) return errno_error("send to netlink");
    CHECK(static_cast<size_t>(sent) == bytes.size()); // datagrams go whole
    return {};
}

Result<> NetlinkSocket::receive_until(uint32_t first, uint32_t last, const Each& each) {
    for (;;) {
        auto datagram = TRY(receive_datagram(fd_.get()));
        for (const auto& view : TRY(split_datagram(datagram))) {
            // Older answers may be left from a request that failed half way.
            if (view.sequence - first > last - first) continue;
            if (TRY(each(view))) return {};
        }
    }
}

Result<std::vector<NetlinkReply>> NetlinkSocket::request(const NetlinkMessage& message) {
    uint32_t sequence = next_sequence_++;
    std::vector<std::byte> bytes;
    message.append_to(bytes, sequence, NLM_F_ACK);
    TRY(send(bytes).context(message.label));
    std::vector<NetlinkReply> replies;
    TRY(receive_until(sequence, sequence, [&](const NetlinkView& view) -> Result<bool> {
        if (view.type != NLMSG_ERROR) {
            replies.push_back({view.type, {view.payload.begin(), view.payload.end()}});
            return false;
        }
        auto ack = TRY(parse_ack(view));
        if (ack.error != 0) return refusal(message.label, ack);
        return true;
    }));
    return replies;
}

Result<std::vector<NetlinkReply>> NetlinkSocket::dump_once(const NetlinkMessage& message, bool& interrupted) {
    uint32_t sequence = next_sequence_++;
    std::vector<std::byte> bytes;
    message.append_to(bytes, sequence, NLM_F_DUMP);
    TRY(send(bytes).context(message.label));
    std::vector<NetlinkReply> replies;
    TRY(receive_until(sequence, sequence, [&](const NetlinkView& view) -> Result<bool> {
        interrupted |= (view.flags & NLM_F_DUMP_INTR) != 0;
        if (view.type == NLMSG_DONE) return true;
        if (view.type == NLMSG_ERROR) {
            auto ack = TRY(parse_ack(view));
            if (ack.error != 0) return refusal(message.label, ack);
            return true;
        }
        replies.push_back({view.type, {view.payload.begin(), view.payload.end()}});
        return false;
    }));
    return replies;
}

Result<std::vector<NetlinkReply>> NetlinkSocket::dump(const NetlinkMessage& message) {
    for (int i = 0; i < kDumpTries; i++) {
        bool interrupted = false;
        auto replies = TRY(dump_once(message, interrupted));
        if (!interrupted) return replies;
    }
    return error(cat(message.label, ": changed each of the ", kDumpTries, " times we looked"));
}

Result<> NetlinkSocket::batch(std::span<const NetlinkMessage> messages) {
    CHECK(!messages.empty());
    nfgenmsg about{.nfgen_family = AF_UNSPEC,
                   .version = NFNETLINK_V0,
                   .res_id = network_order(uint16_t{NFNL_SUBSYS_NFTABLES})};
    uint32_t first = next_sequence_;
    std::vector<std::byte> bytes;
    NetlinkMessage::make(NFNL_MSG_BATCH_BEGIN, 0, "begin", about).append_to(bytes, next_sequence_++);
    // The kernel always tells of a refused message; only the last one is asked to tell of its success, which
    // then is the success of all.
    for (const auto& message : messages)
        message.append_to(bytes, next_sequence_++, &message == &messages.back() ? NLM_F_ACK : 0);
    uint32_t last = next_sequence_ - 1;
    NetlinkMessage::make(NFNL_MSG_BATCH_END, 0, "end", about).append_to(bytes, next_sequence_++);
    TRY(send(bytes).context(messages.front().label));

    std::optional<Error> refused; // the first one: the others follow from it
    TRY(receive_until(first, last + 1, [&](const NetlinkView& view) -> Result<bool> {
        if (view.type != NLMSG_ERROR) return false;
        auto ack = TRY(parse_ack(view));
        bool of_message = ack.sequence > first && ack.sequence <= last;
        if (ack.error != 0 && !refused) {
            refused = of_message ? refusal(cat(messages[ack.sequence - first - 1].label, " (",
                                               ack.sequence - first, " of ", messages.size(), ")"),
                                           ack)
                                 : refusal("commit the batch", ack);
        }
        // A batch that is refused as a whole (no permission, no nf_tables) has one answer only, its begin's.
        return ack.sequence == last || (ack.error != 0 && !of_message);
    }));
    if (refused) return std::move(*refused);
    return {};
}

// --- events

Result<std::unique_ptr<NetlinkEvents>>
NetlinkEvents::open(Loop& loop, int protocol, const std::vector<unsigned>& groups, Handlers handlers) {
    Fd fd = TRY(open_netlink(protocol, SOCK_NONBLOCK));
    for (unsigned group : groups) {
        if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
            return errno_error(cat("join netlink group ", group));
    }
    std::unique_ptr<NetlinkEvents> events(new NetlinkEvents(std::move(fd), std::move(handlers)));
    events->watch_ =
        TRY(loop.watch(events->fd_.get(), EPOLLIN, [raw = events.get()](uint32_t) { raw->readable(); }));
    return events;
}

Result<> NetlinkEvents::send(const NetlinkMessage& message) {
    std::vector<std::byte> bytes;
    message.append_to(bytes, 1, NLM_F_ACK);
    if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return errno_error(message.label);
    return {};
}

void NetlinkEvents::readable() {
    for (int i = 0; i < kDatagramsPerRound; i++) {
        auto datagram = receive_datagram(fd_.get());
        if (!datagram) {
            if (datagram.error().code == EAGAIN || datagram.error().code == EINTR) return;
            if (datagram.error().code != ENOBUFS) log_warning(datagram.error().message);
            if (handlers_.lost) handlers_.lost();
            continue;
        }
        auto views = split_datagram(*datagram);
        if (!views) {
            log_warning(cat("netlink event: ", views.error().message));
            continue;
        }
        for (const auto& view : *views) handlers_.message(view);
    }
}

} // namespace nullbox::egress
