#include "ctxgraph/search_query.h"

#include <cerrno>
#include <gtest/gtest.h>

namespace nullbox::ctxgraph {

static std::string expression(std::string_view query) {
    auto made = fts_expression(query);
    return made.has_value() ? *made : "error: " + made.error().message;
}

TEST(SearchQuery, WordsPhrasesPrefixes) {
    EXPECT_EQ(expression("red boat"), R"("red" AND "boat")");
    EXPECT_EQ(expression("  red\tboat\n"), R"("red" AND "boat")");
    EXPECT_EQ(expression(R"("red boat" sea)"), R"("red boat" AND "sea")");
    EXPECT_EQ(expression("bo* sea"), R"("bo"* AND "sea")");
    EXPECT_EQ(expression(R"("red bo"* sea)"), R"("red bo"* AND "sea")");
    EXPECT_EQ(expression(R"(a"b c"d)"), R"("a" AND "b c" AND "d")");
    EXPECT_EQ(expression(R"("red boat)"), R"("red boat")");
    EXPECT_EQ(expression("red \xe2\x80\x94 boat \xf0\x9f\x9a\x80"), R"("red" AND "boat")");
    EXPECT_EQ(expression("caf\xc3\xa9"), "\"caf\xc3\xa9\"");
}

TEST(SearchQuery, NothingOfItIsSyntax) {
    EXPECT_EQ(expression("a OR b"), R"("a" AND "OR" AND "b")");
    EXPECT_EQ(expression("NOT (a NEAR b) ^c key:d -e {body}:f"),
              R"x("NOT" AND "(a" AND "NEAR" AND "b)" AND "^c" AND "key:d" AND "-e" AND "{body}:f")x");
    EXPECT_EQ(expression("a ; DROP TABLE words; --"), R"("a" AND "DROP" AND "TABLE" AND "words;")");
    EXPECT_EQ(expression("\"\"\"\"a)"), R"x("a)")x");
}

TEST(SearchQuery, WhatCannotBeSearchedFor) {
    for (const char* nothing :
         {"", "   ", "+++", "\"\"", "\"", "*", "\" \"*", "-- ; !", "\xe2\x80\x94 \xf0\x9f\x9a\x80"})
        EXPECT_EQ(expression(nothing), "error: the search has no word in it") << nothing;
    EXPECT_EQ(expression("a*"), "error: the search has a prefix* of less than two letters");
    EXPECT_EQ(expression("\xff"), "error: the search is not valid UTF-8");
    EXPECT_EQ(expression(std::string(513, 'a')), "error: the search is longer than 512 bytes");
    EXPECT_EQ(expression("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"),
              "error: the search has more than 16 words and phrases");
    EXPECT_EQ(fts_expression("").error().code, EINVAL);
}

TEST(SearchQuery, WhatIsSearchedOfAValue) {
    EXPECT_EQ(searchable(*parse_json(R"({"title":"Red boat","tags":["sea",7],"seen":true,"note":null})")),
              "note\nseen\ntags\nsea\n7\ntitle\nRed boat\n");
    EXPECT_EQ(searchable(*parse_json("true")), "");
}

} // namespace nullbox::ctxgraph
