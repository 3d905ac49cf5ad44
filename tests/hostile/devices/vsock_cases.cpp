// virtio-vsock: packets that no driver sends (virtio 1.2, section 5.10).
#include <algorithm>

#include "base/bytes.h"
#include "guest.h"

namespace nullbox::hostile {

namespace {
using Op = VsockOperation;
constexpr uint32_t kPort = 700;

struct VsockCase {
    Guest guest{Kind::Vsock};
    VsockCase() {
        guest.start();
        guest.offer_receive_buffers(8);
    }
    // What the device answers to this packet: operations.
    std::vector<uint16_t> answers(const VsockHeader& header, uint32_t payload = 0) {
        (void)packets();
        guest.send_packet(header, payload);
        std::vector<uint16_t> seen;
        for (const auto& packet : packets()) seen.push_back(packet.operation);
        return seen;
    }
    std::vector<VsockHeader> packets() {
        auto packets = guest.received_packets();
        if (!packets.empty()) guest.offer_receive_buffers(static_cast<uint16_t>(packets.size()));
        return packets;
    }
    void answers_only(Op wanted, const VsockHeader& header, std::string_view what, uint32_t payload = 0) {
        auto seen = answers(header, payload);
        expect(seen == std::vector<uint16_t>{static_cast<uint16_t>(wanted)},
               cat(what, ": ", seen.size(), " answers, the first ", seen.empty() ? 0 : seen[0]));
    }
    void silent(const VsockHeader& header, std::string_view what) {
        expect(answers(header).empty(), cat(what, ": there is an answer"));
    }
    VsockHeader data(uint32_t length, uint32_t port = kPort) const {
        auto header = guest.packet(Op::Data, port);
        header.length = length;
        return header;
    }
    void open(uint32_t port = kPort) {
        answers_only(Op::Response, guest.packet(Op::Request, port), "connect");
    }
};

void other_source() {
    VsockCase vsock;
    for (uint64_t cid : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{4},
                         Guest::kGuestCid | uint64_t{1} << 32, UINT64_MAX})
        for (uint16_t operation = 0; operation < 9; ++operation) {
            auto header = vsock.guest.packet(static_cast<Op>(operation));
            header.source_cid = cid;
            vsock.silent(header, cat("from CID ", cid));
        }
    equal(vsock.guest.ports.size(), 0, "streams to the host");
    vsock.guest.works();
}
void other_destination() {
    VsockCase vsock;
    for (uint64_t cid : {uint64_t{0}, uint64_t{1}, Guest::kGuestCid, uint64_t{4},
                         kHostCid | uint64_t{1} << 32, UINT64_MAX}) {
        auto header = vsock.guest.packet(Op::Request);
        header.destination_cid = cid;
        vsock.answers_only(Op::Reset, header, cat("to CID ", cid));
    }
    equal(vsock.guest.ports.size(), 0, "streams to the host");
    vsock.guest.works();
}
void other_types() {
    VsockCase vsock;
    for (uint16_t type : std::initializer_list<uint16_t>{0, 2, 3, 0x100, 0xffff}) {
        auto header = vsock.guest.packet(Op::Request);
        header.type = type;
        vsock.answers_only(Op::Reset, header, cat("type ", type));
        header.operation = static_cast<uint16_t>(Op::Reset);
        vsock.silent(header, "a reset of that type");
    }
    equal(vsock.guest.ports.size(), 0, "streams to the host");
    vsock.guest.works();
}
void unknown_operations() {
    VsockCase vsock;
    for (uint16_t operation : std::initializer_list<uint16_t>{0, 8, 9, 0x101, 0x7fff, 0xffff}) {
        vsock.answers_only(Op::Reset, vsock.guest.packet(static_cast<Op>(operation)), "on no stream");
        vsock.open();
        vsock.answers_only(Op::Reset, vsock.guest.packet(static_cast<Op>(operation)), "on a stream");
        equal(vsock.guest.vsock->streams(), 0, "streams after that");
    }
    vsock.guest.works();
}
void length_beyond() {
    for (uint32_t length : {1u, 101u, 65536u, UINT32_MAX}) {
        VsockCase vsock;
        vsock.open();
        vsock.guest.send_packet(vsock.data(length), length == 101 ? 100 : 0);
        vsock.guest.faults("vsock: packet shorter than its header says");
        vsock.guest.works_after_reset();
    }
}
void short_packet() {
    for (uint32_t bytes : {0u, 1u, 43u}) {
        VsockCase vsock;
        vsock.guest.ring(1).add({{Guest::kData, bytes}});
        vsock.guest.kick(1);
        vsock.guest.faults("vsock: packet shorter than its header says");
        vsock.guest.works_after_reset();
    }
}
void before_connect() {
    VsockCase vsock;
    for (auto operation : {Op::Data, Op::Response, Op::Shutdown, Op::CreditUpdate, Op::CreditRequest})
        vsock.answers_only(Op::Reset, vsock.guest.packet(operation), "before a connect");
    vsock.answers_only(Op::Reset, vsock.data(100), "data before a connect", 100);
    vsock.silent(vsock.guest.packet(Op::Reset), "a reset of nothing");
    equal(vsock.guest.vsock->streams(), 0, "streams");
    vsock.guest.works();
}
void connect_twice() {
    VsockCase vsock;
    vsock.open();
    vsock.answers_only(Op::Reset, vsock.guest.packet(Op::Request), "a second request");
    vsock.open();
    vsock.answers_only(Op::Reset, vsock.guest.packet(Op::Response), "a response that was not asked for");
    equal(vsock.guest.vsock->streams(), 0, "streams");
    vsock.guest.works();
}
void refused_ports() {
    VsockCase vsock;
    vsock.guest.accepts = false;
    for (uint32_t port : {0u, 1u, 22u, 1023u, 1025u, 0x7fff'ffffu, 1u << 30, UINT32_MAX})
        vsock.answers_only(Op::Reset, vsock.guest.packet(Op::Request, kPort, port), cat("port ", port));
    for (uint32_t i = 0; i < 3000; ++i) (void)vsock.answers(vsock.guest.packet(Op::Request, i, 9));
    equal(vsock.guest.vsock->streams(), 0, "streams");
    equal(vsock.guest.peers.size(), 0, "descriptors");
    vsock.guest.works();
}
void too_many_streams() {
    VsockCase vsock;
    size_t accepted = 0, refused = 0;
    for (uint32_t i = 0; i < 300; ++i) {
        auto seen = vsock.answers(vsock.guest.packet(Op::Request, 10'000 + i));
        equal(seen.size(), 1, "answers");
        ++(seen[0] == static_cast<uint16_t>(Op::Response) ? accepted : refused);
    }
    equal(accepted, VsockDevice::kMostStreams, "streams that were accepted");
    equal(vsock.guest.vsock->streams(), VsockDevice::kMostStreams, "streams");
    for (uint32_t i = 0; i < 300; ++i) (void)vsock.answers(vsock.guest.packet(Op::Reset, 10'000 + i));
    equal(vsock.guest.vsock->streams(), 0, "streams after they were reset");
    vsock.guest.works();
}
void over_credit() {
    VsockCase vsock;
    vsock.open();
    // The host does not read: its socket fills, then the device's own 64 KiB, then it is enough.
    std::vector<uint16_t> seen;
    int packets = 0;
    for (; packets < 200; ++packets) {
        seen = vsock.answers(vsock.data(60'000), 60'000);
        if (std::ranges::contains(seen, static_cast<uint16_t>(Op::Reset))) break;
    }
    expect(packets < 100, "a guest may send without end");
    equal(vsock.guest.vsock->streams(), 0, "streams");
    vsock.guest.works();
}
void one_packet_over_credit() {
    VsockCase vsock;
    vsock.open();
    auto seen = vsock.answers(vsock.data(VsockDevice::kStreamBuffer + 1), VsockDevice::kStreamBuffer + 1);
    expect(std::ranges::contains(seen, static_cast<uint16_t>(Op::Reset)),
           "a packet of more than all credit is taken");
    vsock.guest.works();
}
// The guest says that it has read what was never sent, or has no room: it gets nothing, and nothing wraps.
void credit_lies() {
    VsockCase vsock;
    for (uint32_t buffer : {0u, 1u, 100u, UINT32_MAX})
        for (uint32_t forwarded : {0u, 1u, 0x7fff'ffffu, 0x8000'0000u, UINT32_MAX}) {
            auto request = vsock.guest.packet(Op::Request);
            request.buffer_bytes = buffer, request.forwarded = forwarded;
            vsock.answers_only(Op::Response, request, "connect");
            std::string text(5000, 't');
            (void)!::send(vsock.guest.peers.back().get(), text.data(), text.size(),
                          MSG_DONTWAIT | MSG_NOSIGNAL);
            vsock.guest.serve();
            uint32_t room = 0 - forwarded >= buffer ? 0 : buffer - (0 - forwarded);
            uint64_t sent = 0;
            for (int round = 0; round < 4; ++round) {
                auto update = vsock.guest.packet(Op::CreditUpdate);
                update.buffer_bytes = buffer, update.forwarded = forwarded;
                for (uint16_t operation : vsock.answers(update)) expect(operation != 0, "an operation of 0");
                for (const auto& packet : vsock.packets()) sent += packet.length;
            }
            expect(sent <= room, cat(sent, " bytes for a credit of ", room));
            (void)vsock.answers(vsock.guest.packet(Op::Reset));
        }
    equal(vsock.guest.vsock->streams(), 0, "streams");
    vsock.guest.works();
}
void shrinking_credit() {
    VsockCase vsock;
    vsock.open();
    std::string text(50'000, 't');
    (void)!::send(vsock.guest.peers.back().get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    vsock.guest.serve();
    for (uint32_t buffer : {100u, 1u, 0u, 50u, UINT32_MAX, 0u}) {
        auto update = vsock.guest.packet(Op::CreditUpdate);
        update.buffer_bytes = buffer;
        (void)vsock.answers(update);
    }
    vsock.guest.has_not_faulted();
    vsock.guest.works();
}
void nothing_fetched() {
    Guest guest(Kind::Vsock);
    guest.start();
    // 5000 packets that each want a reset, and no buffer for any of them.
    for (uint32_t i = 0; i < 5000; ++i) {
        if (static_cast<uint16_t>(guest.ring(1).index() - guest.ring(1).used_index()) == Guest::kQueueLength)
            break;
        guest.send_packet(guest.packet(Op::Data, i));
    }
    expect(guest.ring(1).used_index() < 200, "the device goes on reading what it cannot answer");
    guest.has_not_faulted();
    for (int round = 0; round < 40; ++round) guest.offer_receive_buffers(8), (void)guest.received_packets();
    guest.works();
}
void resets_in_a_storm() {
    VsockCase vsock;
    for (uint32_t i = 0; i < 2000; ++i) {
        vsock.open(i);
        vsock.silent(vsock.guest.packet(Op::Reset, i), "a reset");
        vsock.silent(vsock.guest.packet(Op::Reset, i), "a reset again");
        if (i % 64 == 0) vsock.guest.peers.clear();
    }
    equal(vsock.guest.vsock->streams(), 0, "streams");
    vsock.guest.works();
}
void after_shutdown() {
    VsockCase vsock;
    for (uint32_t flags : {2u, 0xffff'fffeu}) { // it will send no more
        vsock.open();
        auto shutdown = vsock.guest.packet(Op::Shutdown);
        shutdown.flags = flags;
        (void)vsock.answers(shutdown);
        auto seen = vsock.answers(vsock.data(10), 10);
        expect(std::ranges::contains(seen, static_cast<uint16_t>(Op::Reset)), "data after the end");
    }
    vsock.open();
    auto shutdown = vsock.guest.packet(Op::Shutdown);
    for (uint32_t flags : {0u, 4u, 1u, 1u, 2u, 3u, UINT32_MAX}) {
        shutdown.flags = flags;
        (void)vsock.answers(shutdown);
    }
    equal(vsock.guest.vsock->streams(), 0, "streams after both ends");
    vsock.guest.works();
}
// One stream whose data nobody takes, in the guest or on the host, and another that goes on.
void stream_that_never_reads() {
    VsockCase vsock;
    auto stingy = vsock.guest.packet(Op::Request, 1);
    stingy.buffer_bytes = 0;
    vsock.answers_only(Op::Response, stingy, "connect");
    std::string text(200'000, 't');
    for (int i = 0; i < 10; ++i)
        (void)!::send(vsock.guest.peers.back().get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    for (int i = 0; i < 20; ++i) (void)vsock.answers(vsock.data(1000, 1), 1000);
    vsock.open(2);
    (void)!::send(vsock.guest.peers.back().get(), "hello", 5, MSG_DONTWAIT);
    vsock.guest.serve();
    uint64_t came = 0;
    for (const auto& packet : vsock.packets())
        if (packet.destination_port == 2) came += packet.length;
    equal(came, 5, "bytes on the other stream");
    vsock.guest.works();
}
void small_receive_buffers() {
    for (uint32_t bytes : {0u, 1u, 43u, 44u}) {
        Guest guest(Kind::Vsock);
        guest.start();
        guest.ring(0).add({{Guest::kAnswer, bytes, true}});
        guest.send_packet(guest.packet(Op::Request));
        guest.faults("vsock: receive buffer with no room for a packet");
        guest.works_after_reset();
    }
    Guest guest(Kind::Vsock);
    guest.start();
    guest.ring(0).add({{Guest::kAnswer, 100}}); // not to be written
    guest.send_packet(guest.packet(Op::Request));
    guest.faults("vsock: receive buffer with no room for a packet");
    guest.works_after_reset();
}
void events_queue() {
    VsockCase vsock;
    for (int round = 0; round < 100; ++round) {
        vsock.guest.ring(2).offer(static_cast<uint16_t>(round * 999));
        vsock.guest.ring(2).set_index(static_cast<uint16_t>(round * 7777));
        vsock.guest.kick(2);
        vsock.guest.serve();
    }
    vsock.guest.works();
}
void credit_requests() {
    VsockCase vsock;
    vsock.open();
    for (int i = 0; i < 3000; ++i)
        (void)vsock.answers(vsock.guest.packet(i % 2 ? Op::CreditRequest : Op::CreditUpdate));
    vsock.answers_only(Op::CreditUpdate, vsock.guest.packet(Op::CreditRequest), "credit");
    vsock.guest.works();
}
void port_of_the_host() {
    VsockCase vsock;
    vsock.guest.speak(); // the host asks for port 99 of the guest, from its own port 1 << 30
    (void)vsock.packets();
    auto own = [&](Op operation) { return vsock.guest.packet(operation, 99, 1u << 30); };
    vsock.answers_only(Op::Reset, own(Op::Request), "a request for the host's own stream");
    equal(vsock.guest.vsock->streams(), 0, "streams");
    vsock.guest.speak();
    (void)vsock.packets();
    auto late = vsock.guest.packet(Op::Data, 99, (1u << 30) + 1);
    late.length = 10;
    vsock.answers_only(Op::Reset, late, "data before the response", 10);
    vsock.answers_only(Op::Response, own(Op::Request), "the number is free again");
    vsock.guest.works();
}
void packets_in_pieces() {
    VsockCase vsock;
    Guest& guest = vsock.guest;
    vsock.open();
    guest.put(Guest::kData, vsock.data(6));
    guest.put_text(Guest::kData + 0x1000, "abcdef");
    std::vector<Buffer> pieces;
    for (uint32_t i = 0; i < 22; ++i) pieces.push_back({Guest::kData + i * 2, 2});
    for (uint32_t i = 0; i < 6; ++i) pieces.push_back({Guest::kData + 0x1000 + i, 1});
    pieces.push_back({Guest::kData + 0x2000, 500}); // more than the header says
    guest.ring(1).add(pieces);
    guest.kick(1);
    guest.serve();
    char bytes[32];
    ssize_t count = ::recv(guest.peers.back().get(), bytes, sizeof bytes, MSG_DONTWAIT);
    expect(count == 6 && std::string_view(bytes, 6) == "abcdef", cat(count, " bytes arrived"));
    guest.works();
}
// What the host asked for and has given up again is no debt that grows, however little the guest fetches.
void host_gives_up() {
    Guest guest(Kind::Vsock);
    guest.start();
    for (int round = 0; round < 2000; ++round) {
        guest.speak();
        guest.peers.clear();
        guest.serve(4);
    }
    equal(guest.vsock->streams(), 0, "streams");
    expect(guest.vsock->resets() <= 128,
           cat(guest.vsock->resets(), " resets wait for a guest that fetches nothing"));
    guest.works();
}

constexpr Case kCases[] = {
    {"vsock: packets from other CIDs", other_source},
    {"vsock: packets to other CIDs", other_destination},
    {"vsock: other types than streams", other_types},
    {"vsock: unknown operations", unknown_operations},
    {"vsock: a length beyond the packet", length_beyond},
    {"vsock: a packet shorter than a header", short_packet},
    {"vsock: data and all else before a connect", before_connect},
    {"vsock: connects twice, answers what was not asked", connect_twice},
    {"vsock: thousands of connects to ports that are refused", refused_ports},
    {"vsock: too many streams", too_many_streams},
    {"vsock: sends more than it was given credit for", over_credit},
    {"vsock: one packet of more than all credit", one_packet_over_credit},
    {"vsock: credit that lies", credit_lies},
    {"vsock: credit that shrinks", shrinking_credit},
    {"vsock: fetches no answer", nothing_fetched},
    {"vsock: resets in a storm", resets_in_a_storm},
    {"vsock: data after its end, and ends of every kind", after_shutdown},
    {"vsock: a stream that never reads holds up no other", stream_that_never_reads},
    {"vsock: receive buffers with no room", small_receive_buffers},
    {"vsock: nonsense in the event queue", events_queue},
    {"vsock: credit requests in a storm", credit_requests},
    {"vsock: takes the host's own ports", port_of_the_host},
    {"vsock: a packet in pieces of two bytes", packets_in_pieces},
    {"vsock: the host gives up, the guest fetches nothing", host_gives_up},
};
} // namespace

std::span<const Case> vsock_cases() { return kCases; }

} // namespace nullbox::hostile
