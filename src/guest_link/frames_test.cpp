#include "guest_link/frames.h"

#include <algorithm>
#include <gtest/gtest.h>

#include "base/bytes.h"

namespace nullbox::guest_link {
namespace {

Start full_start() {
    return {.command = {"/usr/bin/python3", "/app/main.py", ""},
            .environment = {"A=1", "QUOTE=\"'\n", "EMPTY="},
            .uid = 1000,
            .gid = 1001,
            .working_directory = "/app",
            .hostname = "analyst",
            .clock_ns = 1'800'000'000'000'000'000,
            .has_app_image = true,
            .has_memory = true,
            .network = Network{.address = "10.88.3.2",
                               .prefix_length = 30,
                               .gateway = "10.88.3.1",
                               .dns = "10.88.3.1",
                               .mtu = 1400},
            .authority_pem = "-----BEGIN CERTIFICATE-----\n",
            .shares = {{.tag = "share0", .path = "/data", .read_only = true},
                       {.tag = "share1", .path = "/data/out", .read_only = false}}};
}

std::vector<std::byte> frame(uint8_t type, std::span<const std::byte> payload) {
    ByteWriter out;
    out.number(static_cast<uint32_t>(payload.size())).number(type).bytes(payload);
    return std::move(out).take();
}

// What a reader says of a stream that is wrong.
std::string complaint(std::span<const std::byte> bytes) {
    GuestFrameReader reader;
    reader.feed(bytes);
    auto got = reader.next();
    if (got) return got->has_value() ? "took it" : "waits";
    // A broken stream stays broken, whatever follows.
    reader.feed(*encode(GuestFrame(Hello{})));
    EXPECT_FALSE(reader.next());
    return got.error().message;
}

TEST(Frames, HostFramesSurviveTheTrip) {
    for (const HostFrame& sent :
         {HostFrame(full_start()), HostFrame(Start{.command = {"/x"}}),
          HostFrame(Start{.uid = kImageDecides, .gid = kImageDecides, .working_directory = ""}),
          HostFrame(Stop{.grace_ms = 5000}), HostFrame(SetClock{.clock_ns = 1'764'000'000'000'000'000}),
          HostFrame(CheckHealth{.number = 1, .http = true, .port = 80, .path = "/x", .timeout_ms = 9})}) {
        HostFrameReader reader;
        reader.feed(*encode(sent));
        auto got = reader.next();
        ASSERT_TRUE(got && *got);
        EXPECT_EQ(**got, sent);
        EXPECT_EQ(reader.buffered(), 0U);
    }
}

TEST(Frames, GuestFramesSurviveTheTripByteByByte) {
    const std::vector<GuestFrame> sent{
        Hello{.version = 7, .uptime_ns = 42},
        Started{.uptime_ns = 43},
        Output{.stream = Stream::Stderr, .partial = true, .uptime_ns = 44, .text = std::string("a\0b", 3)},
        Output{.text = ""},
        Exited{.by_signal = true, .value = 9, .out_of_memory = true},
        Health{.number = 7, .good = false, .says = "answered 503"},
        Failure{.stage = "mount", .message = "no image"},
    };
    std::vector<std::byte> stream;
    for (const auto& one : sent) std::ranges::copy(*encode(one), std::back_inserter(stream));
    GuestFrameReader reader;
    std::vector<GuestFrame> got;
    for (std::byte byte : stream) {
        reader.feed({&byte, 1});
        auto next = reader.next();
        ASSERT_TRUE(next);
        if (*next) got.push_back(**next);
    }
    EXPECT_EQ(got, sent);
}

TEST(Frames, AFrameBeyondTheLimitIsRefusedFromItsHeaderAlone) {
    ByteWriter header;
    header.number(uint32_t{kMaxGuestPayload + 1}).number(uint8_t{66});
    EXPECT_EQ(complaint(header.view()), "frame of 65537 bytes, at most 65536");
}

TEST(Frames, EncodingRefusesWhatTheOtherSideWouldRefuse) {
    Start start = full_start();
    start.environment.assign(300, std::string(4096, 'x'));
    auto got = encode(HostFrame(start));
    ASSERT_FALSE(got);
    EXPECT_NE(got.error().message.find("too large"), std::string::npos) << got.error().message;
    EXPECT_FALSE(encode(GuestFrame(Output{.text = std::string(70'000, 'x')})));
}

TEST(Frames, NonsenseIsNamed) {
    EXPECT_EQ(complaint(frame(200, {})), "frame of type 200: unknown to the host");
    // A guest may not speak as the host.
    EXPECT_EQ(complaint(*encode(HostFrame(Stop{}))), "frame of type 2: unknown to the host");
    std::vector<std::byte> zeros(3);
    EXPECT_EQ(complaint(frame(64, zeros)), "frame of type 64: ends in the middle of a field");
    zeros.resize(11);
    EXPECT_EQ(complaint(frame(64, zeros)), "frame of type 64: 1 bytes too many");
    zeros.resize(14);
    EXPECT_EQ(complaint(frame(66, zeros)), "frame of type 66: stream is 0, must be 1 or 2");
    zeros[0] = std::byte{1};
    zeros[1] = std::byte{2};
    EXPECT_EQ(complaint(frame(66, zeros)), "frame of type 66: partial is 2, must be 0 or 1");
    EXPECT_EQ(complaint(*encode(GuestFrame(Exited{.value = 256}))),
              "frame of type 67: exit value is 256, at most 255");
    EXPECT_EQ(complaint(*encode(GuestFrame(Health{.says = std::string(201, 's')}))),
              "frame of type 96: says has 201 bytes, at most 200");
    EXPECT_EQ(complaint(*encode(GuestFrame(Failure{.stage = std::string(65, 's')}))),
              "frame of type 68: stage has 65 bytes, at most 64");
    EXPECT_EQ(complaint(*encode(GuestFrame(Output{.text = std::string(kMaxOutputText + 1, 'x')}))),
              "frame of type 66: text has 16385 bytes, at most 16384");
}

TEST(Frames, ATextCannotClaimMoreThanItsFrameHolds) {
    ByteWriter payload;
    payload.number(uint32_t{0xffffffff}).number(uint8_t{'x'});
    EXPECT_EQ(complaint(frame(68, payload.view())), "frame of type 68: ends in the middle of a field");
}

TEST(Frames, AListCannotClaimMoreThanItsBound) {
    ByteWriter payload;
    payload.number(uint32_t{0xffffffff});
    HostFrameReader reader;
    reader.feed(frame(1, payload.view()));
    auto got = reader.next();
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().message, "frame of type 1: command has 4294967295 entries, at most 4096");
}

TEST(Frames, AStartThatAGuestCouldNotUseIsRefused) {
    auto refused = [](const Start& start) {
        HostFrameReader reader;
        reader.feed(*encode(HostFrame(start)));
        auto got = reader.next();
        return got ? "took it" : got.error().message;
    };
    Start start = full_start();
    start.network->prefix_length = 33;
    EXPECT_EQ(refused(start), "frame of type 1: prefix of 33 bits");
    start = full_start();
    start.shares.resize(33);
    EXPECT_EQ(refused(start), "frame of type 1: shares has 33 entries, at most 32");
    start = full_start();
    start.authority_pem.assign(40'000, 'x');
    EXPECT_EQ(refused(start), "frame of type 1: authority_pem has 40000 bytes, at most 32768");
}

TEST(Frames, TheBufferStaysSmallOverALongStream) {
    GuestFrameReader reader;
    auto one = *encode(GuestFrame(Output{.text = std::string(1000, 'x')}));
    for (int i = 0; i < 1000; i++) {
        reader.feed(one);
        ASSERT_TRUE(*reader.next());
        ASSERT_EQ(reader.buffered(), 0U);
    }
}

} // namespace
} // namespace nullbox::guest_link
