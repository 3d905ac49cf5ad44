// The DHCP client on one network card: DhcpClient with its sockets and its timer. It speaks over a packet
// socket until it has an address (CAP_NET_RAW) and over UDP from then on; between renewals it has no socket
// at all.
#pragma once

#include "egress/net/dhcp.h"

namespace nullbox::egress {

class DhcpLink {
public:
    struct Card {
        unsigned index = 0;
        std::string name;
        Mac mac;
    };
    struct Handlers {
        std::function<void(const DhcpLease&)> use; // a new lease, or the same for longer
        std::function<void()> give_up;             // the last lease's address
        std::function<void()> changed;             // state()
    };
    DhcpLink(Loop& loop, Card card, std::string hostname, Handlers handlers);

    void start();
    void stop();
    DhcpState state() const { return client_.state(); }
    const std::optional<DhcpLease>& lease() const { return client_.lease(); }
    const std::string& problem() const { return problem_; } // of the last step; empty: none

private:
    void carry_out(DhcpActions actions);
    Result<> send(const DhcpSend& send);
    Result<> open_packet_socket();
    Result<> open_udp_socket();
    Result<> take_socket(Fd fd, bool raw);
    void readable();
    void set_timer();

    Loop& loop_;
    Card card_;
    Handlers handlers_;
    DhcpClient client_;
    std::string problem_;
    Fd socket_;
    bool raw_ = false;           // socket_ is the packet socket
    Watch socket_watch_, timer_; // after what they watch: dropped first
};

} // namespace nullbox::egress
