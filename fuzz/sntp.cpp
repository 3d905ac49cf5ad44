// A time server's answer. What is accepted answers our question and lies in NTP's 136 years, whatever our
// clock says.
#include <cstring>

#include "base/check.h"
#include "egress/net/sntp.h"

using namespace nullbox::egress;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto bytes = std::as_bytes(std::span(data, size));
    uint64_t cookie = 0;
    if (size >= 32) std::memcpy(&cookie, data + 24, sizeof cookie);
    CHECK(!parse_sntp_answer(bytes, ~__builtin_bswap64(cookie)));
    auto answer = parse_sntp_answer(bytes, __builtin_bswap64(cookie));
    if (!answer) return 0;
    CHECK(answer->sent_ns >= answer->received_ns &&
          answer->received_ns >= -int64_t{100} * 365 * 86400 * 1'000'000'000);
    for (int64_t now : {int64_t{0}, int64_t{1} << 60, int64_t{5} << 60})
        (void)answer->offset_ns(now, now + 1);
    return 0;
}
