#include <gtest/gtest.h>

#include "base/text.h"
#include "ctxgraph/test_memory.h"

namespace nullbox::ctxgraph {

class RestTest : public TestMemory {};

TEST_F(RestTest, PutGetDelete) {
    auto put = ask(ana_, "PUT", "/v1/memory/shared/red%20boat", R"({"b":1.50,"a":"x"})");
    EXPECT_EQ(put.status, 201u);
    auto id = member(put, "id");
    EXPECT_EQ(put.body, cat(R"({"created":true,"id":")", id, R"(","position":1})"));
    EXPECT_EQ(ask(ana_, "PUT", "/v1/memory/shared/red%20boat", R"({"a":"x","b":1.5})").status, 200u);
    auto got = ask(ben_, "GET", "/v1/memory/shared/red%20boat");
    EXPECT_EQ(got.status, 200u);
    EXPECT_EQ(got.headers, (std::vector<std::pair<std::string, std::string>>{{"ETag", cat("\"", id, "\"")}}));
    auto time = member(got, "time_ms");
    EXPECT_EQ(got.body,
              cat(R"({"entry":{"id":")", id, R"(","namespace":"shared","key":"red boat","kind":"value",)",
                  R"("value":{"a":"x","b":1.5},"parents":[],"author":"agent:ana","time_ms":)", time,
                  R"(,"position":1},"links":[]})"));
    auto ended = ask(ana_, "DELETE", "/v1/memory/shared/red%20boat");
    EXPECT_EQ(ended.status, 201u);
    EXPECT_EQ(ask(ana_, "DELETE", "/v1/memory/shared/red%20boat").status, 200u);
    EXPECT_EQ(ask(ana_, "DELETE", "/v1/memory/shared/never").status, 404u);
    auto gone = ask(ana_, "GET", "/v1/memory/shared/red%20boat");
    EXPECT_EQ(gone.status, 404u);
    EXPECT_EQ(
        gone.body,
        R"({"error":{"code":"not_found","message":"no key \"red boat\" in shared any more; its history is there"}})");
    auto history = ask(ben_, "GET", "/v1/memory/shared/red%20boat/history");
    EXPECT_EQ(history.status, 200u);
    EXPECT_EQ(member(history, "kind"), "tombstone");
    EXPECT_EQ(parse_json(history.body)->find("entries")->items.size(), 2u);
}

TEST_F(RestTest, KeysMayHaveSlashesAndBeAnything) {
    for (const char* key : {"a%2Fb%2Fhistory", "%C3%A9", "history", "..", "%25", "a%3Fb%23c", "+"}) {
        ASSERT_EQ(ask(ana_, "PUT", cat("/v1/memory/shared/", key), "1").status, 201u) << key;
        EXPECT_EQ(ask(ana_, "GET", cat("/v1/memory/shared/", key)).status, 200u) << key;
    }
    EXPECT_TRUE(ask(ana_, "GET", "/v1/memory/shared?prefix=a/b").body.contains(R"("key":"a/b/history")"));
    EXPECT_EQ(ask(ana_, "PUT", "/v1/memory/shared/link:x", "1").status, 400u);
}

TEST_F(RestTest, Conditions) {
    auto conditional = [&](std::string name, std::string value, std::string body) {
        auto put = request("PUT", "/v1/memory/shared/k", std::move(body));
        put.headers.emplace_back(std::move(name), std::move(value));
        return ask(ana_, put);
    };
    auto first = conditional("if-none-match", "*", "1");
    EXPECT_EQ(first.status, 201u);
    auto conflict = conditional("If-None-Match", "*", "2");
    EXPECT_EQ(conflict.status, 409u);
    EXPECT_EQ(conflict.body,
              cat(R"({"error":{"code":"conflict","message":"the key was written by somebody else since; )",
                  R"(read it again","head":")", member(first, "id"), R"("}})"));
    auto second = conditional("If-Match", cat("\"", member(first, "id"), "\""), "2");
    EXPECT_EQ(second.status, 201u);
    EXPECT_EQ(conditional("If-Match", cat("\"", member(first, "id"), "\""), "3").status, 409u);
    for (const char* wrong : {"*", "abc", "\"abc\"", "W/\"x\"", ""})
        EXPECT_EQ(conditional("If-Match", wrong, "3").status, 400u);
    EXPECT_EQ(conditional("If-None-Match", "\"x\"", "3").status, 400u);
    // A writer who may not read is not told what is there.
    ask(operator_, "PUT", "/v1/memory/drop/k", "1");
    auto blind = request("PUT", "/v1/memory/drop/k", "2");
    blind.headers.emplace_back("If-None-Match", "*");
    auto refused = ask(ben_, blind);
    EXPECT_EQ(refused.status, 409u);
    EXPECT_FALSE(refused.body.contains("head"));
}

