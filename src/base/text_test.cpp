#include "base/text.h"

#include <gtest/gtest.h>

namespace nullbox {

TEST(Text, CatJoinsTextAndNumbers) { EXPECT_EQ(cat("a", 1, ':', -2, true), "a1:-2true"); }

TEST(Text, NumbersAreWholeAndBounded) {
    EXPECT_EQ(parse_number("12", 0, 12), 12);
    for (auto bad : {"", "12x", " 1", "13", "-1", "99999999999999999999"})
        EXPECT_FALSE(parse_number(bad, 0, 12)) << bad;
}

TEST(Text, PrintableDisarmsTerminals) {
    EXPECT_EQ(printable("a\x1b[2Jb\r\x7f"), "a?[2Jb??");
    EXPECT_EQ(printable("\xc2\x9b"
                        "31m"),
              "?31m")
        << "C1 control";
    EXPECT_EQ(printable("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
    EXPECT_EQ(printable("\xc0\xaf\xff\xed\xa0\x80"), "??????");
    EXPECT_EQ(printable("abcdef", 3), "abc...");
}

TEST(Text, ClosestSuggests) {
    EXPECT_EQ(closest("comand", {"command", "image"}), "command");
    EXPECT_EQ(closest("zzz", {"command", "image"}), "");
}

TEST(Text, SplitKeepsEmptyParts) { EXPECT_EQ(split("a,,b", ',').size(), 3u); }

} // namespace nullbox
