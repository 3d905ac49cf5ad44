#include "nulld/log_ring.h"

#include <gtest/gtest.h>
#include <vector>

#include "base/text.h"

namespace nullbox::nulld {

static std::vector<std::string> lines_of(const std::vector<std::string>& pieces) {
    LineSplitter splitter;
    std::vector<std::string> out;
    auto keep = [&](std::string_view line) { out.emplace_back(line); };
    for (const auto& piece : pieces) splitter.feed(piece, keep);
    splitter.finish(keep);
    return out;
}

TEST(LineSplitter, LinesComeWholeHoweverTheyArrive) {
    std::vector<std::string> wanted{"one", "two", "", "four"};
    EXPECT_EQ(lines_of({"one\ntwo\r\n\nfour"}), wanted);
    EXPECT_EQ(lines_of({"o", "ne", "\n", "two\r", "\n", "\nfo", "ur"}), wanted);
    EXPECT_TRUE(lines_of({}).empty());
}

TEST(LineSplitter, LongLinesAreSplitWithAMark) {
    std::string longest(kMaxLineBytes, 'x');
    EXPECT_EQ(lines_of({longest + "\n"}), std::vector<std::string>{longest});
    auto parts = lines_of({std::string(10'000, 'y')});
    ASSERT_EQ(parts.size(), 3u);
    std::string together;
    for (auto& part : parts) {
        EXPECT_LE(part.size(), kMaxLineBytes);
        if (part.ends_with(LineSplitter::kContinued))
            part.resize(part.size() - LineSplitter::kContinued.size());
        together += part;
    }
    EXPECT_EQ(together, std::string(10'000, 'y'));
}

TEST(LineSplitter, MemoryStaysBounded) {
    LineSplitter splitter;
    size_t most = 0;
    for (int i = 0; i < 1000; i++)
        splitter.feed(std::string(16 << 10, 'z'),
                      [&](std::string_view line) { most = std::max(most, line.size()); });
    EXPECT_EQ(most, kMaxLineBytes);
}

TEST(LogRing, ForgetsTheOldestByCountAndByBytes) {
    LogRing ring;
    for (int i = 0; i < 1500; i++) ring.add({.number = static_cast<uint64_t>(i), .text = cat(i)});
    EXPECT_EQ(ring.lines().size(), LogRing::kMaxLines);
    EXPECT_EQ(ring.lines().front().text, "500");
    EXPECT_EQ(ring.forgotten(), 500u);
    for (int i = 0; i < 100; i++) ring.add({.text = std::string(kMaxLineBytes, 'x')});
    size_t bytes = 0;
    for (const auto& line : ring.lines()) bytes += line.text.size();
    EXPECT_LE(bytes, LogRing::kMaxBytes);
    EXPECT_GE(ring.lines().size(), 60u);
}

} // namespace nullbox::nulld