// Whatever an agent asks about a namespace of others, the answers for one that is there and one that is not
// differ in its name only.
TEST_F(RestTest, AnAgentSeesNothingOfOthersNamespaces) {
    auto secret = ask(ana_, "PUT", "/v1/memory/ana/k", R"("secret word")");
    auto id = member(secret, "id");
    auto absent = std::string(64, 'a');
    auto replaced = [](std::string text, std::string_view from, std::string_view to) {
        for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
            text.replace(at, from.size(), to);
        return text;
    };
    struct {
        const char *method, *target, *body;
    } attempts[] = {
        {"GET", "/v1/memory/ana/k", ""},
        {"GET", "/v1/memory/ana", ""},
        {"GET", "/v1/memory/ana?prefix=k", ""},
        {"GET", "/v1/memory/ana/k/history", ""},
        {"GET", "/v1/search?q=secret&namespace=ana", ""},
        {"GET", "/v1/watch?namespace=ana", ""},
        {"GET", "/v1/watch?namespace=ana&after=0", ""},
        {"PUT", "/v1/memory/ana/k", "1"},
        {"PUT", "/v1/memory/ana/k", "not json"},
        {"DELETE", "/v1/memory/ana/k", ""},
    };
    for (const auto& attempt : attempts) {
        auto there = ask(ben_, attempt.method, attempt.target, attempt.body);
        auto not_there = ask(ben_, attempt.method, replaced(attempt.target, "ana", "abc"), attempt.body);
        EXPECT_EQ(there.status, 404u) << attempt.method << " " << attempt.target;
        EXPECT_EQ(replaced(there.body, "ana", "abc"), not_there.body);
        EXPECT_FALSE(there.watch.has_value());
    }
    // By id, as a source, as an end of a link, as a cursor.
    EXPECT_EQ(replaced(ask(ben_, "GET", "/v1/entry/" + id).body, id, absent),
              ask(ben_, "GET", "/v1/entry/" + absent).body);
    auto source = ask(ben_, "PUT", "/v1/memory/drop/k?source=" + id, "1");
    EXPECT_EQ(source.status, 404u);
    EXPECT_EQ(replaced(source.body, id, absent),
              ask(ben_, "PUT", "/v1/memory/drop/k?source=" + absent, "1").body);
    auto shared = member(ask(ana_, "PUT", "/v1/memory/shared/k", "1"), "id");
    for (auto [from, to] : {std::pair(id, shared), std::pair(shared, id)})
        EXPECT_EQ(
            ask(ben_, "POST", "/v1/link", cat(R"({"from":")", from, R"(","relation":"r","to":")", to, "\"}"))
                .status,
            404u);
    auto cursor = ask(ben_, "GET", "/v1/search?q=word&cursor=" + id);
    EXPECT_EQ(cursor.status, 404u);
    EXPECT_EQ(replaced(cursor.body, id, absent), ask(ben_, "GET", "/v1/search?q=word&cursor=" + absent).body);
    // In what is found.
    EXPECT_EQ(ask(ben_, "GET", "/v1/search?q=secret").body, R"({"entries":[]})");
    EXPECT_EQ(
        ask(ben_, "GET", "/v1/namespaces").body,
        R"({"namespaces":[{"name":"drop","read":false,"write":true},{"name":"shared","read":true,"write":false,"keys":1,"entries":1}]})");
    // A link of ana's from what ben reads to what he does not: he does not see it.
    EXPECT_EQ(
        ask(ana_, "POST", "/v1/link", cat(R"({"from":")", shared, R"(","relation":"r","to":")", id, "\"}"))
            .status,
        201u);
    EXPECT_TRUE(ask(ben_, "GET", "/v1/memory/shared/k").body.ends_with(R"("links":[]})"));
    EXPECT_TRUE(ask(ana_, "GET", "/v1/memory/shared/k").body.contains(R"("relation":"r")"));
    // Writes of others elsewhere do not move what he sees.
    auto before = member(ask(ana_, "PUT", "/v1/memory/shared/p", "1"), "position");
    for (int i = 0; i < 5; i++) ask(ana_, "PUT", cat("/v1/memory/ana/x", i), "1");
    EXPECT_EQ(member(ask(ana_, "PUT", "/v1/memory/shared/p", "2"), "position"),
              cat(*parse_number(before, 0, 100) + 1));
}

