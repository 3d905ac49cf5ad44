#include "egress/net/sntp.h"

#include <gtest/gtest.h>

#include "egress/net/sntp_for_test.h"

namespace nullbox::egress {
using namespace test;
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kCookie = 0x1122334455667788;
constexpr int64_t kSecond = 1'000'000'000;

Bytes answer(int64_t unix_s) { return sntp_answer(unix_s, kCookie); }

TEST(Sntp, TheRequestTellsNothingOfUs) {
    auto request = encode_sntp_request(kCookie);
    ASSERT_EQ(request.size(), 48u);
    EXPECT_EQ(request[0], std::byte{0x23}) << "version 4, client";
    for (size_t i = 1; i < 40; i++) EXPECT_EQ(request[i], std::byte{0}) << i;
    EXPECT_EQ(request[40], std::byte{0x11});
    EXPECT_EQ(request[47], std::byte{0x88});
}

TEST(Sntp, TimesAndOffsets) {
    auto parsed = parse_sntp_answer(answer(1'700'000'000), kCookie).value();
    EXPECT_EQ(parsed.received_ns, 1'700'000'000 * kSecond);
    EXPECT_EQ(parsed.sent_ns, 1'700'000'000 * kSecond + kSecond / 2);
    // Asked a second before the server had it, by a clock that is 100 s slow; the answer took a second, too.
    int64_t asked = (1'700'000'000 - 101) * kSecond;
    EXPECT_EQ(parsed.offset_ns(asked, asked + 2 * kSecond + kSecond / 2), 100 * kSecond);
    // From 1970 to the end of NTP's second era.
    EXPECT_GT(parsed.offset_ns(0, 0), 0);
}

TEST(Sntp, After2036TheSecondsBeginAnew) {
    Bytes packet = answer(1'700'000'000);
    put(packet, 32, uint64_t{100} << 32, 8);
    put(packet, 40, uint64_t{100} << 32, 8);
    EXPECT_EQ(parse_sntp_answer(packet, kCookie)->sent_ns, 2'085'978'596 * kSecond) << "2036-02-07 06:29:56";
}

TEST(Sntp, WrongAnswersCountForNothing) {
    auto refused = [](size_t at, int value) {
        auto packet = answer(1'700'000'000);
        packet[at] = static_cast<std::byte>(value);
        return !parse_sntp_answer(packet, kCookie);
    };
    EXPECT_FALSE(refused(1, 2));
    EXPECT_TRUE(refused(0, 4 << 3 | 3)) << "a request";
    EXPECT_TRUE(refused(0, 4 << 3 | 5)) << "broadcast";
    EXPECT_TRUE(refused(0, 7 << 3 | 4)) << "version";
    EXPECT_TRUE(refused(0, 3 << 6 | 4 << 3 | 4)) << "not synchronised";
    EXPECT_TRUE(refused(1, 16)) << "stratum";
    EXPECT_TRUE(refused(1, 0)) << "kiss of death";
    EXPECT_TRUE(refused(24, 0)) << "not our cookie";
    EXPECT_TRUE(refused(5, 17)) << "root delay";
    EXPECT_TRUE(refused(9, 17)) << "root dispersion";
    auto packet = answer(1'700'000'000);
    EXPECT_FALSE(parse_sntp_answer(std::span(packet).first(47), kCookie));
    put(packet, 40, ntp(1'600'000'000), 8);
    EXPECT_FALSE(parse_sntp_answer(packet, kCookie)) << "sent before received";
    put(packet, 40, 0, 8);
    EXPECT_FALSE(parse_sntp_answer(packet, kCookie));
    auto kiss = answer(0);
    kiss[1] = std::byte{0};
    std::memcpy(kiss.data() + 12, "RA\nE", 4);
    EXPECT_EQ(parse_sntp_answer(kiss, kCookie).error().message, "time server sends us away: RA?E");
}

} // namespace
} // namespace nullbox::egress
