// The DHCP client on one network card: DhcpClient with its sockets and its timer. It speaks over a packet
// socket until it has an address (CAP_NET_RAW) and over UDP from then on; between renewals it has no socket
// at all.
#pragma once

#include "egress/net/arp_probe.h"
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
    struct Options {
        std::string hostname;
        std::chrono::seconds patience{15}; // then it is said that nobody answers
    };
    DhcpLink(Loop& loop, Card card, Options options, Handlers handlers);

    void start();
    void stop();
    DhcpState state() const { return client_.state(); }
    const std::optional<DhcpLease>& lease() const { return client_.lease(); }
    // Gives the address back; nothing more is sent.
    void release();
    // What went wrong in the last step, what has cost the last address until there is one again, and whether
    // nobody answers; empty: none.
    std::string problem() const;

private:
    void carry_out(DhcpActions actions);
    Result<> probe(Ip4 address);
    Result<> send(const DhcpSend& send);
    Result<> open_packet_socket();
    Result<> open_udp_socket();
    Result<> take_socket(Fd fd, bool raw);
    void readable();
    void set_timer();

    Loop& loop_;
    Card card_;
    std::chrono::seconds patience_;
    Handlers handlers_;
    DhcpClient client_;
    std::string problem_, lost_;
    std::unique_ptr<ArpProbe> probe_;
    Fd socket_;
    bool raw_ = false; // socket_ is the packet socket
    // After what they watch: dropped first.
    Watch socket_watch_, timer_, no_answer_, conflict_;
};

} // namespace nullbox::egress
