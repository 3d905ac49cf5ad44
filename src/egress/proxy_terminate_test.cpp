// Where TLS ends at the box: the secret goes out and does not come back, and each request is held to its
// rules.
#include "egress/proxy_fixture_for_test.h"

namespace nullbox::egress {
namespace {

// Of an answer in chunks.
std::string content_of(const std::string& answer) {
    std::string content;
    for (size_t at = answer.find("\r\n\r\n") + 4;;) {
        size_t end = answer.find("\r\n", at);
        auto size = end == std::string::npos ? 0 : std::strtoul(answer.c_str() + at, nullptr, 16);
        if (size == 0) return content;
        content += answer.substr(end + 2, size);
        at = end + 2 + size + 2;
    }
}

// Control: HttpRelay::inject().
TEST_F(ProxyTest, TheServerSeesTheSecretAndTheAgentDoesNot) {
    policy_with_secret();
    origin(outside(), [](const std::string& request) {
        auto at = request.find("Authorization: ");
        auto line = request.substr(at, request.find("\r\n", at) - at);
        return std::vector{reply("you sent " + line, "X-Echo: " + line + "\r\n")};
    });
    start();
    auto answer = one_exchange("GET /v1 HTTP/1.1\r\nHost: api.example.org\r\nAuthorization: Bearer " +
                               kPlaceholder + "\r\n\r\n");
    EXPECT_TRUE(origin_->requests().at(0).contains("\r\nAuthorization: Bearer " + kSecret + "\r\n"))
        << origin_->requests()[0];
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
    EXPECT_FALSE(answer.contains(kSecret)) << answer;
    EXPECT_TRUE(answer.contains("X-Echo: Authorization: Bearer " + kPlaceholder)) << answer;
    EXPECT_TRUE(answer.contains("you sent Authorization: Bearer " + kPlaceholder)) << answer;
    EXPECT_EQ(warden_->agent(), "researcher");
}

// Control: fields.remove() before fields.add() in inject().
TEST_F(ProxyTest, TheAgentsOwnCredentialIsReplacedAndNotJoined) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    one_exchange("GET / HTTP/1.1\r\nHost: api.example.org\r\nauthorization: Bearer mine\r\nAUTHORIZATION: "
                 "Bearer other\r\n"
                 "Connection: Authorization\r\n\r\n");
    auto request = origin_->requests().at(0);
    EXPECT_FALSE(request.contains("mine") || request.contains("other")) << request;
    EXPECT_TRUE(request.contains("Authorization: Bearer " + kSecret)) << request;
}

// Control: only that header, so a body that the server shows to others cannot carry the secret away.
TEST_F(ProxyTest, ThePlaceholderElsewhereStaysOne) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    one_exchange("POST /?k=" + kPlaceholder +
                 " HTTP/1.1\r\nHost: api.example.org\r\nX-Other: " + kPlaceholder +
                 "\r\nContent-Length: " + std::to_string(kPlaceholder.size()) + "\r\n\r\n" + kPlaceholder);
    auto request = origin_->requests().at(0);
    EXPECT_EQ(request.find(kSecret), request.rfind(kSecret)) << request;
    EXPECT_TRUE(request.ends_with("\r\n\r\n" + kPlaceholder)) << request;
}

