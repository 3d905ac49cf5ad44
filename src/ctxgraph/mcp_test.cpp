#include <gtest/gtest.h>

#include "base/text.h"
#include "ctxgraph/mcp_tools.h"
#include "ctxgraph/test_memory.h"

namespace nullbox::ctxgraph {

class McpTest : public TestMemory {
protected:
    using Headers = std::vector<std::pair<std::string, std::string>>;
    Response post(std::string body, const Headers& headers = {}) {
        auto asked = request("POST", "/mcp", std::move(body));
        asked.headers.emplace_back("Content-Type", "application/json");
        asked.headers.emplace_back("Accept", "application/json, text/event-stream");
        asked.headers.insert(asked.headers.end(), headers.begin(), headers.end());
        return ask(ana_, asked);
    }
    static constexpr std::string_view kMeta =
        R"("_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}})";
    // params: members, without braces.
    Response stateless(std::string method, std::string params = "", std::string name = "") {
        Headers headers{{"MCP-Protocol-Version", "2026-07-28"}, {"Mcp-Method", method}};
        if (!name.empty()) headers.emplace_back("Mcp-Name", name);
        return post(cat(R"({"jsonrpc":"2.0","id":7,"method":")", method, R"(","params":{)", kMeta,
                        params.empty() ? "" : ",", params, "}}"),
                    headers);
    }
    Response tool(const std::string& name, const std::string& arguments) {
        return stateless("tools/call", cat(R"("name":")", name, R"(","arguments":)", arguments), name);
    }
    static constexpr std::string_view kStart =
        R"({"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"nullbox-memory","title":"NullBox memory","version":"0.1.0"}},)";
};

TEST_F(McpTest, AClientOf20251125) {
    auto begun = post(
        R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}})");
    EXPECT_EQ(begun.status, 200u);
    EXPECT_TRUE(begun.body.starts_with(
        R"({"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"nullbox-memory","title":"NullBox memory","version":"0.1.0"},"instructions":"Memory)"))
        << begun.body;
    auto noted = post(R"({"jsonrpc":"2.0","method":"notifications/initialized"})",
                      {{"MCP-Protocol-Version", "2025-11-25"}});
    EXPECT_EQ(noted.status, 202u);
    EXPECT_EQ(noted.body, "");
    EXPECT_EQ(post(R"({"jsonrpc":"2.0","id":"a","method":"ping"})").body,
              R"({"jsonrpc":"2.0","id":"a","result":{}})");
    auto tools = post(R"({"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}})",
                      {{"MCP-Protocol-Version", "2025-11-25"}});
    EXPECT_EQ(tools.body, cat(R"({"jsonrpc":"2.0","id":2,"result":{"tools":)", tool_list(), "}}"));
    auto put = post(
        R"({"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"memory_put","arguments":{"namespace":"shared","key":"k","value":{"x":[1,"two"]}}}})");
    auto id = (*store_->head("shared", "k"))->id;
    EXPECT_EQ(
        put.body,
        cat(R"({"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"{\"created\":true,\"id\":\")",
            id, R"(\",\"position\":1}"}],"structuredContent":{"created":true,"id":")", id,
            R"(","position":1},"isError":false}})"));
    EXPECT_EQ(
        post(R"({"jsonrpc":"2.0","id":4,"method":"resources/list"})").body,
        R"({"jsonrpc":"2.0","id":4,"error":{"code":-32601,"message":"Method not found: resources/list"}})");
    EXPECT_EQ(post(R"({"jsonrpc":"2.0","id":4,"method":"server/discover"})").status, 200u);
    EXPECT_EQ(post(R"({"jsonrpc":"2.0","id":1,"result":{}})").status, 202u);
}

TEST_F(McpTest, InitializeAgreesOnAVersion) {
    auto version = [&](std::string_view wanted) {
        return member(
            post(cat(R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":")", wanted,
                     "\"}}")),
            "protocolVersion");
    };
    EXPECT_EQ(version("2025-11-25"), "2025-11-25");
    EXPECT_EQ(version("2025-06-18"), "2025-06-18");
    EXPECT_EQ(version("2024-11-05"), "2025-11-25");
    EXPECT_EQ(version("2099-01-01"), "2025-11-25");
    EXPECT_EQ(member(post(R"({"jsonrpc":"2.0","id":1,"method":"initialize"})"), "code"), "-32602");
}

