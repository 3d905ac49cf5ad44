#include "ctxgraph/entry.h"

#include <gtest/gtest.h>

#include "ctxgraph/access.h"
#include "ctxgraph/sha256.h"

namespace nullbox::ctxgraph {

// FIPS 180-4's examples, and a million letters.
TEST(Sha256, Examples) {
    EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Entry, TheIdStandsForWhatIsInIt) {
    Entry entry{.space = "research", .key = "caf\xc3\xa9 \"1\""};
    entry.value = *canonical_value(R"({"b":1.0,"a":"x"})");
    entry.author = "agent:analyst";
    // The form is final: another text or another id would orphan every database there is.
    EXPECT_EQ(canonical(entry),
              "{\"author\":\"agent:analyst\",\"key\":\"caf\xc3\xa9 \\\"1\\\"\",\"kind\":\"value\","
              "\"namespace\":\"research\",\"parents\":[],\"value\":{\"a\":\"x\",\"b\":1}}");
    EXPECT_EQ(entry_id(entry), "26b63a5f4367c91a53b6604381e4efd123a590bdb14db01db07903bf7ebd8fd3");
    EXPECT_EQ(canonical(*parse_json(canonical(entry))), canonical(entry));
    auto id = entry_id(entry);
    auto other = [&](auto change) {
        auto copy = entry;
        change(copy);
        return entry_id(copy) != id;
    };
    EXPECT_TRUE(other([](Entry& e) { e.space = "researcher"; }));
    EXPECT_TRUE(other([](Entry& e) { e.key = "k"; }));
    EXPECT_TRUE(other([](Entry& e) { e.value = "1"; }));
    EXPECT_TRUE(other([](Entry& e) { e.author = "agent:other"; }));
    EXPECT_TRUE(other([](Entry& e) { e.kind = Kind::Tombstone; }));
    EXPECT_TRUE(other([&](Entry& e) { e.parents.push_back(id); }));
    EXPECT_FALSE(other([](Entry& e) { e.time_ms = 5, e.position = 7; }));
}

TEST(Entry, Names) {
    for (const char* right : {"a", "research", "a-1", "0"}) EXPECT_EQ(wrong_namespace(right), "");
    for (const char* wrong : {"", "-a", "a-", "A", "a b", "a/b", "a_b", "\xc3\xa9"})
        EXPECT_NE(wrong_namespace(wrong), "");
    EXPECT_NE(wrong_namespace(std::string(65, 'a')), "");
    for (const char* right : {"a", "a/b c:d", "\xc3\xa9", "link"}) EXPECT_EQ(wrong_key(right), "");
    for (const char* wrong : {"", "a\nb", "\x7f", "\xff", "link:x"}) EXPECT_NE(wrong_key(wrong), "");
    EXPECT_NE(wrong_key(std::string(257, 'a')), "");
    EXPECT_NE(wrong_key(std::string_view("a\0b", 3)), "");
    EXPECT_EQ(wrong_id(std::string(64, 'a')), "");
    for (const auto& wrong :
         {std::string(63, 'a'), std::string(64, 'A'), std::string(64, 'g'), std::string()})
        EXPECT_NE(wrong_id(wrong), "");
    EXPECT_EQ(wrong_relation("derived-from"), "");
    EXPECT_NE(wrong_relation("a:b"), "");
}

TEST(Entry, ValuesAreBounded) {
    EXPECT_EQ(canonical_value("\"" + std::string(kMaxValueBytes - 2, 'x') + "\"")->size(), kMaxValueBytes);
    auto large = canonical_value("\"" + std::string(kMaxValueBytes - 1, 'x') + "\"");
    ASSERT_FALSE(large.has_value());
    EXPECT_EQ(large.error().code, E2BIG);
    // What counts is the canonical text: this one grows.
    EXPECT_EQ(canonical_value("\"" + std::string(kMaxValueBytes / 2, '\x7f') + "\"").has_value(), true);
    auto wrong = canonical_value("{");
    ASSERT_FALSE(wrong.has_value());
    EXPECT_EQ(wrong.error().code, EINVAL);
    EXPECT_FALSE(canonical_value(*parse_json(std::string(17, '[') + std::string(17, ']'), {.nesting = 20}))
                     .has_value());
}

TEST(Entry, LinkKeys) {
    std::string a(64, 'a'), b(64, 'b');
    auto key = link_key(a, "supports", b);
    EXPECT_LE(key.size(), kMaxKeyBytes);
    auto ends = parse_link_key(key);
    ASSERT_TRUE(ends.has_value());
    EXPECT_EQ(ends->from, a);
    EXPECT_EQ(ends->relation, "supports");
    EXPECT_EQ(ends->to, b);
    for (const auto& wrong :
         {std::string("link:"), "link:" + a + ":r", key + ":x", key.substr(1), "link:" + a + "::" + b})
        EXPECT_FALSE(parse_link_key(wrong).has_value()) << wrong;
    EXPECT_EQ(canonical(*parse_json(link_value(a, "supports", b))), link_value(a, "supports", b));
}

TEST(Access, ForeignNamespacesDoNotExist) {
    Access access{.author = "agent:a", .read = {"r", "both"}, .write = {"w", "both"}};
    EXPECT_TRUE(check_read(access, "r").has_value());
    EXPECT_TRUE(check_read(access, "both").has_value());
    EXPECT_TRUE(check_write(access, "w").has_value());
    EXPECT_EQ(check_read(access, "w").error().code, EACCES);
    EXPECT_EQ(check_write(access, "r").error().code, EACCES);
    EXPECT_EQ(check_read(access, "x").error().code, ENOENT);
    EXPECT_EQ(check_write(access, "x").error().code, ENOENT);
    EXPECT_EQ(check_read(access, "x").error().message, check_write(access, "x").error().message);
    EXPECT_TRUE(check_write({.author = "operator:o", .everything = true}, "x").has_value());
}

} // namespace nullbox::ctxgraph
