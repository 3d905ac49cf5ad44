#include "egress/net/guest_for_test.h"

#include <cstring>
#include <gtest/gtest.h>
#include <unistd.h>

#include "egress/net/namespace_for_test.h"

namespace nullbox::egress::test {

using Bytes = std::vector<std::byte>;
constexpr size_t kVnetHeader = 12, kEthernet = 14;

static void put(Bytes& out, uint32_t value, size_t bytes) {
    for (size_t i = bytes; i-- > 0;) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

static uint32_t get(std::span<const std::byte> bytes, size_t at, size_t count) {
    uint32_t value = 0;
    for (size_t i = 0; i < count; i++) value = value << 8 | std::to_integer<uint32_t>(bytes[at + i]);
    return value;
}

static uint16_t checksum(std::span<const std::byte> bytes, uint32_t sum) {
    for (size_t i = 0; i < bytes.size(); i++) sum += std::to_integer<uint32_t>(bytes[i]) << (i % 2 ? 0 : 8);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~sum);
}

static void patch(Bytes& out, size_t at, uint16_t value) {
    out[at] = static_cast<std::byte>(value >> 8);
    out[at + 1] = static_cast<std::byte>(value);
}

static Bytes transport(const Packet& packet) {
    Bytes out;
    if (packet.protocol == 1) {
        put(out, 0x08000000, 4);
        put(out, 0x00010001, 4);
        patch(out, 2, checksum(out, 0));
        return out;
    }
    put(out, packet.source_port, 2);
    put(out, packet.destination_port, 2);
    if (packet.protocol == 17) {
        put(out, static_cast<uint32_t>(8 + packet.payload.size()), 2);
        put(out, 0, 2);
        auto text = std::as_bytes(std::span(packet.payload));
        out.insert(out.end(), text.begin(), text.end());
    } else if (packet.protocol == 6) {
        put(out, packet.sequence, 4);
        put(out, packet.acknowledged, 4);
        put(out, 0x5000u | packet.flags, 2);
        put(out, 65535, 2);
        put(out, 0, 4);
    }
    return out;
}

Bytes ip_packet(const Packet& packet) {
    auto body = transport(packet);
    Bytes out;
    put(out, 0x4500, 2);
    put(out, static_cast<uint32_t>(20 + body.size()), 2);
    put(out, 0, 4);
    put(out, 64u << 8 | packet.protocol, 2);
    put(out, 0, 2);
    put(out, packet.source.value, 4);
    put(out, packet.destination.value, 4);
    patch(out, 10, checksum(out, 0));
    size_t field = packet.protocol == 17 ? 6 : 16;
    if (packet.protocol == 6 || packet.protocol == 17) {
        auto pseudo = std::span(out).subspan(12);
        uint32_t sum = packet.protocol + static_cast<uint32_t>(body.size());
        sum += static_cast<uint16_t>(~checksum(pseudo, 0));
        patch(body, field, checksum(body, sum));
    }
    out.insert(out.end(), body.begin(), body.end());
    return out;
}

std::optional<Packet> read_ip_packet(std::span<const std::byte> bytes) {
    if (bytes.size() < 28 || get(bytes, 0, 1) >> 4 != 4) return std::nullopt;
    size_t header = (get(bytes, 0, 1) & 15) * size_t{4}, total = get(bytes, 2, 2);
    if (header < 20 || total > bytes.size() || total < header + 8) return std::nullopt;
    auto body = bytes.subspan(header, total - header);
    Packet out{.protocol = static_cast<uint8_t>(get(bytes, 9, 1)),
               .source = Ip4{get(bytes, 12, 4)},
               .destination = Ip4{get(bytes, 16, 4)},
               .source_port = static_cast<uint16_t>(get(body, 0, 2)),
               .destination_port = static_cast<uint16_t>(get(body, 2, 2))};
    if (out.protocol == 6 && body.size() >= 20) {
        out.sequence = get(body, 4, 4);
        out.acknowledged = get(body, 8, 4);
        out.flags = static_cast<uint8_t>(get(body, 13, 1));
    }
    if (out.protocol == 17)
        out.payload.assign(reinterpret_cast<const char*>(body.data() + 8), body.size() - 8);
    return out;
}

void Guest::send(const Packet& packet) { send_ethernet(0x0800, ip_packet(packet)); }

void Guest::send_ethernet(uint16_t type, std::span<const std::byte> payload) {
    Bytes frame(kVnetHeader);
    for (const auto& mac : {tap_.link.host_mac, tap_.link.guest_mac}) {
        auto bytes = std::as_bytes(std::span(mac.bytes));
        frame.insert(frame.end(), bytes.begin(), bytes.end());
    }
    put(frame, type, 2);
    frame.insert(frame.end(), payload.begin(), payload.end());
    EXPECT_EQ(::write(tap_.fd.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
}

std::vector<Bytes> Guest::frames() {
    std::vector<Bytes> out;
    for (;;) {
        Bytes frame(4096);
        ssize_t count = ::read(tap_.fd.get(), frame.data(), frame.size());
        if (count < static_cast<ssize_t>(kVnetHeader + kEthernet)) return out;
        frame.resize(static_cast<size_t>(count));
        frame.erase(frame.begin(), frame.begin() + kVnetHeader);
        out.push_back(std::move(frame));
    }
}

std::optional<Packet> Guest::receive(Loop& loop, std::chrono::milliseconds most) {
    std::optional<Packet> found;
    wait_until(
        loop,
        [&] {
            for (const auto& frame : frames()) {
                if (get(frame, 12, 2) != 0x0800) continue;
                if (auto packet = read_ip_packet(std::span(frame).subspan(kEthernet)))
                    arrived_.push_back(*packet);
            }
            if (arrived_.empty()) return false;
            found = arrived_.front();
            arrived_.erase(arrived_.begin());
            return true;
        },
        most);
    return found;
}

Packet Guest::udp(Ip4 to, uint16_t port, std::string payload) const {
    return {.protocol = 17,
            .source = tap_.link.guest,
            .destination = to,
            .destination_port = port,
            .payload = std::move(payload)};
}

Packet Guest::tcp_syn(Ip4 to, uint16_t port, uint16_t from) const {
    return {.protocol = 6,
            .source = tap_.link.guest,
            .destination = to,
            .source_port = from,
            .destination_port = port};
}

} // namespace nullbox::egress::test