// Control: Scrubber in pass_body(), over the borders of chunks and packets.
TEST_F(ProxyTest, ASecretInPiecesIsTakenOutToo) {
    policy_with_secret();
    origin(outside(), [](const std::string&) {
        std::vector pieces{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"s};
        for (size_t at = 0; at < kSecret.size(); at += 5) {
            auto part = kSecret.substr(at, 5);
            pieces.push_back(cat(part.size(), "\r\n", part, "\r\n"));
        }
        auto encoded = base64("user:" + kSecret);
        pieces.push_back(cat(hex(encoded.size()).substr(2), "\r\n", encoded, "\r\n0\r\n\r\n"));
        return pieces;
    });
    start();
    auto answer = one_exchange(kGet);
    auto content = content_of(answer);
    EXPECT_FALSE(content.contains(kSecret)) << content;
    EXPECT_TRUE(content.starts_with(kPlaceholder)) << content;
    EXPECT_FALSE(content.contains(base64("user:" + kSecret).substr(8, 30))) << content;
}

// Control: Accept-Encoding and Range in inject(), and the check of Content-Encoding.
TEST_F(ProxyTest, AnAnswerThatCannotBeLookedIntoIsNotPassed) {
    policy_with_secret();
    origin(outside(), [](const std::string&) {
        return std::vector{reply("\x1f\x8b...", "Content-Encoding: gzip\r\n")};
    });
    start();
    auto answer = one_exchange(
        "GET / HTTP/1.1\r\nHost: api.example.org\r\nAccept-Encoding: gzip\r\nRange: bytes=3-9\r\n\r\n");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 502")) << answer;
    EXPECT_FALSE(answer.contains("\x1f\x8b"));
    EXPECT_TRUE(origin_->requests().at(0).contains("Accept-Encoding: identity\r\n"));
    EXPECT_FALSE(origin_->requests().at(0).contains("Range"));
}

// Control: Injector's refusals. A locked vault is no reason to send a request without its credential.
TEST_F(ProxyTest, ALockedVaultIsSaidAndNothingGoesOut) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    warden_->fail("Locked");
    auto answer = one_exchange(kGet);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 503")) << answer;
    EXPECT_TRUE(answer.contains("the vault is locked")) << answer;
    expect_untouched_origin();
    warden_->fail("NotGranted");
    EXPECT_TRUE(one_exchange(kGet).starts_with("HTTP/1.1 403"));
    warden_->fail("");
    EXPECT_TRUE(one_exchange(kGet).starts_with("HTTP/1.1 200"));
    auto all = records();
    EXPECT_TRUE(
        std::ranges::any_of(all, [](const Record& r) { return r.reason.contains("the vault is locked"); }));
}

// Control: take() and match() in injector.cpp. What was granted must be what was declared.
TEST_F(ProxyTest, AGrantOfAnotherFormIsRefused) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    for (const auto& item : std::vector<TestWarden::Item>{{"Authorization", "Basic " + kSecret, "KEY"},
                                                          {"Authorization", "Bearer ", "KEY"},
                                                          {"Authorization", "Bearer a\r\nX: y", "KEY"},
                                                          {"X-Other", "Bearer " + kSecret, "KEY"},
                                                          {"Authorization", "Bearer " + kSecret, "OTHER"}}) {
        warden_->grant(kHost, {item});
        EXPECT_TRUE(one_exchange(kGet).starts_with("HTTP/1.1 403")) << item.header << ": " << item.value;
    }
    expect_untouched_origin();
}

// Control: kInjectionTime. A grant that was revoked ends with it, on a connection that is kept too.
TEST_F(ProxyTest, ALockTakesEffectOnAKeptConnection) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    auto client = terminated();
    EXPECT_TRUE(client->exchange(kGet).starts_with("HTTP/1.1 200"));
    EXPECT_TRUE(client->exchange(kGet).starts_with("HTTP/1.1 200"));
    EXPECT_EQ(warden_->asked(), 1);
    EXPECT_EQ(origin_->connections(), 1) << "the connection to the server is kept";
    warden_->fail("Locked");
    std::this_thread::sleep_for(2100ms);
    EXPECT_TRUE(client->exchange(kGet).starts_with("HTTP/1.1 503"));
    EXPECT_EQ(origin_->requests().size(), 2);
}

// Control: TlsStream::connect() verifies chain and name before the first byte of a request.
TEST_F(ProxyTest, AServerWithAWrongCertificateNeverSeesTheSecret) {
    policy_with_secret();
    for (bool wrong_name : {true, false}) {
        auto stranger = *Authority::open(folder_ + "/stranger.pem", 0);
        origin(wrong_name ? outside("other.example.org") : *stranger.server_context(name(kHost)),
               [](const std::string&) { return std::vector{reply("ok")}; });
        start();
        auto answer = one_exchange(kGet);
        EXPECT_TRUE(answer.starts_with("HTTP/1.1 502")) << answer;
        EXPECT_TRUE(answer.contains("certificate")) << answer;
        expect_untouched_origin();
        stop();
        origin_.reset();
    }
}

