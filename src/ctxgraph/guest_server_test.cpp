#include "ctxgraph/guest_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/loop.h" // Clock
#include "base/text.h"
#include "ctxgraph/test_memory.h"

namespace nullbox::ctxgraph {

namespace asio = boost::asio;
using namespace std::chrono_literals;

// The server on a context that the test turns by hand; agents are the other ends of socket pairs, and every
// byte on them is the test's own.
class GuestServerTest : public TestMemory {
protected:
    void SetUp() override {
        TestMemory::SetUp();
        writes_ = std::make_unique<Writes>(
            *store_, [this](std::function<void()> soon) { asio::post(context_, std::move(soon)); });
        memory_ = std::make_unique<Memory>(*store_, *writes_);
        start();
    }
    // As main() does: what is left over goes before the context.
    void TearDown() override {
        turn(20ms);
        guests_.reset();
        memory_.reset();
        writes_.reset();
    }
    void start(GuestLimits limits = {}) {
        guests_ = std::make_unique<GuestServer>(context_, *memory_, limits);
    }

    Fd connect(const Access& access) {
        auto pair = *make_socket_pair(SOCK_STREAM);
        auto served = guests_->serve(std::move(pair.first), access);
        EXPECT_TRUE(served.has_value()) << served.error().message;
        EXPECT_TRUE(set_nonblocking(pair.second.get()).has_value());
        return std::move(pair.second);
    }
    void turn(std::chrono::milliseconds time) {
        context_.restart();
        context_.run_for(time);
    }
    void send(const Fd& peer, std::string_view bytes) {
        while (!bytes.empty()) {
            ssize_t count = ::send(peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (count > 0) bytes.remove_prefix(static_cast<size_t>(count));
            if (count < 0 && errno != EAGAIN) return;
            turn(1ms);
        }
    }
    // What comes until a text is in it, or the connection's end ("<end>"), or for as long as nothing comes.
    std::string receive(const Fd& peer, std::string_view until = "\xff",
                        std::chrono::milliseconds patience = 2000ms) {
        std::string out;
        for (auto limit = Clock::now() + patience; Clock::now() < limit;) {
            char bytes[65536];
            ssize_t count = ::recv(peer.get(), bytes, sizeof bytes, 0);
            if (count == 0) return out + "<end>";
            if (count > 0) out.append(bytes, static_cast<size_t>(count));
            if (out.contains(until)) return out;
            if (count < 0) turn(2ms);
        }
        return out;
    }
    static std::string request_text(std::string_view method, std::string_view target,
                                    std::string_view body = "", std::string_view headers = "") {
        return cat(method, " ", target, " HTTP/1.1\r\nHost: 127.0.0.1:9100\r\n", headers,
                   body.empty() ? "" : cat("Content-Length: ", body.size(), "\r\n"), "\r\n", body);
    }
    std::string exchange(const Fd& peer, const std::string& bytes, std::string_view until = "}") {
        send(peer, bytes);
        return receive(peer, until);
    }

    asio::io_context context_;
    std::unique_ptr<GuestServer> guests_;
};

TEST_F(GuestServerTest, ARequestAfterAnotherOnOneConnection) {
    auto peer = connect(ana_);
    auto put = exchange(peer, request_text("PUT", "/v1/memory/shared/k", "[1,2]"), "}");
    EXPECT_TRUE(put.starts_with(
        "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
        "Content-Length: "))
        << put;
    EXPECT_TRUE(
        exchange(peer, request_text("GET", "/v1/memory/shared/k"), "links").contains("\"value\":[1,2]"));
    auto noted =
        exchange(peer,
                 request_text("POST", "/mcp", R"({"jsonrpc":"2.0","method":"notifications/initialized"})",
                              "Content-Type: application/json\r\n"),
                 "\r\n\r\n");
    EXPECT_TRUE(noted.starts_with("HTTP/1.1 202 Accepted\r\n")) << noted;
    EXPECT_TRUE(noted.contains("Content-Length: 0"));
    EXPECT_EQ(guests_->connections(), 1u);
    ::shutdown(peer.get(), SHUT_WR);
    EXPECT_EQ(receive(peer), "<end>");
    turn(5ms);
    EXPECT_EQ(guests_->connections(), 0u);
}

TEST_F(GuestServerTest, BytesComeAsTheyLike) {
    auto peer = connect(ana_);
    for (char byte : request_text("PUT", "/v1/memory/shared/k", "\"slow\""))
        send(peer, std::string_view(&byte, 1));
    EXPECT_TRUE(receive(peer, "}").contains("201"));
    // Two at once, answered in order; and a body in chunks.
    send(peer, request_text("GET", "/v1/memory/shared/k") + request_text("GET", "/v1/namespaces") +
                   request_text("PUT", "/v1/memory/shared/c", "", "Transfer-Encoding: chunked\r\n") +
                   "2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n");
    auto both = receive(peer, "201 Created");
    EXPECT_LT(both.find("slow"), both.find("namespaces\":["));
    EXPECT_TRUE(both.contains("201 Created")) << both;
    EXPECT_EQ((*store_->head("shared", "c"))->value, "[1]");
}

TEST_F(GuestServerTest, ContinueAndOldVersionsAndClose) {
    auto peer = connect(ana_);
    send(peer, "PUT /v1/memory/shared/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nExpect: "
               "100-continue\r\n\r\n");
    EXPECT_EQ(receive(peer, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    EXPECT_TRUE(exchange(peer, "1", "}").contains("201 Created"));
    auto closed = exchange(peer, request_text("GET", "/v1/namespaces", "", "Connection: close\r\n"), "<end>");
    EXPECT_TRUE(closed.contains("Connection: close"));
    peer = connect(ana_);
    send(peer, "GET /v1/namespaces HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
    auto old = receive(peer);
    EXPECT_TRUE(old.contains("200 OK") && old.ends_with("<end>")) << old;
}

TEST_F(GuestServerTest, WhatIsNoHttp) {
    std::string many;
    for (int i = 0; i < 500; i++) many += cat("X-", i, ": ", std::string(20, 'x'), "\r\n");
    struct {
        std::string bytes;
        const char* status;
    } wrong[] = {
        {"nonsense\r\n\r\n", "400"},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n", "400"},
        {"GET /v1/namespaces HTTP/2.0\r\nHost: localhost\r\n\r\n", "400"},
        {"GET /v1/namespaces HTTP/1.1\r\nHost localhost\r\n\r\n", "400"},
        {"GET /v1/namespaces HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
         "403"}, // unfolded, it is a wrong Host
        {cat("GET /", std::string(9000, 'a'), " HTTP/1.1\r\nHost: localhost\r\n\r\n"), "431"},
        {cat("GET / HTTP/1.1\r\nHost: localhost\r\n", many, "\r\n"), "431"},
        {"PUT /v1/memory/shared/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n", "413"},
        {"PUT /v1/memory/shared/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
         "99999999999999999999\r\n\r\n",
         "400"},
        {"PUT /v1/memory/shared/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: "
         "2\r\n\r\n12",
         "400"},
        {"PUT /v1/memory/shared/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: "
         "chunked\r\n\r\n0\r\n\r\n",
         "400"},
        {"PUT /v1/memory/shared/k HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
         "400"},
        {"GET /v1/namespaces HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"},
        {"GET /v1/namespaces HTTP/1.1\r\n\r\n", "403"},
        {"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
    };
    for (const auto& each : wrong) {
        auto peer = connect(ana_);
        send(peer, each.bytes);
        ::shutdown(peer.get(), SHUT_WR);
        auto answer = receive(peer);
        EXPECT_TRUE(answer.starts_with(cat("HTTP/1.1 ", each.status)))
            << each.bytes.substr(0, 80) << " -> " << answer;
        EXPECT_TRUE(answer.ends_with("<end>")) << each.bytes.substr(0, 80) << " -> " << answer;
    }
    EXPECT_EQ(store_->totals()->entries, 0u);
    // Too long in chunks, where no length says so before.
    auto peer = connect(ana_);
    send(peer, request_text("PUT", "/v1/memory/shared/k", "", "Transfer-Encoding: chunked\r\n"));
    for (int i = 0; i < 18; i++) send(peer, cat("10000\r\n", std::string(65536, '1'), "\r\n"));
    EXPECT_TRUE(receive(peer, "}").starts_with("HTTP/1.1 413"));
}

TEST_F(GuestServerTest, ABodyOfOneMegabyteGoesThrough) {
    auto peer = connect(ana_);
    auto body = cat("\"", std::string((1 << 20) - 2, 'x'), "\"");
    EXPECT_TRUE(exchange(peer, request_text("PUT", "/v1/memory/shared/k", body), "}").contains("too_large"));
    body = cat(std::string((1 << 20) - 1, ' '), "1");
    EXPECT_TRUE(
        exchange(peer, request_text("PUT", "/v1/memory/shared/k", body), "}").contains("201 Created"));
}

TEST_F(GuestServerTest, AWatchTellsTheSecondAgent) {
    auto ben = connect(ben_), ana = connect(ana_);
    auto head = exchange(ben, request_text("GET", "/v1/watch?namespace=shared&prefix=news/"),
                         "watching\":{\"position\":0}}\n");
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n")) << head;
    EXPECT_TRUE(head.contains("Transfer-Encoding: chunked")) << head;
    exchange(ana, request_text("PUT", "/v1/memory/shared/other", "1"));
    exchange(ana, request_text("PUT", "/v1/memory/ana/news%2F1", "1"));
    exchange(ana, request_text("PUT", "/v1/memory/shared/news%2F1", "\"boat\""));
    auto told = receive(ben, "\n\r\n");
    EXPECT_TRUE(told.contains(R"("key":"news/1","kind":"value","value":"boat")")) << told;
    EXPECT_TRUE(told.contains(R"("author":"agent:ana")"));
    EXPECT_FALSE(told.contains("other"));
    exchange(ana, request_text("DELETE", "/v1/memory/shared/news%2F1"));
    EXPECT_TRUE(receive(ben, "\n\r\n").contains("tombstone"));
    // From the beginning: what was missed comes first.
    auto late = connect(ben_);
    auto all = exchange(late, request_text("GET", "/v1/watch?namespace=shared&after=0"), "tombstone");
    EXPECT_TRUE(all.contains("\"key\":\"other\"") && all.contains("boat") && all.contains("tombstone"))
        << all;
    EXPECT_EQ(guests_->watches(), 2u);
    ben.reset();
    late.reset();
    turn(20ms);
    EXPECT_EQ(guests_->watches(), 0u);
    EXPECT_EQ(memory_->watchers(), 0u);
    EXPECT_EQ(guests_->connections(), 1u);
}

TEST_F(GuestServerTest, AWatchBeatsAndEndsWithItsPeer) {
    start({.heartbeat = 20ms});
    auto peer = connect(ben_);
    auto beats = exchange(peer, request_text("GET", "/v1/watch?namespace=shared"),
                          "heartbeat\":{\"position\":0}}\n\r\n");
    EXPECT_TRUE(beats.contains("{\"heartbeat\":{\"position\":0}}\n")) << beats;
    send(peer, "x"); // whatever it says, it is over
    EXPECT_TRUE(receive(peer).ends_with("<end>"));
    EXPECT_EQ(guests_->watches(), 0u);
}

TEST_F(GuestServerTest, OneWhoDoesNotReadIsLeft) {
    start({.write = 50ms});
    std::string large = cat("\"", std::string(200'000, 'x'), "\"");
    auto ana = connect(ana_), ben = connect(ben_);
    exchange(ben, request_text("GET", "/v1/watch?namespace=shared"), "watching");
    for (int i = 0; i < 6; i++) exchange(ana, request_text("PUT", cat("/v1/memory/shared/k", i), large));
    turn(300ms);
    EXPECT_EQ(guests_->watches(), 0u);
    auto reader = connect(ben_);
    for (int i = 0; i < 10; i++) send(reader, request_text("GET", "/v1/memory/shared/k0"));
    turn(300ms);
    EXPECT_EQ(guests_->connections(), 1u);
}

TEST_F(GuestServerTest, EveryLimitOfAnAgentIsItsOwn) {
    start({.connections = 6, .connections_of_agent = 4, .watches_of_agent = 2});
    auto refused = [&](const Access& access) {
        auto pair = *make_socket_pair(SOCK_STREAM);
        return guests_->serve(std::move(pair.first), access);
    };
    std::vector<Fd> peers;
    for (int i = 0; i < 4; i++) peers.push_back(connect(ben_));
    EXPECT_EQ(refused(ben_).error().message, "agent:ben has 4 connections open");
    for (int i = 0; i < 2; i++)
        exchange(peers[static_cast<size_t>(i)], request_text("GET", "/v1/watch?namespace=shared"),
                 "watching");
    auto third = exchange(peers[2], request_text("GET", "/v1/watch?namespace=shared"), "}}");
    EXPECT_TRUE(third.contains("429") && third.contains("at most 2 watches")) << third;
    EXPECT_TRUE(exchange(peers[2], request_text("GET", "/v1/namespaces"), "]}").contains("200 OK"));
    peers.push_back(connect(ana_));
    peers.push_back(connect(ana_));
    EXPECT_EQ(refused(ana_).error().message, "there are 6 connections open");
    peers.clear();
    turn(20ms);
    EXPECT_EQ(guests_->connections(), 0u);
    EXPECT_TRUE(refused(ben_).has_value());
}

TEST_F(GuestServerTest, RequestsBeyondTheLimitWaitTheirTurn) {
    start({.requests_of_agent = 1, .request = 100ms});
    auto slow = connect(ana_), quick = connect(ana_), other = connect(ben_);
    send(slow, "PUT /v1/memory/shared/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n\"");
    send(quick, request_text("GET", "/v1/namespaces"));
    EXPECT_TRUE(exchange(other, request_text("GET", "/v1/namespaces"), "]}").contains("200 OK"));
    EXPECT_EQ(receive(quick, "]}", 20ms), "");
    EXPECT_TRUE(receive(quick, "]}").contains("200 OK")); // the slow one's time is over
    EXPECT_TRUE(receive(slow).ends_with("<end>"));
}

TEST_F(GuestServerTest, SilenceEndsAConnection) {
    start({.request = 30ms, .idle = 60ms});
    auto silent = connect(ana_), half = connect(ben_);
    send(half, "GET /v1/names");
    EXPECT_EQ(receive(silent), "<end>");
    EXPECT_EQ(receive(half), "<end>");
    turn(5ms);
    EXPECT_EQ(guests_->connections(), 0u);
}

TEST_F(GuestServerTest, OnlyConnectedUnixStreams) {
    auto pipe = *make_pipe();
    EXPECT_FALSE(guests_->serve(std::move(pipe.read), ana_).has_value());
    auto packets = *make_socket_pair(SOCK_SEQPACKET);
    EXPECT_FALSE(guests_->serve(std::move(packets.first), ana_).has_value());
    Fd inet(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_FALSE(guests_->serve(std::move(inet), ana_).has_value());
    EXPECT_FALSE(guests_->serve(Fd(::open("/dev/null", O_RDWR | O_CLOEXEC)), ana_).has_value());
    EXPECT_EQ(guests_->connections(), 0u);
}

TEST_F(GuestServerTest, TakenApartWithEverythingGoingOn) {
    start({.requests_of_agent = 1});
    auto watching = connect(ben_), slow = connect(ana_), waiting = connect(ana_), idle = connect(ana_);
    exchange(watching, request_text("GET", "/v1/watch?namespace=shared"), "watching");
    send(slow, "PUT /v1/memory/shared/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n\"");
    send(waiting, request_text("PUT", "/v1/memory/shared/k", "1"));
    EXPECT_EQ(guests_->connections(), 4u);
}

} // namespace nullbox::ctxgraph