TEST_F(McpTest, AClientOf20260728) {
    auto found = stateless("server/discover");
    EXPECT_EQ(found.status, 200u);
    EXPECT_TRUE(found.body.starts_with(cat(
        kStart,
        R"("supportedVersions":["2026-07-28","2025-11-25","2025-06-18"],"capabilities":{"tools":{}},"instructions":"Memory)")))
        << found.body;
    EXPECT_TRUE(found.body.ends_with(R"(,"ttlMs":3600000,"cacheScope":"public"}})"));
    EXPECT_EQ(stateless("tools/list").body,
              cat(kStart, "\"tools\":", tool_list(), R"(,"ttlMs":3600000,"cacheScope":"public"}})"));
    EXPECT_EQ(
        tool("memory_namespaces", "{}").body,
        cat(kStart,
            R"("content":[{"type":"text","text":"{\"namespaces\":[{\"name\":\"ana\",\"read\":true,\"write\":true,\"keys\":0,\"entries\":0},{\"name\":\"shared\",\"read\":true,\"write\":true,\"keys\":0,\"entries\":0}]}"}],)",
            R"("structuredContent":{"namespaces":[{"name":"ana","read":true,"write":true,"keys":0,"entries":0},{"name":"shared","read":true,"write":true,"keys":0,"entries":0}]},"isError":false}})"));
    // What the stateless protocol has no more, and what we do not have: 404, as its transport says.
    for (const char* method : {"initialize", "ping", "resources/list", "subscriptions/listen"}) {
        auto answer = stateless(method);
        EXPECT_EQ(answer.status, 404u);
        EXPECT_EQ(answer.body,
                  cat(R"({"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"Method not found: )",
                      method, "\"}}"));
    }
    EXPECT_EQ(stateless("tools/call", R"("name":"nothing")", "nothing").body,
              R"({"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"Unknown tool: nothing"}})");
    EXPECT_EQ(
        stateless("tools/call", R"("name":"memory_namespaces","arguments":[])", "memory_namespaces").status,
        200u);
    // The name may come encoded.
    EXPECT_EQ(stateless("tools/call", R"("name":"memory_namespaces")", "=?base64?bWVtb3J5X25hbWVzcGFjZXM=?=")
                  .status,
              200u);
}

TEST_F(McpTest, HeadersMustSayWhatTheBodySays) {
    auto body = cat(R"({"jsonrpc":"2.0","id":7,"method":"tools/call","params":{)", kMeta,
                    R"(,"name":"memory_namespaces"}})");
    Headers right{{"MCP-Protocol-Version", "2026-07-28"},
                  {"Mcp-Method", "tools/call"},
                  {"Mcp-Name", "memory_namespaces"}};
    EXPECT_EQ(post(body, right).status, 200u);
    for (size_t i = 0; i < right.size(); i++) {
        auto missing = right;
        missing.erase(missing.begin() + static_cast<long>(i));
        EXPECT_EQ(post(body, missing).status, 400u);
        EXPECT_EQ(member(post(body, missing), "code"), "-32020");
        auto other = right;
        other[i].second = "other";
        EXPECT_EQ(member(post(body, other), "code"), "-32020");
        auto twice = right;
        twice.push_back(right[i]);
        EXPECT_EQ(member(post(body, twice), "code"), "-32020");
    }
    auto wrong_name = right;
    wrong_name[2].second = "memory_put";
    EXPECT_EQ(
        post(body, wrong_name).body,
        R"({"jsonrpc":"2.0","id":7,"error":{"code":-32020,"message":"Header mismatch: Mcp-Name is 'memory_put', and the body says 'memory_namespaces'"}})");
}

