#include "varlink/message.h"

#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

#include "base/text.h"

namespace nullbox::varlink {

TEST(Message, ReaderCutsAtNulHoweverTheBytesCome) {
    std::string stream("one\0\0three\0rest", 15);
    for (size_t piece = 1; piece <= stream.size(); piece++) {
        MessageReader reader(10);
        std::string seen;
        for (size_t i = 0; i < stream.size(); i += piece) {
            reader.feed(std::string_view(stream).substr(i, piece));
            for (;;) {
                bool has = reader.has_message();
                auto message = reader.next();
                ASSERT_TRUE(message.has_value());
                EXPECT_EQ(has, message->has_value());
                if (!*message) break;
                seen += cat("<", **message, ">");
            }
        }
        EXPECT_EQ(seen, "<one><><three>") << piece;
        EXPECT_EQ(reader.buffered(), 4u);
    }
}

TEST(Message, ReaderHoldsToItsLimit) {
    MessageReader reader(4);
    reader.feed(std::string_view("1234\0", 5));
    EXPECT_TRUE(reader.next()->has_value());
    reader.feed("1234");
    EXPECT_FALSE(reader.next()->has_value());
    reader.feed("5");
    EXPECT_TRUE(reader.has_message());
    EXPECT_FALSE(reader.next().has_value());
    MessageReader whole(4);
    whole.feed(std::string_view("12345\0", 6));
    EXPECT_FALSE(whole.next().has_value());
}

// A megabyte in single bytes, and a megabyte of tiny messages: neither may be quadratic.
TEST(Message, ReaderIsLinear) {
    MessageReader reader(size_t{1} << 20);
    for (int i = 0; i < 1 << 20; i++) {
        reader.feed("x");
        ASSERT_FALSE(reader.next()->has_value());
    }
    MessageReader tiny(size_t{1} << 20);
    tiny.feed(std::string(1 << 20, '\0'));
    for (int i = 0; i < 1 << 20; i++) ASSERT_TRUE(tiny.next()->has_value());
    EXPECT_EQ(tiny.buffered(), 0u);
}

TEST(Message, RequestRoundTrip) {
    Request request{.method = "a.b.C", .parameters = {{"x", "\0y"}}, .more = true};
    auto bytes = encode(request);
    EXPECT_EQ(bytes.find('\0'), bytes.size() - 1);
    auto parsed = parse_request(std::string_view(bytes).substr(0, bytes.size() - 1));
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(parsed->method, "a.b.C");
    EXPECT_EQ(parsed->parameters, request.parameters);
    EXPECT_TRUE(parsed->more && !parsed->oneway && !parsed->upgrade);
}

TEST(Message, ReplyRoundTrip) {
    Reply reply{.parameters = {{"message", "no"}}, .error = "a.b.Bad"};
    auto bytes = encode(reply);
    auto parsed = parse_reply(std::string_view(bytes).substr(0, bytes.size() - 1));
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(parsed->error, "a.b.Bad");
    EXPECT_EQ(parsed->parameters, reply.parameters);
    EXPECT_FALSE(parse_reply(R"({"error":5})").has_value());
    EXPECT_TRUE(parse_reply("{}").has_value());
}

TEST(Message, OnlyStrictJsonObjectsPass) {
    for (std::string_view good : {"{}", " {\"a\":[1,2]}\n", R"({"a":"\u00fc"})", R"({"a":null,"a":1})"})
        EXPECT_TRUE(parse_object(good).has_value()) << good;
    for (std::string_view bad :
         {"", " ", "{", "[]", "1", "\"x\"", "{a:1}", "{\"a\":1,}", "{\"a\":01}", "{\"a\":[1e400]}",
          "{\"a\":NaN}", "{} {}", "{\"a\":\"\xff\"}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xed\xa0\x80\"}",
          "{\"a\":\"\\ud800\"}", "{\"a\":\"\n\"}", "// x\n{}", "{\"a\":1}x"})
        EXPECT_FALSE(parse_object(bad).has_value()) << bad;
}

TEST(Message, NestingIsBounded) {
    auto nested = [](size_t levels) {
        std::string text = "{\"a\":";
        for (size_t i = 1; i < levels; i++) text += '[';
        for (size_t i = 1; i < levels; i++) text += ']';
        return text + "}";
    };
    EXPECT_TRUE(parse_object(nested(kMaxNesting)).has_value());
    EXPECT_FALSE(parse_object(nested(kMaxNesting + 1)).has_value());
    EXPECT_FALSE(parse_object(nested(100'000)).has_value());
}

TEST(Message, WholeNumbersAreExact) {
    auto parsed = parse_object(R"({"a":9007199254740993,"b":-9223372036854775808,"c":18446744073709551615})");
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(boost::json::serialize(*parsed),
              R"({"a":9007199254740993,"b":-9223372036854775808,"c":18446744073709551615})");
}

} // namespace nullbox::varlink
