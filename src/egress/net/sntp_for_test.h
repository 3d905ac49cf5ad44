// A time server's answer, byte by byte, for tests.
#pragma once

#include "egress/net/sntp.h"

namespace nullbox::egress::test {

inline void put(std::vector<std::byte>& packet, size_t at, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        packet[at + i] = static_cast<std::byte>(value >> (8 * (bytes - 1 - i)));
}

// Seconds since 1970 as NTP says them.
inline uint64_t ntp(int64_t unix_s) { return static_cast<uint64_t>(unix_s + 2'208'988'800) << 32; }

// Received at that second, sent half a second later.
inline std::vector<std::byte> sntp_answer(int64_t unix_s, uint64_t cookie) {
    std::vector<std::byte> packet(kSntpBytes);
    packet[0] = std::byte{4 << 3 | 4};
    packet[1] = std::byte{2};
    put(packet, 24, cookie, 8);
    put(packet, 32, ntp(unix_s), 8);
    put(packet, 40, ntp(unix_s) + (uint64_t{1} << 31), 8);
    return packet;
}

} // namespace nullbox::egress::test
