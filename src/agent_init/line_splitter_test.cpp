#include "agent_init/line_splitter.h"

#include <gtest/gtest.h>
#include <vector>

#include "guest_link/frames.h"

namespace nullbox::agent_init {
namespace {

using guest_link::kMaxOutputText;

struct Collected {
    std::vector<std::pair<std::string, bool>> pieces;
    LineSplitter::Emit emit() {
        return [this](std::string text, bool partial) { pieces.emplace_back(std::move(text), partial); };
    }
};
using Pieces = std::vector<std::pair<std::string, bool>>;

TEST(LineSplitter, LinesComeWholeHoweverTheyArrive) {
    Collected got;
    LineSplitter lines;
    for (std::string_view part : {"on", "e\ntwo\n\nth", "ree"}) lines.feed(part, got.emit());
    EXPECT_EQ(got.pieces, (Pieces{{"one", false}, {"two", false}, {"", false}}));
    EXPECT_TRUE(lines.unfinished());
    lines.finish(got.emit());
    EXPECT_EQ(got.pieces.back(), (std::pair<std::string, bool>{"three", false}));
}

TEST(LineSplitter, APromptGoesOutInPiecesAndIsEnded) {
    Collected got;
    LineSplitter lines;
    lines.feed("Continue? ", got.emit());
    lines.flush(got.emit());
    lines.flush(got.emit());
    lines.feed("yes\n", got.emit());
    EXPECT_EQ(got.pieces, (Pieces{{"Continue? ", true}, {"yes", false}}));
    lines.feed("...", got.emit());
    lines.flush(got.emit());
    lines.finish(got.emit());
    EXPECT_EQ(got.pieces.back(), (std::pair<std::string, bool>{"", false})) << "an open line must be ended";
}

TEST(LineSplitter, NothingIsEmittedForAStreamThatEndsOnALine) {
    Collected got;
    LineSplitter lines;
    lines.feed("x\n", got.emit());
    lines.finish(got.emit());
    EXPECT_EQ(got.pieces.size(), 1U);
}

TEST(LineSplitter, ALongLineLosesNothing) {
    Collected got;
    LineSplitter lines;
    std::string line(3 * kMaxOutputText + 5, 'x');
    lines.feed(line + "\n", got.emit());
    std::string joined;
    for (const auto& [text, partial] : got.pieces) {
        EXPECT_LE(text.size(), kMaxOutputText);
        EXPECT_EQ(partial, &text != &got.pieces.back().first);
        joined += text;
    }
    EXPECT_EQ(joined, line);
}

} // namespace
} // namespace nullbox::agent_init