TEST_F(RestTest, ReadAndWriteAreTwoThings) {
    ask(ana_, "PUT", "/v1/memory/shared/k", "1");
    EXPECT_EQ(ask(ben_, "PUT", "/v1/memory/shared/k", "2").status, 403u);
    EXPECT_EQ(ask(ben_, "DELETE", "/v1/memory/shared/k").status, 403u);
    EXPECT_EQ(ask(ben_, "PUT", "/v1/memory/drop/k", "2").status, 201u);
    for (const char* target : {"/v1/memory/drop/k", "/v1/memory/drop", "/v1/memory/drop/k/history",
                               "/v1/search?q=a&namespace=drop", "/v1/watch?namespace=drop"})
        EXPECT_EQ(ask(ben_, "GET", target).status, 403u) << target;
    EXPECT_EQ(member(ask(operator_, "GET", "/v1/memory/drop/k"), "author"), "agent:ben");
}

TEST_F(RestTest, SearchAndPages) {
    for (int i = 0; i < 5; i++)
        ask(ana_, "PUT", cat("/v1/memory/shared/k", i), cat(R"("boat number )", i, "\""));
    ask(ana_, "PUT", "/v1/memory/ana/own", R"("boat of ana")");
    auto page = ask(ana_, "GET", "/v1/search?q=boat+%22number%22&limit=3");
    EXPECT_EQ(parse_json(page.body)->find("entries")->items.size(), 3u);
    auto rest = ask(ana_, "GET", cat("/v1/search?q=boat+number&limit=3&cursor=", member(page, "next")));
    EXPECT_EQ(parse_json(rest.body)->find("entries")->items.size(), 2u);
    EXPECT_FALSE(rest.body.contains("next"));
    EXPECT_EQ(parse_json(ask(ana_, "GET", "/v1/search?q=boat").body)->find("entries")->items.size(), 6u);
    EXPECT_EQ(parse_json(ask(ben_, "GET", "/v1/search?q=boat").body)->find("entries")->items.size(), 5u);
    page = ask(ben_, "GET", "/v1/memory/shared?limit=4");
    EXPECT_EQ(member(page, "next"), "k3");
    EXPECT_EQ(member(ask(ben_, "GET", "/v1/memory/shared?limit=4&cursor=k3"), "key"), "k4");
    EXPECT_EQ(ask(ana_, "GET", "/v1/search").status, 400u);
    EXPECT_EQ(ask(ana_, "GET", "/v1/search?q=%22").status, 400u);
    for (const char* limit : {"0", "101", "-1", "x", ""})
        EXPECT_EQ(ask(ana_, "GET", cat("/v1/search?q=boat&limit=", limit)).status, 400u) << limit;
}

