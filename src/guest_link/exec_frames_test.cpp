#include "guest_link/exec_frames.h"

#include <functional>
#include <gtest/gtest.h>

#include "base/bytes.h"

namespace nullbox::guest_link {
namespace {

template <typename Frame>
std::string complaint(const std::vector<std::byte>& bytes) {
    FrameReader<Frame> reader;
    reader.feed(bytes);
    auto got = reader.next();
    return got ? (*got ? "took it" : "waits") : got.error().message;
}

std::vector<std::byte> raw(uint8_t type, const std::function<void(ByteWriter&)>& fill) {
    ByteWriter payload, out;
    fill(payload);
    out.number(static_cast<uint32_t>(payload.view().size())).number(type).bytes(payload.view());
    return std::move(out).take();
}

void put_text(ByteWriter& out, std::string_view text) {
    out.number(static_cast<uint32_t>(text.size())).bytes(std::as_bytes(std::span(text)));
}

template <typename Frame>
void expect_whole(const Frame& sent) {
    auto bytes = encode(sent);
    ASSERT_TRUE(bytes) << bytes.error().message;
    FrameReader<Frame> reader;
    for (auto byte : *bytes) { // however it is cut
        auto early = reader.next();
        ASSERT_TRUE(early && !*early);
        reader.feed(std::span(&byte, 1));
    }
    auto got = reader.next();
    ASSERT_TRUE(got && *got) << (got ? "" : got.error().message);
    EXPECT_EQ(**got, sent);
    EXPECT_EQ(reader.buffered(), 0U);
}

TEST(ExecFrames, EveryFrameSurvivesTheTrip) {
    std::string binary("\0\xff\n\x1b[2J", 8);
    for (const CallerFrame& frame :
         {CallerFrame(ExecRequest{.number = 7,
                                  .command = {"sh", "-c", "", "a'b\""},
                                  .environment = {"A=1", "TERM=xterm"},
                                  .user = "root",
                                  .working_directory = "/app",
                                  .terminal = true,
                                  .interactive = true,
                                  .rows = 24,
                                  .columns = 80}),
          CallerFrame(CopyRequest{
              .number = 8, .direction = Direction::IntoGuest, .path = "/app/x", .name = "y", .user = "1:2"}),
          CallerFrame(Input{.bytes = binary}), CallerFrame(InputEnd{}), CallerFrame(Signal{.number = 2}),
          CallerFrame(Resize{.rows = 1, .columns = 65535}), CallerFrame(Data{.bytes = binary}),
          CallerFrame(Failed{.exit_code = 127, .message = "not there"})})
        expect_whole(frame);
    for (const ExecGuestFrame& frame :
         {ExecGuestFrame(Running{}),
          ExecGuestFrame(ExecOutput{.stream = Stream::Stderr, .bytes = std::string(kMaxPiece, '\0')}),
          ExecGuestFrame(InputTaken{.bytes = 131072}), ExecGuestFrame(Ended{.by_signal = true, .value = 9}),
          ExecGuestFrame(Entry{.path = "a/b", .mode = 0755, .modified_s = 3, .size_bytes = 1}),
          ExecGuestFrame(Entry{.kind = EntryKind::Link, .path = "l", .target = std::string(kMaxPath, 't')}),
          ExecGuestFrame(Skipped{.path = "a", .why = "a socket"}),
          ExecGuestFrame(Done{.entries = 5, .bytes = 1ULL << 40})})
        expect_whole(frame);
    expect_whole(CopyFrame(Entry{.kind = EntryKind::Folder, .path = ""}));
}

TEST(ExecFrames, WhatAGuestMustNotSayIsRefused) {
    auto entry = [](uint8_t kind, uint16_t mode, std::string_view path, std::string_view target) {
        return raw(16, [&](ByteWriter& out) {
            out.number(kind);
            put_text(out, path);
            out.number(mode).number(uint64_t{0}).number(uint64_t{0});
            put_text(out, target);
        });
    };
    EXPECT_EQ(complaint<ExecGuestFrame>(entry(1, 0644, "a", "")), "took it");
    EXPECT_EQ(complaint<ExecGuestFrame>(entry(4, 0644, "a", "")),
              "frame of type 16: kind is 4, must be 1 to 3");
    EXPECT_EQ(complaint<ExecGuestFrame>(entry(1, 04755, "a", "")),
              "frame of type 16: mode has more than permission bits: 2541");
    EXPECT_EQ(complaint<ExecGuestFrame>(entry(1, 0644, "a", "/etc")),
              "frame of type 16: a link has a target, and nothing else has");
    EXPECT_EQ(complaint<ExecGuestFrame>(entry(1, 0644, std::string(4097, 'a'), "")),
              "frame of type 16: path has 4097 bytes, at most 4096");
    auto output = [](uint8_t stream, std::string_view text) {
        return raw(71, [&](ByteWriter& out) {
            out.number(stream);
            put_text(out, text);
        });
    };
    EXPECT_EQ(complaint<ExecGuestFrame>(output(3, "x")), "frame of type 71: stream is 3, must be 1 or 2");
    EXPECT_EQ(complaint<ExecGuestFrame>(output(1, "")), "frame of type 71: a piece without bytes");
    EXPECT_EQ(complaint<ExecGuestFrame>(output(1, std::string(kMaxPiece + 1, 'x'))),
              "frame of type 71: a piece has 32769 bytes, at most 32768");
    EXPECT_EQ(complaint<ExecGuestFrame>(raw(71, [](ByteWriter& out) { out.number(uint8_t{1}); })),
              "frame of type 71: ends in the middle of a field");
    EXPECT_EQ(complaint<ExecGuestFrame>(
                  raw(73, [](ByteWriter& out) { out.number(uint8_t{0}).number(uint32_t{256}); })),
              "frame of type 73: value is 256, at most 255");
    EXPECT_EQ(complaint<ExecGuestFrame>(raw(6, [](ByteWriter& out) { put_text(out, "x"); })),
              "frame of type 6: unknown to a caller");
    EXPECT_EQ(complaint<ExecGuestFrame>(raw(70, [](ByteWriter& out) { out.number(uint8_t{0}); })),
              "frame of type 70: 1 bytes too many");
    ByteWriter huge;
    huge.number(uint32_t{0xffffffff}).number(uint8_t{71});
    EXPECT_EQ(complaint<ExecGuestFrame>(std::move(huge).take()), "frame of 4294967295 bytes, at most 32832");
}

TEST(ExecFrames, ARequestIsBounded) {
    EXPECT_FALSE(encode(CallerFrame(ExecRequest{.command = {std::string(kMaxExecRequest + 2048, 'x')}})));
    EXPECT_EQ(complaint<CallerFrame>(raw(4,
                                         [](ByteWriter& out) {
                                             out.number(uint32_t{1}).number(uint32_t{0}).number(uint32_t{0});
                                             put_text(out, ""), put_text(out, "");
                                             out.number(uint16_t{0}).number(uint16_t{0}).number(uint16_t{0});
                                         })),
              "frame of type 4: command is empty");
}

} // namespace
} // namespace nullbox::guest_link