// Control: serve_terminated() takes TLS only.
TEST_F(ProxyTest, ASecretNeverGoesOutInClear) {
    policy_with_secret();
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    for (uint16_t port : {uint16_t{80}, uint16_t{443}}) {
        start(port);
        auto answer = TestClient(port_).exchange(kGet);
        EXPECT_TRUE(answer.starts_with("HTTP/1.1 403")) << answer;
        EXPECT_TRUE(answer.contains("use https://")) << answer;
        stop();
    }
    EXPECT_EQ(origin_->connections(), 0);
}

// Control: check_request() for every request, not the first only.
TEST_F(ProxyTest, EveryRequestsHostIsChecked) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    auto client = terminated();
    EXPECT_TRUE(client->exchange(kGet).starts_with("HTTP/1.1 200"));
    auto answer = client->exchange("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 403")) << answer;
    EXPECT_TRUE(answer.contains("evil.test")) << answer;
    EXPECT_TRUE(client->ended());
    EXPECT_EQ(origin_->requests().size(), 1);
    EXPECT_TRUE(one_exchange("CONNECT evil.test:443 HTTP/1.1\r\nHost: api.example.org\r\n\r\n")
                    .starts_with("HTTP/1.1 405"));
    ASSERT_GE(denials().size(), 2);
    EXPECT_EQ(denials()[0].kind, RecordKind::Request);
}

// Control: parse_framing(). Two lengths would let a second request hide in the first one's body.
TEST_F(ProxyTest, TwoLengthsAreRefused) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    auto answer = one_exchange(
        "POST / HTTP/1.1\r\nHost: api.example.org\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400")) << answer;
    expect_untouched_origin();
}

