#include "egress/net/sntp.h"

#include "base/bytes.h"
#include "base/text.h"

namespace nullbox::egress {

constexpr uint8_t kVersion = 4, kClient = 3, kServer = 4, kNotSynchronised = 3, kMaxStratum = 15;
constexpr size_t kRootDelay = 4, kRootDispersion = 8, kOriginate = 24, kReceive = 32, kTransmit = 40;
constexpr int64_t kEra0Seconds = -2'208'988'800; // 1900 as seconds since 1970
constexpr int64_t kSecondsPerEra = int64_t{1} << 32;
constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kLargestRootDistance = uint64_t{16} << 16; // 16 s, as seconds with 16 bits of fraction

static uint64_t read_number(std::span<const std::byte> bytes) {
    uint64_t value = 0;
    for (std::byte byte : bytes) value = value << 8 | std::to_integer<uint64_t>(byte);
    return value;
}

static int64_t to_ns(uint64_t ntp_time) {
    auto seconds = static_cast<int64_t>(ntp_time >> 32);
    if (seconds < kSecondsPerEra / 2) seconds += kSecondsPerEra; // from 2036 on
    auto fraction = static_cast<int64_t>((ntp_time & UINT32_MAX) * kNsPerSecond >> 32);
    return (seconds + kEra0Seconds) * kNsPerSecond + fraction;
}

std::vector<std::byte> encode_sntp_request(uint64_t cookie) {
    std::vector<std::byte> packet(kSntpBytes);
    packet[0] = std::byte{kVersion << 3 | kClient};
    for (size_t i = 0; i < 8; i++) packet[kTransmit + i] = static_cast<std::byte>(cookie >> (56 - 8 * i));
    return packet;
}

Result<SntpAnswer> parse_sntp_answer(std::span<const std::byte> packet, uint64_t cookie) {
    if (packet.size() < kSntpBytes) return error(cat("time server's answer has ", packet.size(), " bytes"));
    auto first = std::to_integer<uint8_t>(packet[0]);
    auto stratum = std::to_integer<uint8_t>(packet[1]);
    auto field = [&](size_t offset, size_t bytes) { return read_number(packet.subspan(offset, bytes)); };
    if ((first & 7) != kServer || (first >> 3 & 7) < 1 || (first >> 3 & 7) > kVersion)
        return error("time server's answer is none: wrong mode or version");
    if (field(kOriginate, 8) != cookie) return error("time server's answer is not to our question");
    if (stratum == 0)
        return error(cat("time server sends us away: ", printable(as_text(packet.subspan(12, 4)))));
    if (stratum > kMaxStratum || first >> 6 == kNotSynchronised)
        return error("time server does not know the time");
    if (field(kRootDelay, 4) > kLargestRootDistance || field(kRootDispersion, 4) > kLargestRootDistance)
        return error("time server is too far from a clock");
    if (field(kReceive, 8) == 0 || field(kTransmit, 8) == 0) return error("time server's answer has no time");
    SntpAnswer answer{
        .received_ns = to_ns(field(kReceive, 8)), .sent_ns = to_ns(field(kTransmit, 8)), .stratum = stratum};
    if (answer.sent_ns < answer.received_ns) return error("time server answered before it was asked");
    return answer;
}

int64_t SntpAnswer::offset_ns(int64_t asked_ns, int64_t answered_ns) const {
    // NTP's times end in 2104, and 2^63 ns are 292 years: a difference fits, the sum of two might not.
    return (received_ns - asked_ns) / 2 + (sent_ns - answered_ns) / 2;
}

} // namespace nullbox::egress
