#include "varlink/parameters.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "varlink/message.h"

namespace nullbox::varlink {

namespace json = boost::json;

static json::object object(std::string_view text) {
    auto parsed = parse_object(text);
    EXPECT_TRUE(parsed.has_value()) << text;
    return parsed.value_or(json::object());
}

TEST(Parameters, ReadsTypedValues) {
    auto values = object(R"({"name":"hello","count":7,"big":9223372036854775807,"on":true,"list":["a","b"],
                             "kind":"tcp","null":null,"text":"a\nb"})");
    Parameters p(values);
    EXPECT_EQ(p.text("name"), "hello");
    EXPECT_EQ(p.number("count", {.most = 7}), 7);
    EXPECT_EQ(p.number("big"), INT64_MAX);
    EXPECT_TRUE(p.boolean("on"));
    EXPECT_EQ(p.texts("list"), (std::vector<std::string>{"a", "b"}));
    constexpr std::string_view kKinds[] = {"http", "tcp"};
    EXPECT_EQ(p.choice("kind", kKinds), 1u);
    EXPECT_EQ(p.text_or("null", "absent"), "absent");
    EXPECT_EQ(p.optional_text("none"), std::nullopt);
    EXPECT_EQ(p.number_or("none", -5), -5);
    EXPECT_TRUE(p.boolean_or("none", true));
    EXPECT_TRUE(p.texts_or_none("none").empty());
    EXPECT_EQ(p.text("text", {.several_lines = true}), "a\nb");
    EXPECT_FALSE(p.finish().has_value());
}

TEST(Parameters, TellsWhatIsWrong) {
    struct {
        std::string_view json, parameter, message;
    } cases[] = {
        {R"({})", "name", "is missing; must be a text"},
        {R"({"name":null})", "name", "is missing; must be a text"},
        {R"({"name":7})", "name", "must be a text, is a whole number"},
        {R"({"name":""})", "name", "must be 1 to 8 bytes long, is 0"},
        {R"({"name":"123456789"})", "name", "must be 1 to 8 bytes long, is 9"},
        {R"({"name":"a\nb"})", "name", "must be one line without control characters"},
        {R"({"name":"a\u0000"})", "name", "must be one line without control characters"},
        {R"({"name":"a\u007f"})", "name", "must be one line without control characters"},
        {R"({"name":"a","n":0})", "n", "must be a whole number from 1 to 5, is 0"},
        {R"({"name":"a","n":6})", "n", "must be a whole number from 1 to 5, is 6"},
        {R"({"name":"a","n":18446744073709551615})", "n",
         "must be a whole number from 1 to 5, is 18446744073709551615"},
        {R"({"name":"a","n":1.0})", "n", "must be a whole number from 1 to 5, is a number with a fraction"},
        {R"({"name":"a","n":1e0})", "n", "must be a whole number from 1 to 5, is a number with a fraction"},
        {R"({"name":"a","n":"1"})", "n", "must be a whole number from 1 to 5, is a text"},
        {R"({"name":"a","on":1})", "on", "must be true or false, is a whole number"},
        {R"({"name":"a","list":"a"})", "list", "must be a list of texts, is a text"},
        {R"({"name":"a","list":["a","b","c"]})", "list", "must have 0 to 2 entries, has 3"},
        {R"({"name":"a","list":["a",[]]})", "list[1]", "must be a text, is a list"},
        {R"({"name":"a","lst":[]})", "lst", "is not known to this method; did you mean \"list\"?"},
        {R"({"name":"a","zzzzzz":{}})", "zzzzzz", "is not known to this method"},
    };
    for (const auto& one : cases) {
        auto values = object(one.json);
        Parameters p(values);
        auto name = p.text("name", {.most_bytes = 8});
        auto number = p.number_or("n", 1, {.least = 1, .most = 5});
        p.boolean_or("on", false);
        p.texts_or_none("list", {.most_items = 2});
        auto wrong = p.finish();
        ASSERT_TRUE(wrong.has_value()) << one.json;
        EXPECT_EQ(wrong->parameter, one.parameter) << one.json;
        EXPECT_EQ(wrong->message, one.message) << one.json;
        EXPECT_TRUE(number >= 1 && number <= 5) << "in bounds even when wrong";
    }
}

TEST(Parameters, AControlledByteInAListIsFound) {
    auto values = object(R"({"list":["a","b\u001b[2J"]})");
    Parameters p(values);
    p.texts("list");
    auto wrong = p.finish();
    ASSERT_TRUE(wrong.has_value());
    EXPECT_EQ(wrong->parameter, "list[1]");
}

TEST(Parameters, TheHandlersOwnCheckIsReported) {
    auto values = object(R"({"name":"a"})");
    Parameters p(values);
    p.text("name");
    p.wrong("name", "is taken");
    EXPECT_EQ(p.finish()->message, "is taken");
}

} // namespace nullbox::varlink
