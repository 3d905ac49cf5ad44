#include <gtest/gtest.h>

#include "egress/http_body.h"
#include "egress/http_head.h"
#include "egress/request_check.h"

namespace nullbox::egress::http {

static const HostName kHost = *HostName::parse("api.example.org");

static Result<RequestHead> request(std::string_view first, std::string_view fields) {
    return parse_request(std::string(first) + "\r\n" + std::string(fields) + "\r\n");
}
static std::string fields_of(const RequestHead& head) {
    auto text = encode(head);
    return text.substr(text.find('\n') + 1);
}

TEST(HttpHead, IsReadAndWrittenBack) {
    std::string text =
        "POST /v1?q=1 HTTP/1.1\r\nHost: api.example.org\r\nContent-Length: 5\r\nX-Empty:\r\n\r\n";
    EXPECT_EQ(head_end(text + "hello"), text.size());
    EXPECT_EQ(head_end(text.substr(0, text.size() - 1)), std::nullopt);
    auto head = parse_request(text);
    ASSERT_TRUE(head);
    EXPECT_EQ(head->method, "POST");
    EXPECT_EQ(head->framing, (Framing{.kind = Framing::Kind::Length, .length = 5}));
    EXPECT_EQ(encode(*head),
              "POST /v1?q=1 HTTP/1.1\r\nHost: api.example.org\r\nContent-Length: 5\r\nX-Empty: \r\n\r\n");
}

// Control: the strictness of parse_request(). Each of these is a request smuggled past somebody's proxy.
TEST(HttpHead, WhatTwoReadersMightReadDifferentlyIsRefused) {
    for (auto fields : {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                        "Content-Length: 5\r\nContent-Length: 5\r\n",
                        "Content-Length: 5, 5\r\n",
                        "Content-Length: +5\r\n",
                        "Content-Length: 0x5\r\n",
                        "Content-Length: -1\r\n",
                        "Content-Length:\r\n",
                        "Content-Length: 5 5\r\n",
                        "Content-Length: 99999999999999999999\r\n",
                        "Transfer-Encoding: gzip, chunked\r\n",
                        "Transfer-Encoding: identity\r\n",
                        "Transfer-Encoding: xchunked\r\n",
                        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                        "Host : a\r\n",
                        "X: a\r\n folded\r\n",
                        "X: a\nY: b\r\n",
                        "X: a\rY: b\r\n",
                        "X: \x01\r\n",
                        "no colon\r\n",
                        ": empty\r\n",
                        "X\t: a\r\n"})
        EXPECT_FALSE(request("GET / HTTP/1.1", fields)) << fields;
    EXPECT_FALSE(request("GET / HTTP/1.1", std::string_view("X: a\0b\r\n", 8)));
    for (auto first : {"GET /", "GET / HTTP/2.0", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1",
                       "G(T / HTTP/1.1", "GET /a b HTTP/1.1", "GET / HTTP/1.1\r", "GET /\x7f HTTP/1.1",
                       "GET / http/1.1", ""})
        EXPECT_FALSE(request(first, "Host: a\r\n")) << first;
    EXPECT_FALSE(request("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n"));
    std::string many;
    for (size_t i = 0; i <= kMaxFields; i++) many += "X: y\r\n";
    EXPECT_FALSE(request("GET / HTTP/1.1", many));
}

TEST(HttpHead, AnswersHaveTheirFraming) {
    auto framing = [](std::string_view text, std::string_view method = "GET") {
        return parse_response(text)->framing(method);
    };
    using enum Framing::Kind;
    EXPECT_EQ(framing("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")->length, 3);
    EXPECT_EQ(framing("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HEAD")->kind, None);
    EXPECT_EQ(framing("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n")->kind, Chunked);
    EXPECT_EQ(framing("HTTP/1.1 204 No Content\r\n\r\n")->kind, None);
    EXPECT_EQ(framing("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")->kind, None);
    EXPECT_EQ(framing("HTTP/1.0 200 OK\r\n\r\n")->kind, UntilClose);
    EXPECT_FALSE(framing("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for (auto text : {"HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/2 200 OK\r\n\r\n",
                      "ICY 200 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 999 X\r\n\r\n"})
        EXPECT_FALSE(parse_response(text)) << text;
}

// Control: check_request(), for each request.
TEST(RequestCheck, OnlyTheConnectionsOwnHostIsAsked) {
    auto status = [](std::string_view first, std::string_view fields, uint16_t port = 443,
                     bool tls = true) -> unsigned {
        auto checked = check_request(*request(first, fields), kHost, port, tls);
        return checked ? 200 : checked.error().status;
    };
    for (auto host : {"api.example.org", "API.EXAMPLE.ORG", "api.example.org.", "api.example.org:443"})
        EXPECT_EQ(status("GET / HTTP/1.1", std::string("Host: ") + host + "\r\n"), 200) << host;
    for (auto host : {"evil.test", "", "api.example.org:80", "api.example.org:", "api.example.org@evil.test",
                      "api.example.org, evil.test", "evil.test:443", "x.api.example.org", "[::1]",
                      "api.example.org:443:443"})
        EXPECT_EQ(status("GET / HTTP/1.1", std::string("Host: ") + host + "\r\n"), 403) << host;
    EXPECT_EQ(status("GET / HTTP/1.1", ""), 400) << "no Host";
    EXPECT_EQ(status("GET / HTTP/1.1", "Host: api.example.org\r\nHost: evil.test\r\n"), 400);
    EXPECT_EQ(status("CONNECT evil.test:443 HTTP/1.1", "Host: api.example.org\r\n"), 405);
    EXPECT_EQ(status("TRACE / HTTP/1.1", "Host: api.example.org\r\n"), 405);
    EXPECT_EQ(status("GET https://api.example.org/x HTTP/1.1", "Host: api.example.org\r\n"), 200);
    EXPECT_EQ(status("GET https://evil.test/x HTTP/1.1", "Host: api.example.org\r\n"), 403);
    EXPECT_EQ(status("GET https://api.example.org@evil.test/ HTTP/1.1", "Host: api.example.org\r\n"), 403);
    EXPECT_EQ(status("GET http://api.example.org/x HTTP/1.1", "Host: api.example.org\r\n"), 403)
        << "another scheme";
    EXPECT_EQ(status("GET ftp://api.example.org/x HTTP/1.1", "Host: api.example.org\r\n"), 403);
    EXPECT_EQ(status("GET evil.test HTTP/1.1", "Host: api.example.org\r\n"), 403);
    EXPECT_EQ(status("OPTIONS * HTTP/1.1", "Host: api.example.org\r\n"), 200);
    EXPECT_EQ(status("GET / HTTP/1.1", "Host: api.example.org:8080\r\n", 8080, false), 200);
    EXPECT_EQ(status("GET / HTTP/1.1", "Host: api.example.org\r\nExpect: 200-maybe\r\n"), 417);
}

TEST(RequestCheck, NothingForOneHopGoesOn) {
    auto head =
        request("POST https://api.example.org?q HTTP/1.0",
                "Host: API.example.org:443\r\nConnection: keep-alive, X-Mine, Content-Length\r\nX-Mine: 1\r\n"
                "Proxy-Authorization: x\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"
                "Content-Length: 2\r\nAccept: */*\r\n");
    auto checked = check_request(*head, kHost, 443, true);
    ASSERT_TRUE(checked);
    EXPECT_EQ(checked->target, "/?q");
    EXPECT_EQ(fields_of(*checked), "Host: api.example.org\r\nAccept: */*\r\nContent-Length: 2\r\n\r\n");
}

TEST(RequestCheck, WebSocketKeepsItsUpgrade) {
    auto head =
        *request("GET /ws HTTP/1.1", "Host: api.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                                     "Sec-WebSocket-Key: k\r\n");
    EXPECT_TRUE(is_websocket(head));
    EXPECT_EQ(
        fields_of(*check_request(head, kHost, 443, true)),
        "Host: api.example.org\r\nSec-WebSocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
}

// What a reader finds in a body that comes in pieces of this size.
static Result<std::string> read_body(Framing framing, std::string_view stream, size_t piece_bytes,
                                     std::string* rest = nullptr) {
    BodyReader reader(framing);
    std::string held, content;
    while (!reader.done()) {
        auto piece = reader.next(held);
        if (!piece) return piece.error();
        content += piece->content;
        held.erase(0, piece->taken);
        if (piece->taken > 0 || reader.done()) continue;
        if (stream.empty()) {
            if (auto ended = reader.ended(); !ended) return ended.error();
            break;
        }
        held += stream.substr(0, piece_bytes);
        stream.remove_prefix(std::min(piece_bytes, stream.size()));
    }
    if (rest) *rest = held + std::string(stream);
    return content;
}

TEST(HttpBody, EndsWhereItsFramingSays) {
    using enum Framing::Kind;
    for (size_t size : {1u, 2u, 3u, 7u, 100u}) {
        std::string rest;
        EXPECT_EQ(*read_body({.kind = Length, .length = 5}, "helloGET /", size, &rest), "hello");
        EXPECT_EQ(rest, "GET /");
        EXPECT_EQ(
            *read_body({.kind = Chunked}, "5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\nGET /", size, &rest),
            "hello!");
        EXPECT_EQ(rest, "GET /");
        EXPECT_EQ(*read_body({.kind = UntilClose}, "all of it", size), "all of it");
        EXPECT_EQ(*read_body({}, "GET /", size, &rest), "");
        EXPECT_EQ(rest, "GET /");
    }
    EXPECT_EQ(chunk("hello") + std::string(kLastChunk), "5\r\nhello\r\n0\r\n\r\n");
}

TEST(HttpBody, BrokenFramingIsAnError) {
    using enum Framing::Kind;
    for (std::string_view stream :
         {"5\r\nhello", "5\nhello\n0\n\n", "g\r\n", "\r\n", "-1\r\n", " 5\r\nhello\r\n", "0x5\r\nhello",
          "5\r\nhelloX\r\n0\r\n\r\n", "1000000000000000\r\n", "5;\x01\r\nhello\r\n0\r\n\r\n", "0\r\n"})
        EXPECT_FALSE(read_body({.kind = Chunked}, stream, 100)) << stream;
    EXPECT_FALSE(read_body({.kind = Chunked}, std::string(5000, '1'), 100));
    EXPECT_FALSE(read_body({.kind = Length, .length = 5}, "hell", 100));
    std::string trailers = "0\r\n";
    for (int i = 0; i < 500; i++) trailers += "Trailer-Of-Some-Length: value\r\n";
    EXPECT_FALSE(read_body({.kind = Chunked}, trailers + "\r\n", 100));
}

} // namespace nullbox::egress::http