TEST_F(McpTest, VersionsWeDoNotSpeak) {
    auto body = [](std::string_view version,
                   std::string_view capabilities = R"(,"io.modelcontextprotocol/clientCapabilities":{})") {
        return cat(
            R"({"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":")",
            version, "\"", capabilities, "}}}");
    };
    auto unknown =
        post(body("1900-01-01"), {{"MCP-Protocol-Version", "1900-01-01"}, {"Mcp-Method", "tools/list"}});
    EXPECT_EQ(unknown.status, 400u);
    EXPECT_EQ(
        unknown.body,
        R"({"jsonrpc":"2.0","id":7,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28","2025-11-25","2025-06-18"],"requested":"1900-01-01"}}})");
    // Metadata of a version that had none yet: served as that version is.
    EXPECT_FALSE(
        post(body("2025-11-25"), {{"MCP-Protocol-Version", "2025-11-25"}}).body.contains("resultType"));
    auto incomplete =
        post(body("2026-07-28", ""), {{"MCP-Protocol-Version", "2026-07-28"}, {"Mcp-Method", "tools/list"}});
    EXPECT_EQ(incomplete.status, 400u);
    EXPECT_EQ(member(incomplete, "code"), "-32602");
    auto bare =
        post(R"({"jsonrpc":"2.0","id":7,"method":"tools/list"})", {{"MCP-Protocol-Version", "2026-07-28"}});
    EXPECT_EQ(bare.status, 400u);
    EXPECT_EQ(member(bare, "code"), "-32602");
    EXPECT_EQ(member(post(R"({"jsonrpc":"2.0","id":7,"method":"tools/list"})",
                          {{"MCP-Protocol-Version", "2099-01-01"}}),
                     "code"),
              "-32022");
}

TEST_F(McpTest, WhatIsNoMessage) {
    struct {
        const char *body, *code;
    } wrong[] = {{"", "-32700"},
                 {"{", "-32700"},
                 {"[]", "-32600"},
                 {R"([{"jsonrpc":"2.0","id":1,"method":"ping"}])", "-32600"},
                 {"1", "-32600"},
                 {R"({"id":1,"method":"ping"})", "-32600"},
                 {R"({"jsonrpc":"1.0","id":1,"method":"ping"})", "-32600"},
                 {R"({"jsonrpc":"2.0","id":null,"method":"ping"})", "-32600"},
                 {R"({"jsonrpc":"2.0","id":1.5,"method":"ping"})", "-32600"},
                 {R"({"jsonrpc":"2.0","id":{},"method":"ping"})", "-32600"},
                 {R"({"jsonrpc":"2.0","id":1,"method":2})", "-32600"},
                 {R"({"jsonrpc":"2.0","id":1})", "-32600"},
                 {R"({"jsonrpc":"2.0","id":1,"method":"ping","params":[]})", "-32600"}};
    for (const auto& each : wrong) {
        auto answer = post(each.body);
        EXPECT_EQ(answer.status, 400u) << each.body;
        EXPECT_EQ(member(answer, "code"), each.code) << each.body;
    }
    auto asked = request("GET", "/mcp");
    EXPECT_EQ(ask(ana_, asked).status, 405u);
    EXPECT_EQ(ask(ana_, asked).headers.front().second, "POST");
    asked = request("POST", "/mcp", R"({"jsonrpc":"2.0","id":1,"method":"ping"})");
    EXPECT_EQ(ask(ana_, asked).status, 415u);
    asked.headers.emplace_back("Content-Type", "application/json; charset=utf-8");
    EXPECT_EQ(ask(ana_, asked).status, 200u);
    asked.headers.emplace_back("Accept", "text/event-stream");
    EXPECT_EQ(ask(ana_, asked).status, 406u);
}