TEST_F(RestTest, LinksAndSources) {
    auto a = member(ask(ana_, "PUT", "/v1/memory/shared/a", "1"), "id");
    auto b = member(ask(ana_, "PUT", cat("/v1/memory/shared/b?source=", a), "2"), "id");
    auto link =
        ask(ana_, "POST", "/v1/link", cat(R"({"from":")", b, R"(","relation":"supports","to":")", a, "\"}"));
    EXPECT_EQ(link.status, 201u);
    auto found = ask(ben_, "GET", "/v1/entry/" + a);
    EXPECT_TRUE(found.body.contains(cat(R"({"relation":"supports","from":")", b,
                                        R"(","namespace":"shared","link":")", member(link, "id"), "\"}")));
    EXPECT_TRUE(found.body.contains(cat(R"({"relation":"source","from":")", b)));
    EXPECT_EQ(ask(ana_, "DELETE", cat("/v1/memory/shared/link:", b, ":supports:", a)).status, 201u);
    EXPECT_FALSE(ask(ben_, "GET", "/v1/entry/" + a).body.contains("supports"));
    for (const char* wrong : {"", "{}", "[]", R"({"from":1})", R"({"x":"y"})"})
        EXPECT_EQ(ask(ana_, "POST", "/v1/link", wrong).status, 400u) << wrong;
}

TEST_F(RestTest, AWatchIsCheckedBeforeItBegins) {
    auto watch = ask(ben_, "GET", "/v1/watch?namespace=shared&prefix=a/&after=7");
    ASSERT_TRUE(watch.watch.has_value());
    EXPECT_EQ(watch.watch->space, "shared");
    EXPECT_EQ(watch.watch->prefix, "a/");
    EXPECT_EQ(watch.watch->after, 7u);
    EXPECT_EQ(ask(ben_, "GET", "/v1/watch").status, 400u);
    EXPECT_EQ(ask(ben_, "GET", "/v1/watch?namespace=shared&after=x").status, 400u);
}

TEST_F(RestTest, QuotaAndSize) {
    ana_.max_entries = 1;
    EXPECT_EQ(ask(ana_, "PUT", "/v1/memory/shared/a", "1").status, 201u);
    auto refused = ask(ana_, "PUT", "/v1/memory/shared/b", "1");
    EXPECT_EQ(refused.status, 507u);
    EXPECT_EQ(member(refused, "code"), "quota");
    EXPECT_EQ(
        ask(operator_, "PUT", "/v1/memory/shared/b", "\"" + std::string(kMaxValueBytes, 'x') + "\"").status,
        413u);
    EXPECT_EQ(ask(operator_, "PUT", "/v1/memory/shared/b", "{\"a\":1,\"a\":2}").status, 400u);
    EXPECT_EQ(ask(operator_, "PUT", "/v1/memory/shared/b", "").status, 400u);
}

TEST_F(RestTest, WhatIsNotThere) {
    for (const char* target :
         {"/", "", "*", "/v1", "/v1/", "/v2/namespaces", "/v1/namespaces/", "/v1/memory",
          "/v1/memory/shared/k/x", "/v1/memory/shared/k/history/", "//v1/namespaces", "/mcp/"})
        EXPECT_TRUE(ask(ana_, "GET", target).status == 404 || ask(ana_, "GET", target).status == 400)
            << target;
    for (const char* target :
         {"/v1/memory/shared/%", "/v1/memory/shared/%4", "/v1/memory/shared/%zz", "/v1/memory/shared/%ff",
          "/v1/memory/shared/%00", "/v1/memory/shared/", "/v1/memory//k", "http://x/v1/namespaces",
          "/v1/namespaces?x=1", "/v1/search?q=a&q=b", "/v1/entry/xyz", "/v1/memory/SHARED/k"})
        EXPECT_EQ(ask(ana_, "GET", target).status, 400u) << target;
    auto wrong = ask(ana_, "PATCH", "/v1/memory/shared/k");
    EXPECT_EQ(wrong.status, 405u);
    EXPECT_EQ(wrong.headers.front().second, "GET, PUT, DELETE");
}

TEST_F(RestTest, OnlyTheLoopbackAndNoBrowser) {
    for (const char* right :
         {"127.0.0.1:9100", "127.0.0.1", "localhost:9100", "LOCALHOST", "[::1]:9100", "[::1]"}) {
        auto asked = request("GET", "/v1/namespaces");
        asked.headers = {{"host", right}};
        EXPECT_EQ(ask(ana_, asked).status, 200u) << right;
    }
    for (const char* wrong : {"evil.example", "127.0.0.1.evil.example", "localhost:", "localhost:0",
                              "localhost:x", "", "127.0.0.1:9100:1", "[::1]:99999"}) {
        auto asked = request("GET", "/v1/namespaces");
        asked.headers = {{"Host", wrong}};
        EXPECT_EQ(ask(ana_, asked).status, 403u) << wrong;
    }
    auto asked = request("GET", "/v1/namespaces");
    asked.headers.emplace_back("Host", "127.0.0.1:9100");
    EXPECT_EQ(ask(ana_, asked).status, 403u);
    for (const char* target : {"/v1/namespaces", "/mcp"}) {
        asked = request("POST", target);
        asked.headers.emplace_back("origin", "http://127.0.0.1:9100");
        EXPECT_EQ(ask(ana_, asked).status, 403u);
    }
}

TEST_F(RestTest, WritesThatWaitTogetherAreOneCommit) {
    std::vector<unsigned> statuses;
    for (int i = 0; i < 10; i++)
        answer(*memory_, ana_, request("PUT", cat("/v1/memory/shared/k", i % 5), cat(i)),
               [&](Response response) { statuses.push_back(response.status); });
    EXPECT_TRUE(statuses.empty()); // nothing is acknowledged before it is on the disk
    EXPECT_EQ(later_.size(), 1u);
    commit();
    EXPECT_EQ(statuses, std::vector<unsigned>(10, 201));
    EXPECT_EQ(store_->totals()->entries, 10u);
}

} // namespace nullbox::ctxgraph