TEST_F(ProxyTest, BodiesOfAllKindsPassBothWays) {
    policy_with_secret();
    origin(outside(), [](const std::string& request) {
        if (request.starts_with("HEAD"))
            return std::vector{"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"s};
        if (request.starts_with("DELETE")) return std::vector{"HTTP/1.1 204 No Content\r\n\r\n"s};
        if (request.starts_with("PUT")) return std::vector{"HTTP/1.0 200 OK\r\n\r\nuntil "s, "the end"s, ""s};
        auto body = request.substr(request.find("\r\n\r\n") + 4);
        std::ranges::replace(body, '\r', '.'); // its chunks must not end ours
        return std::vector{"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"s, reply(body)};
    });
    start();
    auto client = terminated();
    std::string big(300'000, 'x');
    auto answer = client->exchange(
        cat("POST / HTTP/1.1\r\nHost: api.example.org\r\nContent-Length: ", big.size(), "\r\n\r\n", big));
    EXPECT_EQ(static_cast<size_t>(std::ranges::count(answer, 'x')), big.size());
    client->send("POST / HTTP/1.1\r\nHost: api.example.org\r\nExpect: 100-continue\r\nTransfer-Encoding: "
                 "chunked\r\n\r\n");
    EXPECT_EQ(client->receive_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    answer = client->exchange("5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n");
    EXPECT_TRUE(answer.contains("hello") && answer.contains("world")) << answer;
    EXPECT_FALSE(origin_->requests().back().contains("Trailer"));
    answer = client->exchange("HEAD / HTTP/1.1\r\nHost: api.example.org\r\n\r\n");
    EXPECT_TRUE(answer.contains("Content-Length: 1234")) << answer;
    EXPECT_TRUE(client->exchange("DELETE / HTTP/1.1\r\nHost: api.example.org\r\n\r\n").contains(" 204 "));
    answer = client->exchange("PUT / HTTP/1.1\r\nHost: api.example.org\r\nContent-Length: 0\r\n\r\n");
    EXPECT_EQ(content_of(answer), "until the end");
    EXPECT_TRUE(client->exchange(kGet).starts_with("HTTP/1.1 200"))
        << "the client's connection goes on, to a new one";
    EXPECT_EQ(origin_->connections(), 2);
    EXPECT_TRUE(one_exchange("GET / HTTP/1.0\r\nHost: api.example.org\r\n\r\n").starts_with("HTTP/1.1 200"));
}

// Control: Scrubber::Length::Kept in upgrade(), and Sec-WebSocket-Extensions taken away.
TEST_F(ProxyTest, WebSocketGetsTheSecretAndDoesNotShowIt) {
    policy_with_secret();
    origin(outside(), [](const std::string& request) {
        if (!request.starts_with("GET /ws")) return std::vector{"echo:"s + kSecret + ";"};
        return std::vector{
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"s,
            "hello " + kSecret.substr(0, 10), kSecret.substr(10) + "!"};
    });
    start();
    auto client = terminated();
    client->send("GET /ws HTTP/1.1\r\nHost: api.example.org\r\nConnection: keep-alive, Upgrade\r\nUpgrade: "
                 "WebSocket\r\n"
                 "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Key: k\r\n\r\n");
    EXPECT_TRUE(client->receive_until("\r\n\r\n").contains(" 101 "));
    auto request = origin_->requests().at(0);
    EXPECT_TRUE(request.contains("Authorization: Bearer " + kSecret)) << request;
    EXPECT_FALSE(request.contains("permessage-deflate")) << request;
    auto frames = client->receive_until("!");
    EXPECT_EQ(frames, "hello " + kPlaceholder.substr(0, kSecret.size()) + "!");
    client->send("ping\r\n\r\n");
    frames = client->receive_until(";");
    EXPECT_FALSE(frames.contains(kSecret)) << frames;
    EXPECT_EQ(frames.size(), 5 + kSecret.size() + 1);
}

TEST_F(ProxyTest, AServerThatChangesProtocolUnaskedIsCut) {
    policy_with_secret();
    origin(outside(), [](const std::string&) {
        return std::vector{"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n"s + kSecret};
    });
    start();
    auto answer = one_exchange(kGet);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 502")) << answer;
    EXPECT_FALSE(answer.contains(kSecret));
}

// --- rules for requests

// Control: HttpRelay::check_rules() for every request of a connection.
TEST_F(ProxyTest, EachRequestIsHeldToTheRules) {
    policy({.allow = {kHost}, .rules = {{.host = kHost, .methods = {"GET"}, .paths = {"/v1/*"}}}});
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    auto client = terminated();
    auto request = [](std::string_view line, std::string_view more = "") {
        return cat(line, " HTTP/1.1\r\nHost: api.example.org\r\n", more, "\r\n");
    };
    EXPECT_TRUE(client->exchange(request("GET /v1/%61?q=1")).contains("ok"));
    EXPECT_TRUE(client->exchange(request("GET https://api.example.org/v1/b")).contains("ok"));
    // The second on the same connection, with a third behind it.
    auto answer = client->exchange(request("POST /v1/secret?token=hunter2") + request("GET /v1/c"));
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 403")) << answer;
    EXPECT_TRUE(answer.contains("rule = [{ host = \"api.example.org\", methods = [\"POST\"], paths = "
                                "[\"/v1/secret\"] }]"))
        << answer;
    EXPECT_FALSE(answer.contains("hunter2"));
    EXPECT_TRUE(client->ended());
    for (auto line : {"GET /v2", "GET /v1/../admin", "GET /v1/%2e%2e/admin", "GET /v1//admin",
                      "GET /v1/a%2fb", "GET /v1/..;/x", "get /v1/a", "GET https://api.example.org/admin",
                      "GET https://api.example.org", "OPTIONS *"})
        EXPECT_TRUE(one_exchange(request(line)).starts_with("HTTP/1.1 403")) << line;
    EXPECT_TRUE(
        one_exchange(request("GET /v1/a", "X-HTTP-Method-Override: DELETE\r\n")).starts_with("HTTP/1.1 403"));
    EXPECT_TRUE(one_exchange(request("GET /admin", "Connection: Upgrade\r\nUpgrade: websocket\r\n"))
                    .starts_with("HTTP/1.1 403"));
    EXPECT_TRUE(one_exchange(request("GET /v1/a", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                                                  "HTTP2-Settings: AAMAAABkAAQAAP__\r\n"))
                    .contains("ok"));
    auto seen = origin_->requests();
    ASSERT_EQ(seen.size(), 3u);
    EXPECT_TRUE(seen[0].starts_with("GET /v1/a?q=1 HTTP/1.1\r\n")) << seen[0];
    EXPECT_TRUE(seen[1].starts_with("GET /v1/b HTTP/1.1\r\n")) << seen[1];
    EXPECT_FALSE(seen[2].contains("h2c") || seen[2].contains("HTTP2-Settings")) << seen[2];
    auto all = records();
    auto found = std::ranges::find(all, "POST", &Record::method);
    ASSERT_NE(found, all.end());
    EXPECT_EQ(found->kind, RecordKind::Request);
    EXPECT_EQ(found->verdict, Verdict::Denied);
    EXPECT_EQ(found->path, "/v1/secret");
    auto allowed = std::ranges::find(all, "/v1/b", &Record::path);
    ASSERT_NE(allowed, all.end());
    EXPECT_EQ(allowed->verdict, Verdict::Allowed);
    EXPECT_EQ(allowed->rule, "api.example.org GET /v1/*");
}

// Control: choose_protocol() and the strict first line. HTTP/2 would carry requests that nobody reads.
TEST_F(ProxyTest, RulesAreNotPassedByHttp2) {
    policy({.allow = {kHost}, .rules = {{.host = kHost, .methods = {"GET"}, .paths = {"/v1/*"}}}});
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    TestClient offers(port_);
    EXPECT_NE(offers.tls(kHost, box_->certificate_pem(), 0, nullptr, "\x02h2"), "") << "nothing but h2";
    TestClient both(port_);
    EXPECT_EQ(both.tls(kHost, box_->certificate_pem(), 0, nullptr, "\x02h2\x08http/1.1"), "");
    EXPECT_EQ(both.protocol(), "http/1.1");
    EXPECT_TRUE(one_exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").starts_with("HTTP/1.1 400"));
    expect_untouched_origin();
}

// Control: Policy::allow() and serve_terminated(): in clear the rules hold as well, where clear is allowed at
// all.
TEST_F(ProxyTest, RulesHoldInClearToo) {
    policy({.allow = {kHost, cat(kHost, ":8080")}, .rules = {{.host = kHost, .paths = {"/v1/*"}}}});
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    for (uint16_t port : {uint16_t{80}, uint16_t{8080}, uint16_t{443}}) {
        start(port);
        auto allowed = TestClient(port_).exchange("GET /v1/a HTTP/1.1\r\nHost: api.example.org\r\n\r\n");
        EXPECT_EQ(allowed.contains("ok"), port != 443) << port << allowed;
        auto denied = TestClient(port_).exchange("GET /v2/a HTTP/1.1\r\nHost: api.example.org\r\n\r\n");
        EXPECT_TRUE(denied.starts_with("HTTP/1.1 403")) << port << denied;
        stop();
    }
    EXPECT_EQ(origin_->requests().size(), 2u);
}

// Control: Session::still_allowed() looks at the rules of the host. What was upgraded ends with its rule.
TEST_F(ProxyTest, NewRequestRulesEndWhatBeganUnderOthers) {
    policy({.allow = {kHost}, .rules = {{.host = kHost, .paths = {"/ws"}}}});
    origin(outside(), [](const std::string&) {
        return std::vector{
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"s};
    });
    start();
    auto client = terminated();
    client->send(
        "GET /ws HTTP/1.1\r\nHost: api.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    ASSERT_TRUE(client->receive_until("\r\n\r\n").contains(" 101 "));
    auto change = [&](const Policy::Source& source) {
        auto compiled = *Policy::compile(source);
        return there([&] {
            auto before = std::exchange(agent_->policy, std::make_shared<const Policy>(std::move(compiled)));
            return proxy_->end_not_allowed("researcher", *before);
        });
    };
    EXPECT_EQ(change({.allow = {kHost, "www.example.org"}, .rules = {{.host = kHost, .paths = {"/ws"}}}}),
              0u);
    EXPECT_EQ(change({.allow = {kHost}, .rules = {{.host = kHost, .paths = {"/other"}}}}), 1u);
    EXPECT_TRUE(client->ended());
}

} // namespace
} // namespace nullbox::egress
