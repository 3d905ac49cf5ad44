// Sockets to the kernel's network: requests with their answers (one at a time, in order), all-or-nothing
// batches for nf_tables, and events on the loop. The kernel answers within the system call, so a request
// never waits; a time limit stands behind it all the same. Datagrams that are not the kernel's are ignored.
#pragma once

#include <functional>

#include "base/loop.h"
#include "egress/net/netlink.h"

namespace nullbox::egress {

struct NetlinkReply {
    uint16_t type = 0;
    std::vector<std::byte> payload;
    NetlinkView view() const { return {.type = type, .payload = payload}; }
};

class NetlinkSocket {
public:
    static Result<NetlinkSocket> open(int protocol); // NETLINK_ROUTE, NETLINK_NETFILTER
    NetlinkSocket(NetlinkSocket&&) = default;
    NetlinkSocket& operator=(NetlinkSocket&&) = default;

    // Until the acknowledgement; what came before it. The error carries the label, errno and the kernel's
    // text.
    Result<std::vector<NetlinkReply>> request(const NetlinkMessage& message);
    // All objects of a kind; asked again if the kernel says that they changed meanwhile.
    Result<std::vector<NetlinkReply>> dump(const NetlinkMessage& message);
    // nf_tables: all of them or none (NFNL_MSG_BATCH_BEGIN to _END). The error names the message that was
    // refused, and the place it has among the others.
    Result<> batch(std::span<const NetlinkMessage> messages);

private:
    explicit NetlinkSocket(Fd fd) : fd_(std::move(fd)) {}
    Result<> send(std::span<const std::byte> bytes);
    // Calls for every message of the sequence range until it returns true.
    using Each = std::function<Result<bool>(const NetlinkView&)>;
    Result<> receive_until(uint32_t first, uint32_t last, const Each& each);
    Result<std::vector<NetlinkReply>> dump_once(const NetlinkMessage& message, bool& interrupted);

    Fd fd_;
    uint32_t next_sequence_ = 1;
};

// What the kernel tells by itself.
class NetlinkEvents {
public:
    // groups: RTNLGRP_* numbers. lost: the kernel had more to tell than it could keep: look at everything
    // anew.
    struct Handlers {
        std::function<void(const NetlinkView&)> message;
        std::function<void()> lost;
    };
    static Result<std::unique_ptr<NetlinkEvents>>
    open(Loop& loop, int protocol, const std::vector<unsigned>& groups, Handlers handlers);
    // For protocols whose subscription is a message (nfnetlink_log): sent as it is, its answer is an event.
    Result<> send(const NetlinkMessage& message);

private:
    NetlinkEvents(Fd fd, Handlers handlers) : fd_(std::move(fd)), handlers_(std::move(handlers)) {}
    void readable();
    Fd fd_;
    Handlers handlers_;
    Watch watch_; // after what it watches: dropped first
};

} // namespace nullbox::egress
