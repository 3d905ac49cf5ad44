// SNTP messages (RFC 4330; the packet of RFC 5905 section 7.3): a request that only its own answer matches,
// and an answer checked before anything is computed from it. Times are nanoseconds since 1970; NTP's seconds
// wrap in 2036 and are taken to be after 1970 + 2^31 s when small (RFC 4330 section 3). Pure: no system
// calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"

namespace nullbox::egress {

constexpr size_t kSntpBytes = 48;

// cookie: a random number in place of our time of sending, which is nobody's business (RFC 9109's idea).
std::vector<std::byte> encode_sntp_request(uint64_t cookie);

struct SntpAnswer {
    int64_t received_ns = 0, sent_ns = 0; // by the server's clock
    uint8_t stratum = 0;
    // How far our clock is behind the server's: to be added to ours. asked, answered: by our clock.
    int64_t offset_ns(int64_t asked_ns, int64_t answered_ns) const;
};
// The error says why an answer counts for nothing; "the server sends us away" is one of them.
Result<SntpAnswer> parse_sntp_answer(std::span<const std::byte> packet, uint64_t cookie);

} // namespace nullbox::egress