TEST_F(McpTest, EveryToolIsDescribedAndWorks) {
    auto tools = parse_json(tool_list());
    ASSERT_TRUE(tools.has_value()) << tools.error().message;
    ASSERT_EQ(tools->items.size(), 6u);
    for (const auto& each : tools->items) {
        EXPECT_TRUE(is_tool(each.find("name")->text));
        EXPECT_EQ(each.find("inputSchema")->find("type")->text, "object");
        EXPECT_FALSE(each.find("description")->text.empty());
    }
    tool("memory_put", R"({"namespace":"shared","key":"a","value":"red boat"})");
    auto a = (*store_->head("shared", "a"))->id;
    auto put = tool("memory_put", cat(R"({"namespace":"shared","key":"b","value":null,"sources":[)", "\"", a,
                                      R"("],"if_head":""})"));
    auto entry = *store_->head("shared", "b");
    ASSERT_TRUE(entry.has_value()) << put.body;
    EXPECT_EQ(entry->parents, std::vector{(*store_->head("shared", "a"))->id});
    EXPECT_EQ(entry->author, "agent:ana");
    auto conflict = tool("memory_put", R"({"namespace":"shared","key":"b","value":1,"if_head":""})");
    EXPECT_EQ(
        conflict.body,
        cat(kStart,
            R"("content":[{"type":"text","text":"conflict: the key was written by somebody else since; read it again. Its entry is )",
            entry->id, R"("}],"isError":true}})"));
    EXPECT_TRUE(tool("memory_get", R"({"namespace":"shared","key":"a"})")
                    .body.contains(R"("structuredContent":{"entry":{"id":)"));
    EXPECT_TRUE(tool("memory_get", cat(R"({"id":")", entry->id, "\"}")).body.contains(R"("key":"b")"));
    EXPECT_TRUE(tool("memory_search", R"({"query":"red bo*","limit":1})").body.contains(R"("key":"a")"));
    EXPECT_TRUE(tool("memory_history", R"({"namespace":"shared","key":"a"})").body.contains(R"("key":"a")"));
    EXPECT_TRUE(
        tool("memory_link", cat(R"({"from":")", entry->id, R"(","relation":"answers","to":")", a, "\"}"))
            .body.contains(R"("isError":false)"));
    EXPECT_TRUE(tool("memory_get", R"({"namespace":"shared","key":"a"})").body.contains("answers"));
}

TEST_F(McpTest, ToolErrorsAreForTheModel) {
    auto text = [&](const std::string& name, const std::string& arguments) {
        auto answer = tool(name, arguments);
        EXPECT_EQ(answer.status, 200u);
        EXPECT_EQ(member(answer, "isError"), "true");
        return member(answer, "text");
    };
    EXPECT_EQ(text("memory_put", "{}"), "invalid: namespace is missing");
    EXPECT_EQ(text("memory_put", R"({"namespace":"shared","key":"k"})"), "invalid: value is missing");
    EXPECT_EQ(text("memory_put", R"({"namespace":"shared","key":"k","value":1,"author":"agent:ben"})"),
              "invalid: there is no argument author");
    EXPECT_EQ(text("memory_put", R"({"namespace":1,"key":"k","value":1})"),
              "invalid: namespace must be a text");
    EXPECT_EQ(text("memory_put", R"({"namespace":"shared","key":"k","value":1,"sources":[1]})"),
              "invalid: sources must be a list of texts");
    EXPECT_EQ(text("memory_search", R"({"query":"x","limit":1000})"),
              "invalid: limit must be a whole number, 1 to 100");
    EXPECT_EQ(text("memory_get", R"({"namespace":"drop","key":"k"})"),
              text("memory_put", R"({"namespace":"drop","key":"k","value":1})"));
    EXPECT_TRUE(
        text("memory_search", R"({"query":"x","namespace":"drop"})").starts_with("not_found: no namespace"));
    EXPECT_TRUE(text("memory_history", R"({"namespace":"drop","key":"k"})").starts_with("not_found"));
    EXPECT_TRUE(text("memory_link", cat(R"({"from":")", std::string(64, 'a'), R"(","relation":"r","to":")",
                                        std::string(64, 'a'), "\"}"))
                    .starts_with("not_found"));
    EXPECT_EQ(
        text("memory_get", cat(R"({"namespace":"shared","key":"k","id":")", std::string(64, 'a'), "\"}")),
        "invalid: there is no argument key");
    // As deep as a value may be, and one deeper.
    auto deep = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    EXPECT_EQ(member(tool("memory_put", cat(R"({"namespace":"shared","key":"deep","value":)", deep(16), "}")),
                     "isError"),
              "false");
    EXPECT_EQ(text("memory_put", cat(R"({"namespace":"shared","key":"deep","value":)", deep(17), "}")),
              "invalid: the value is nested deeper than 16");
    // Numbers are what they were.
    tool("memory_put", R"({"namespace":"shared","key":"n","value":[0.1,333333333.33333329,1e21,5e-324]})");
    EXPECT_EQ((*store_->head("shared", "n"))->value, "[0.1,333333333.3333333,1e+21,5e-324]");
}

} // namespace nullbox::ctxgraph
