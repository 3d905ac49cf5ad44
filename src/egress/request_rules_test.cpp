// Rules for requests, from the side of an agent that wants another request through.
#include "egress/request_rules.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "egress/explain.h"
#include "egress/policy.h"

namespace nullbox::egress {
namespace {

HostName name(std::string_view text) { return *HostName::parse(text); }

RequestRules rules() {
    return *RequestRules::compile(
        {{.host = "api.example.org", .methods = {"GET", "HEAD"}, .paths = {"/v1/models", "/v1/chat/*"}},
         {.host = "api.example.org", .methods = {"POST"}, .paths = {"/v1/chat/completions"}},
         {.host = "*.example.net:8443", .methods = {"GET"}},
         {.host = "files.example.com", .paths = {"/pub/*"}}});
}

RequestDecision decide(std::string_view method, std::string_view target,
                       std::string_view host = "api.example.org", uint16_t port = 443) {
    return rules().decide(name(host), port, {.method = std::string(method), .target = std::string(target)});
}

// Control: decide(), which lets nothing through that no rule covers.
TEST(RequestRules, EachRequestNeedsARuleThatCoversIt) {
    struct {
        std::string_view method, target;
        bool allowed;
    } cases[] = {
        {"GET", "/v1/models", true},
        {"GET", "/v1/models?limit=5&x=/../y", true},
        {"HEAD", "/v1/chat/1", true},
        {"POST", "/v1/chat/completions", true},
        {"POST", "/v1/chat/other", false},
        {"POST", "/v1/models", false},
        {"DELETE", "/v1/models", false},
        {"get", "/v1/models", false},
        {"Get", "/v1/models", false},
        {"GET", "/v1/Models", false},
        {"GET", "/v1/models/", false},
        {"GET", "/v1/modelsx", false},
        {"GET", "/", false},
        {"OPTIONS", "*", false},
        {"GET", "/v1/chat/../admin", false},
        {"GET", "/v1/chat/%2e%2e/admin", false},
        {"GET", "/v1/chat/..%2fadmin", false},
        {"GET", "/v1/chat//admin", false},
        {"GET", "/v1/chat/..;/admin", false},
        {"GET", "/v1/chat\\..\\admin", false},
        {"GET", "/v1/chat/%252e%252e/admin", false},
        {"GET", "/v1/models#/../admin", false},
    };
    for (const auto& one : cases) {
        auto decision = decide(one.method, one.target);
        EXPECT_EQ(decision.allowed, one.allowed) << one.method << " " << one.target;
        EXPECT_EQ(decision.reason.empty(), one.allowed) << one.method << " " << one.target;
        EXPECT_EQ(decision.rule.empty(), !one.allowed) << one.method << " " << one.target;
    }
}

TEST(RequestRules, AHostWithoutRulesIsLeftAlone) {
    EXPECT_TRUE(decide("DELETE", "/any/../thing", "other.example.org").allowed);
    EXPECT_TRUE(decide("DELETE", "/", "a.example.net", 443).allowed) << "the rule is for port 8443";
    EXPECT_FALSE(decide("DELETE", "/", "a.example.net", 8443).allowed);
    EXPECT_TRUE(decide("GET", "/a//b", "b.a.example.net", 8443).allowed) << "a rule without paths";
    EXPECT_TRUE(decide("DELETE", "/", "example.net", 8443).allowed) << "not below the suffix";
    EXPECT_TRUE(decide("PROPFIND", "/pub/x", "files.example.com", 80).allowed) << "a rule without methods";
    EXPECT_FALSE(decide("GET", "/private", "files.example.com", 80).allowed);
}

// Control: the target that goes on is the one that was compared.
TEST(RequestRules, WhatGoesOnIsWhatWasCompared) {
    EXPECT_EQ(decide("GET", "/%76%31/chat/%7euser%3a?q=%2e%2e/").target, "/v1/chat/~user%3A?q=%2e%2e/");
}

// Control: replacing_header().
TEST(RequestRules, NoHeaderMakesItAnotherRequest) {
    for (auto header : {"X-HTTP-Method-Override", "x-http-method", "X-Method-Override",
                        "X_HTTP_Method_Override", "X-Original-URL", "x-rewrite-url"}) {
        http::RequestHead request{.method = "POST", .target = "/v1/chat/completions"};
        request.fields.add(header, "DELETE");
        auto decision = rules().decide(name("api.example.org"), 443, request);
        EXPECT_FALSE(decision.allowed) << header;
        EXPECT_TRUE(decision.reason.contains("may make the server take this for another request"));
        EXPECT_TRUE(rules().decide(name("other.example.org"), 443, request).allowed)
            << "no rules, no business";
    }
}

TEST(RequestRules, ADenialSaysWhatWouldHelp) {
    EXPECT_EQ(decide("DELETE", "/v1/%6dodels?secret=1").add,
              "rule = [{ host = \"api.example.org\", methods = [\"DELETE\"], paths = [\"/v1/models\"] }]");
    EXPECT_EQ(decide("DELETE", "/v1/models?secret=1").path, "/v1/models");
    EXPECT_EQ(decide("GET", "/v1/../x").add, "") << "nothing would";
    EXPECT_EQ(decide("get", "/v1/models").add, "");
    EXPECT_EQ(decide("GET", cat("/", std::string(600, 'a'))).add, "");
    EXPECT_LE(decide("GET", cat("/", std::string(9000, 'a'))).path.size(), 260u);
    EXPECT_EQ(decide("GET", "/v1/chat/a/b").rule, "api.example.org GET /v1/chat/*");
}

TEST(RequestRules, WrongOnesAreRefused) {
    auto wrong = [](manifest::RequestRule rule) {
        auto compiled = RequestRules::compile({std::move(rule)});
        return compiled ? std::string() : compiled.error().message;
    };
    EXPECT_TRUE(wrong({.host = "a b", .methods = {"GET"}}).contains("its host must be"));
    EXPECT_TRUE(wrong({.host = "192.0.2.7:80", .methods = {"GET"}}).contains("must be a name"));
    EXPECT_TRUE(wrong({.host = "a.org", .methods = {"get"}}).contains("upper case"));
    EXPECT_TRUE(wrong({.host = "a.org", .paths = {"/a/../b"}}).contains("dots"));
    EXPECT_TRUE(wrong({.host = "a.org"}).contains("says nothing"));
}

// Control: Policy::allow(). A host with rules is never spliced, whatever its port.
TEST(RequestRules, AHostWithRulesIsTerminated) {
    auto policy = *Policy::compile({.allow = {"api.example.org", "api.example.org:8443", "www.example.org"},
                                    .rules = {{.host = "api.example.org", .methods = {"GET"}}}});
    auto mode = [&](std::string_view to) { return policy.decide(*Destination::parse(to)).mode; };
    EXPECT_EQ(mode("api.example.org"), Mode::Terminate);
    EXPECT_EQ(mode("api.example.org:8443"), Mode::Terminate);
    EXPECT_EQ(mode("api.example.org:80"), Mode::Http);
    EXPECT_EQ(mode("www.example.org"), Mode::Tls);
}

TEST(RequestRules, QuestionsMayHaveAPath) {
    struct {
        std::string_view text, destination, target;
    } cases[] = {
        {"a.org", "a.org:443", ""},
        {"a.org:8443/x?y", "a.org:8443", "/x?y"},
        {"https://a.org/x", "a.org:443", "/x"},
        {"http://a.org", "a.org:80", ""},
        {"http://a.org:81/", "a.org:81", "/"},
        {"[2001:db8::7]:443", "[2001:db8::7]:443", ""},
    };
    for (const auto& one : cases) {
        auto question = Question::parse(one.text);
        ASSERT_TRUE(question) << one.text;
        EXPECT_EQ(question->destination.text(), one.destination);
        EXPECT_EQ(question->target.value_or(""), one.target);
    }
    EXPECT_FALSE(Question::parse("ftp://a.org/"));
    EXPECT_FALSE(Question::parse("/x"));
}

} // namespace
} // namespace nullbox::egress
