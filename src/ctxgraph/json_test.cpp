#include "ctxgraph/json.h"

#include <bit>
#include <cstdint>
#include <gtest/gtest.h>

namespace nullbox::ctxgraph {

static std::string canonical_of(std::string_view text) {
    auto value = parse_json(text);
    return value.has_value() ? canonical(*value) : "error: " + value.error().message;
}
static bool refused(std::string_view text) { return !parse_json(text).has_value(); }

// RFC 8785, section 3.2.2: the sample and its canonical form.
TEST(CanonicalJson, TheSampleOfTheRfc) {
    EXPECT_EQ(canonical_of(R"({
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
})"),
              "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],"
              "\"string\":\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
}

// RFC 8785, section 3.2.3: names are sorted by UTF-16 code units.
TEST(CanonicalJson, NamesAreSortedByUtf16) {
    EXPECT_EQ(canonical_of(
                  R"({"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
 "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"})"),
              "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xc2\x80\":\"Control\","
              "\"\xc3\xb6\":\"Latin Small Letter O With Diaeresis\",\"\xe2\x82\xac\":\"Euro Sign\","
              "\"\xf0\x9f\x98\x80\":\"Emoji: Grinning Face\",\"\xef\xac\xb3\":\"Hebrew Letter Dalet With "
              "Dagesh\"}");
    EXPECT_TRUE(less_utf16("a", "ab"));
    EXPECT_FALSE(less_utf16("a", "a"));
    EXPECT_TRUE(less_utf16("\xf0\x9f\x98\x80", "\xee\x80\x80")); // U+1F600 before U+E000
}

// RFC 8785, appendix B.
TEST(CanonicalJson, NumbersAsEcmaScriptWritesThem) {
    struct {
        uint64_t bits;
        std::string_view text;
    } samples[] = {
        {0x0000000000000000, "0"},
        {0x8000000000000000, "0"},
        {0x0000000000000001, "5e-324"},
        {0x8000000000000001, "-5e-324"},
        {0x7fefffffffffffff, "1.7976931348623157e+308"},
        {0xffefffffffffffff, "-1.7976931348623157e+308"},
        {0x4340000000000000, "9007199254740992"},
        {0xc340000000000000, "-9007199254740992"},
        {0x4430000000000000, "295147905179352830000"},
        {0x44b52d02c7e14af5, "9.999999999999997e+22"},
        {0x44b52d02c7e14af6, "1e+23"},
        {0x44b52d02c7e14af7, "1.0000000000000001e+23"},
        {0x444b1ae4d6e2ef4e, "999999999999999700000"},
        {0x444b1ae4d6e2ef4f, "999999999999999900000"},
        {0x444b1ae4d6e2ef50, "1e+21"},
        {0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
        {0x3eb0c6f7a0b5ed8d, "0.000001"},
        {0x41b3de4355555553, "333333333.3333332"},
        {0x41b3de4355555554, "333333333.33333325"},
        {0x41b3de4355555555, "333333333.3333333"},
        {0x41b3de4355555556, "333333333.3333334"},
        {0x41b3de4355555557, "333333333.33333343"},
        {0xbecbf647612f3696, "-0.0000033333333333333333"},
        {0x43143ff3c1cb0959, "1424953923781206.2"},
    };
    for (const auto& sample : samples) {
        EXPECT_EQ(number_text(std::bit_cast<double>(sample.bits)), sample.text);
        EXPECT_EQ(canonical_of(sample.text), sample.text);
    }
    EXPECT_EQ(canonical_of("-0"), "0");
    EXPECT_EQ(canonical_of("-0.0e5"), "0");
    EXPECT_EQ(canonical_of("100"), "100");
    EXPECT_EQ(canonical_of("1e2"), "100");
    EXPECT_EQ(canonical_of("123456789012345680000"), "123456789012345680000");
}

TEST(CanonicalJson, NothingChangesInSilence) {
    EXPECT_TRUE(refused("9007199254740993")); // no double holds it
    EXPECT_EQ(parse_json("9007199254740993").error().message,
              "not valid JSON at byte 16: the number 9007199254740993 would become 9007199254740992; send it "
              "as a text");
    EXPECT_TRUE(refused("1e400"));
    EXPECT_TRUE(refused("-1e400"));
    EXPECT_TRUE(refused("1e-400"));
    EXPECT_EQ(canonical_of("0e-400"), "0");
    EXPECT_TRUE(refused(std::string(401, '1')));
    EXPECT_TRUE(refused(R"({"a":1,"b":2,"\u0061":3})"));
}

TEST(Json, WhatIsNoJson) {
    for (std::string_view text : {"",
                                  " ",
                                  "{",
                                  "[",
                                  "[1,]",
                                  "{\"a\"}",
                                  "{\"a\":}",
                                  "{\"a\":1,}",
                                  "{a:1}",
                                  "01",
                                  "+1",
                                  ".5",
                                  "1.",
                                  "1e",
                                  "-",
                                  "nul",
                                  "truex",
                                  "\"",
                                  "\"\\x\"",
                                  "\"\\u12\"",
                                  "\"\\u12g4\"",
                                  "[1 2]",
                                  "1 2",
                                  "'a'",
                                  "// x\n1",
                                  "NaN",
                                  "Infinity",
                                  "\"a\nb\"",
                                  "\"\\ud800\"",
                                  "\"\\udc00\"",
                                  "\"\\ud800\\u0041\"",
                                  "\"\xff\"",
                                  "\"\xc0\xaf\"",
                                  "\"\xed\xa0\x80\"",
                                  "\"\xf4\x90\x80\x80\"",
                                  "\"\xe2\x82\"",
                                  "\xef\xbb\xbf"
                                  "1"})
        EXPECT_TRUE(refused(text)) << text;
    EXPECT_TRUE(refused(std::string_view("1\0", 2)));
    EXPECT_EQ(canonical_of(" [ ] "), "[]");
    EXPECT_EQ(canonical_of("{ }"), "{}");
    EXPECT_EQ(canonical_of(R"("\u0000\u001f\u007f")"), "\"\\u0000\\u001f\x7f\"");
}

TEST(Json, Bounds) {
    EXPECT_EQ(canonical_of(std::string(16, '[') + std::string(16, ']')),
              std::string(16, '[') + std::string(16, ']'));
    EXPECT_TRUE(refused(std::string(17, '[') + std::string(17, ']')));
    EXPECT_TRUE(refused(std::string(1'000'000, '[')));
    EXPECT_EQ(nesting_of(*parse_json(R"({"a":[{"b":1}]})")), 3u);
    EXPECT_TRUE(parse_json("[1,1,1]", {.values = 4}).has_value());
    EXPECT_FALSE(parse_json("[1,1,1]", {.values = 3}).has_value());
}

} // namespace nullbox::ctxgraph
