#include "varlink/description.h"

#include <gtest/gtest.h>

#include "varlink/server.h"
#include "varlink/service_interface.h"

namespace nullbox::varlink {

constexpr std::string_view kGood = R"(# A comment
interface io.nullbox.test-2

type State (starting, running, exited) # why
type Agent (
  name: string,
  state: State,
  limits: (cpu: int, share: ?float),
  labels: [string]string,
  past: []?[]Agent,
  raw: object
)
# Not this one.

# What there is,
# in two lines.
method List() -> (agents: []Agent) # nor this
# Neither this.

method Start(name: string, wait: ?bool) -> ()
error NoSuchAgent (name: string, message: string)
)";

TEST(Description, ReadsTheWholeGrammar) {
    auto description = parse_description(kGood);
    ASSERT_TRUE(description.has_value()) << description.error().message;
    EXPECT_EQ(description->interface, "io.nullbox.test-2");
    EXPECT_EQ(description->comment, "A comment");
    auto names = [](const auto& list) {
        std::vector<std::string> out;
        for (const auto& one : list) out.push_back(one.name);
        return out;
    };
    EXPECT_EQ(names(description->methods), (std::vector<std::string>{"List", "Start"}));
    EXPECT_EQ(names(description->errors), (std::vector<std::string>{"NoSuchAgent"}));
    EXPECT_EQ(names(description->types), (std::vector<std::string>{"State", "Agent"}));
    using Kind = Type::Kind;
    EXPECT_EQ(description->types[0].type.kind, Kind::Enumeration);
    EXPECT_EQ(description->types[0].type.values, (std::vector<std::string>{"starting", "running", "exited"}));
    const auto& agent = description->types[1].type;
    EXPECT_EQ(names(agent.fields),
              (std::vector<std::string>{"name", "state", "limits", "labels", "past", "raw"}));
    EXPECT_EQ(agent.fields[1].type.name, "State");
    EXPECT_EQ(agent.fields[2].type.fields[1].type.kind, Kind::Optional);
    EXPECT_EQ(agent.fields[3].type.kind, Kind::Map);
    EXPECT_EQ(agent.fields[4].type.inner[0].inner[0].inner[0].name, "Agent");
    EXPECT_EQ(agent.fields[5].type.kind, Kind::Object);
    EXPECT_EQ(description->methods[0].out[0].type.kind, Kind::List);
    EXPECT_EQ(description->methods[1].in[1].type.inner[0].kind, Kind::Bool);
    EXPECT_EQ(description->methods[0].comment, "What there is,\nin two lines.");
    EXPECT_EQ(description->methods[1].comment, ""); // a blank line ends what a comment is about
    EXPECT_TRUE(parse_description(kServiceDescription).has_value());
}

TEST(Description, SaysWhereItIsWrong) {
    struct {
        std::string_view text, message;
    } cases[] = {
        {"", "line 1: \"interface\" expected, found the end"},
        {"interface test\nmethod A() -> ()",
         "line 1: a name such as io.nullbox.cage expected, found \"test\""},
        {"interface a.b\n", "interface a.b has no method"},
        {"interface a.b\nmethod a() -> ()",
         "line 2: a name that begins with a capital expected, found \"a\""},
        {"interface a.b\nmethod A() -> (x)", "line 2: \":\" expected, found \")\""},
        {"interface a.b\nmethod A()\n", "line 3: \"->\" expected, found the end"},
        {"interface a.b\nmethod A(x: text) -> ()",
         "line 2: a name that begins with a capital expected, found \"text\""},
        {"interface a.b\nmethod A(x: Text) -> ()", "line 2: there is no type Text"},
        {"interface a.b\nmethod A(x: ??int) -> ()", "line 2: a type expected, found \"?\""},
        {"interface a.b\nmethod A(x_: int) -> ()", "line 2: a field's name expected, found \"x_\""},
        {"interface a.b\nmethod A(x: int, x: int) -> ()",
         "line 2: another name than x expected, found \":\""},
        {"interface a.b\nmethod A() -> ()\nerror A ()", "\"A\" is declared twice"},
        {"interface a.b\nmethod A() -> ()\nmethods",
         "line 3: \"method\", \"error\" or \"type\" expected, found \"methods\""},
    };
    for (const auto& one : cases) {
        auto description = parse_description(one.text);
        ASSERT_FALSE(description.has_value()) << one.text;
        EXPECT_EQ(description.error().message, one.message);
    }
    EXPECT_FALSE(parse_description("interface a.b\nmethod A(x: " + std::string(100'000, '?') + "int) -> ()")
                     .has_value());
    std::string deep = "interface a.b\nmethod A(x: ";
    for (int i = 0; i < 10'000; i++) deep += "[](x: ";
    EXPECT_FALSE(parse_description(deep).has_value());
}

TEST(Description, TableAndDescriptionMustAgree) {
    InterfaceTable table{.name = "io.nullbox.test-2", .description = std::string(kGood)};
    auto handle = [](Call) {};
    EXPECT_EQ(check_interface(table).error().message, "method List is described, but not in the table");
    table.methods.push_back({.name = "List", .handle = handle});
    table.methods.push_back({.name = "Start"});
    EXPECT_EQ(check_interface(table).error().message, "method Start has no handler");
    table.methods[1].handle = handle;
    EXPECT_TRUE(check_interface(table).has_value());
    table.methods.push_back({.name = "Start", .handle = handle});
    EXPECT_FALSE(check_interface(table).has_value());
    table.methods.pop_back();
    table.name = "io.nullbox.other";
    EXPECT_EQ(check_interface(table).error().message,
              "the description is of io.nullbox.test-2, the table of io.nullbox.other");
}

} // namespace nullbox::varlink
