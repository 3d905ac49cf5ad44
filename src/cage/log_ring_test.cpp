#include "cage/log_ring.h"

#include <gtest/gtest.h>

namespace nullbox::cage {
namespace {

TEST(LogRing, KeepsTheLastLinesInOrder) {
    LogRing ring(3);
    for (const char* text : {"a", "b", "c", "d"}) ring.append({.text = text});
    auto lines = ring.last(10);
    ASSERT_EQ(lines.size(), 3U);
    EXPECT_EQ(lines[0].text, "b");
    EXPECT_EQ(lines[0].sequence, 2U);
    EXPECT_EQ(lines[2].sequence, 4U);
    EXPECT_EQ(ring.dropped(), 1U);
    EXPECT_EQ(ring.last(1).at(0).text, "d");
    EXPECT_TRUE(ring.last(0).empty());
}

TEST(LogRing, TheLastOfThoseThatAreWanted) {
    LogRing ring;
    for (int i = 0; i < 10; i++)
        ring.append({.time_ms = i, .stream = i % 2 ? LogStream::Stderr : LogStream::Stdout, .text = "x"});
    auto lines = ring.last(2, [](const LogLine& line) { return line.stream == LogStream::Stderr; });
    ASSERT_EQ(lines.size(), 2U);
    EXPECT_EQ(lines[0].time_ms, 7);
    EXPECT_EQ(lines[1].time_ms, 9);
    EXPECT_EQ(ring.last(100, [](const LogLine& line) { return line.time_ms >= 8; }).size(), 2U);
}

TEST(LogRing, IsBoundedInBytesEvenForEmptyLines) {
    LogRing ring(1'000'000, 6400);
    for (int i = 0; i < 10'000; i++) ring.append({});
    EXPECT_EQ(ring.size(), 100U);
    ring.append({.text = std::string(100'000, 'x')}); // cut on entry, and still more than the bound
    EXPECT_EQ(ring.size(), 1U);
}

TEST(LogRing, WhatAGuestWritesIsPrintable) {
    LogRing ring;
    EXPECT_EQ(ring.append({.text = "\x1b[2Jforged\r\nline \xff"}).text, "?[2Jforged??line ?");
}

} // namespace
} // namespace nullbox::cage
