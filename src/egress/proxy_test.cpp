// The proxy with real sockets: a client on one side, a server of OpenSSL's own on the other, a warden that
// speaks Varlink. Each test names the control that it would miss: take that out, and it fails.
#include <csignal>
#include <filesystem>
#include <future>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "egress/authority.h"
#include "egress/client_hello.h"
#include "egress/dns_for_test.h"
#include "egress/injector.h"
#include "egress/proxy_for_test.h"
#include "egress/scrubber.h"
#include "net/loop_in_asio.h"

namespace nullbox::egress {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

constexpr const char* kHost = "api.example.org";
const std::string kSecret = "sk-live-4eC39HqLyjWDarjtT1zdp7dc";
const std::string kPlaceholder = "nullbox-KEY-0123456789abcdefghijkl";
const std::string kGet = "GET / HTTP/1.1\r\nHost: api.example.org\r\n\r\n";

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

HostName name(std::string_view text) { return *HostName::parse(text); }

// The proxy's side, in a thread of its own; everything of it is made and torn down there or before and after.
class ProxyTest : public testing::Test {
protected:
    void SetUp() override {
        ::signal(SIGPIPE, SIG_IGN); // OpenSSL's own sockets write to what the proxy has closed
        ASSERT_TRUE(make_directories(folder_));
        warden_.emplace(folder_ + "/warden.sock");
        warden_->grant(kHost, {{"Authorization", "Bearer " + kSecret, "KEY"}});
        box_.emplace(*Authority::open(folder_ + "/box.pem", 0));
        outside_.emplace(*Authority::open(folder_ + "/outside.pem", 0));
        ASSERT_TRUE(write_file_atomic(folder_ + "/roots.pem", outside_->certificate_pem(), 0644));
        roots_.emplace(folder_ + "/roots.pem");
        dns_.set(kHost, {"8.8.4.4"});
        policy({.allow = {kHost}});
    }
    void TearDown() override {
        stop();
        origin_.reset();
        warden_.reset();
        std::filesystem::remove_all(folder_);
    }

    void policy(Policy::Source source) {
        auto compiled = Policy::compile(source);
        ASSERT_TRUE(compiled) << compiled.error().message;
        agent_ = std::make_shared<Agent>("researcher", tap_link(0), *compiled);
    }
    void policy_with_secret(std::string allow = kHost) { policy({.allow = {allow}, .inject = {binding()}}); }
    static Binding binding() {
        return {.secret = "KEY",
                .host = name(kHost),
                .header = "Authorization",
                .format = "Bearer {secret}",
                .placeholder = kPlaceholder};
    }
    SSL_CTX* outside(const char* host = kHost) { return *outside_->server_context(name(host)); }
    void origin(SSL_CTX* context, TestOrigin::Handler handler) {
        origin_.emplace(context, std::move(handler));
    }

    // Everything is set up: from here the proxy serves connections to this destination.
    void start(uint16_t port = 443, Host host = name(kHost)) {
        destination_ = {host, port};
        loop_ = *Loop::make();
        context_ = std::make_unique<asio::io_context>(1);
        bridge_ = *net::LoopInAsio::attach(*context_, *loop_);
        upstream_.emplace(
            *context_, [] { return std::vector{*IpAddress::parse("127.0.0.1")}; },
            Upstream::Options{
                .port = dns_.port(), .timeout = 500ms, .hosts = {}, .reach = [this] { return reach_; }});
        injector_.emplace(*loop_, folder_ + "/warden.sock");
        proxy_.emplace(
            *context_,
            ProxySetup{
                .upstream = *upstream_,
                .injector = *injector_,
                .authority = *box_,
                .roots = *roots_,
                .records = book_,
                .identify = [this](const auto&, const auto&) { return Flow{agent_, destination_}; },
                .own_addresses = [] { return std::vector{OwnAddress{*IpAddress::parse("203.0.113.9"), 24}}; },
                .route =
                    [this](const IpAddress& address, uint16_t) {
                        dialled_ += address.text() + " ";
                        bool there = origin_ && (address.v6 || !ipv4_is_dead_);
                        return tcp::endpoint(asio::ip::address_v4::loopback(), there ? origin_->port() : 1);
                    },
                .times = times_,
                .most_of_one_agent = most_connections_});
        ASSERT_TRUE(proxy_->listen(listener()));
        thread_ = std::thread([this] { context_->run(); });
    }
    void stop() {
        if (!thread_.joinable()) return;
        there([this] {
            proxy_.reset();
            return true;
        });
        eventually([this] { return agent_->open_connections == 0; });
        context_->stop();
        thread_.join();
        bridge_.reset();
        context_.reset();
    }
    Fd listener() {
        Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t size = sizeof address;
        EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
        ::listen(fd.get(), 64);
        ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ntohs(address.sin_port);
        return fd;
    }
    // On the proxy's thread, so that nothing races.
    template <typename Do>
    std::invoke_result_t<Do> there(Do todo) {
        std::promise<decltype(todo())> done;
        asio::post(*context_, [&] { done.set_value(todo()); });
        return done.get_future().get();
    }
    // True as soon as it is, on the proxy's thread; false after some seconds.
    template <typename Is>
    bool eventually(Is is) {
        for (int i = 0; i < 500; i++, std::this_thread::sleep_for(10ms))
            if (there(is)) return true;
        return false;
    }
    std::vector<Record> records() {
        return there([this] { return book_.last(1000, [](const Record&) { return true; }); });
    }
    std::vector<Record> denials() {
        auto all = records();
        std::erase_if(all, [](const Record& record) { return record.verdict != Verdict::Denied; });
        return all;
    }
    // A client that has finished its TLS handshake with the box standing in for the host.
    std::unique_ptr<TestClient> terminated() {
        auto client = std::make_unique<TestClient>(port_);
        EXPECT_EQ(client->tls(kHost, box_->certificate_pem()), "");
        return client;
    }
    std::string one_exchange(std::string_view request) { return terminated()->exchange(request); }
    // No byte of the secret has been at the client, no byte of anything at the origin.
    void expect_untouched_origin() {
        EXPECT_EQ(origin_->all_bytes(), "");
        EXPECT_EQ(origin_->requests().size(), 0);
    }

    std::string folder_ = cat(testing::TempDir(), "egress_proxy_", ::getpid());
    std::optional<Authority> box_, outside_;
    std::optional<TrustedRoots> roots_;
    std::optional<TestWarden> warden_;
    std::optional<TestOrigin> origin_;
    TestDns dns_;
    RecordBook book_{{.now_ms = [] { return int64_t{1}; }}};
    std::shared_ptr<Agent> agent_;
    Destination destination_{IpAddress{}, 0};
    ProxyTimes times_;
    size_t most_connections_ = 64;
    std::string dialled_;
    Reach reach_;
    bool ipv4_is_dead_ = false;
    uint16_t port_ = 0;
    std::unique_ptr<Loop> loop_;
    std::unique_ptr<asio::io_context> context_;
    std::unique_ptr<net::LoopInAsio> bridge_;
    std::optional<Upstream> upstream_;
    std::optional<Injector> injector_;
    std::optional<Proxy> proxy_;
    std::thread thread_;
};

// --- terminate: the secret goes out and does not come back

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

// --- splice: TLS end to end, held to its name

// Control: none; this is what must work. The client sees the server's own certificate.
TEST_F(ProxyTest, SplicedTlsReachesTheServerItself) {
    origin(outside(), [](const std::string&) { return std::vector{reply("from the server")}; });
    start();
    TestClient client(port_);
    ASSERT_EQ(client.tls(kHost, outside_->certificate_pem()), "");
    EXPECT_TRUE(client.exchange(kGet).contains("from the server"));
    client.end();
    EXPECT_TRUE(client.ended());
    EXPECT_EQ(warden_->asked(), 0);
    stop(); // the end is recorded when the connection is over
    auto all = book_.last(10, [](const Record&) { return true; });
    ASSERT_GE(all.size(), 1);
    EXPECT_EQ(all[0].verdict, Verdict::Allowed);
    EXPECT_EQ(all[0].address, "8.8.4.4");
    EXPECT_EQ(all[0].rule, kHost);
}

// Control: check_hello(), in both modes.
TEST_F(ProxyTest, AHelloForAnotherServerGoesNowhere) {
    for (bool secret : {false, true}) {
        if (secret) policy_with_secret();
        origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
        start();
        EXPECT_EQ(TestClient(port_).tls("evil.test", outside_->certificate_pem()), "tlsv1 unrecognized name");
        EXPECT_EQ(TestClient(port_).tls("", outside_->certificate_pem()), "tlsv1 unrecognized name");
        EXPECT_EQ(TestClient(port_).tls(kHost, outside_->certificate_pem(), 0xfe0d),
                  "tlsv1 alert access denied")
            << "ECH";
        EXPECT_TRUE(TestClient(port_).exchange(kGet).starts_with(secret ? "HTTP/1.1 403" : "HTTP/1.1 400"));
        EXPECT_EQ(origin_->connections(), 0);
        ASSERT_GE(denials().size(), 4);
        EXPECT_EQ(denials()[0].add, "allow = [\"evil.test\"]");
        stop();
        origin_.reset();
    }
}

// A server's request for a second hello, and two hellos by hand.
std::string record_of(const std::string& message) {
    return "\x16\x03\x03"s + static_cast<char>(message.size() >> 8) + static_cast<char>(message.size()) +
           message;
}
std::string hello_for(const std::string& host) {
    auto list = "\x00\x00"s + static_cast<char>(host.size()) + host;
    auto extension = "\x00\x00\x00"s + static_cast<char>(list.size() + 2) + "\x00"s +
                     static_cast<char>(list.size()) + list;
    auto body = "\x03\x03"s + std::string(32, 'r') + "\x00\x00\x02\x13\x01\x01\x00\x00"s +
                static_cast<char>(extension.size()) + extension;
    return record_of("\x01\x00\x00"s + static_cast<char>(body.size()) + body);
}
const std::string kRetry = record_of("\x02\x00\x00\x28\x03\x03"
                                     "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\xc2"
                                     "\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"
                                     "\x00\x13\x01\x00\x00\x00"s);

// Control: forward_second_hello(). The server believes the second hello.
TEST_F(ProxyTest, ASecondHelloForAnotherServerGoesNowhere) {
    std::string seen;
    origin(nullptr, {});
    origin_->raw = [&](int fd) {
        char bytes[8192];
        auto count = ::recv(fd, bytes, sizeof bytes, 0);
        seen.append(bytes, static_cast<size_t>(std::max<ssize_t>(count, 0)));
        ::send(fd, kRetry.data(), kRetry.size(), MSG_NOSIGNAL);
        while ((count = ::recv(fd, bytes, sizeof bytes, 0)) > 0)
            seen.append(bytes, static_cast<size_t>(count));
    };
    start();
    {
        TestClient client(port_);
        client.send(hello_for(kHost) + "\x14\x03\x03\x00\x01\x01"s + hello_for("evil.test")); // all at once
        auto answer = client.receive_all();
        EXPECT_EQ(answer, kRetry + alert_record(Alert::UnrecognizedName));
    }
    stop();
    origin_.reset();
    EXPECT_TRUE(seen.starts_with(hello_for(kHost)));
    EXPECT_FALSE(seen.contains("evil.test"));
}

TEST_F(ProxyTest, AnHonestSecondHelloPasses) {
    auto* context = outside();
    SSL_CTX_set1_groups_list(context, "P-384"); // the client offers a key for another group first
    origin(context, [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    TestClient client(port_);
    ASSERT_EQ(client.tls(kHost, outside_->certificate_pem(), 0, "X25519:P-384"), "");
    EXPECT_TRUE(client.exchange(kGet).starts_with("HTTP/1.1 200"));
}

// --- plain HTTP

TEST_F(ProxyTest, PlainHttpIsHeldToItsHost) {
    origin(nullptr, [](const std::string&) { return std::vector{reply("plain")}; });
    start(80);
    TestClient client(port_);
    auto answer = client.exchange(kGet);
    EXPECT_TRUE(answer.contains("Content-Length: 5\r\n")) << answer;
    EXPECT_TRUE(answer.ends_with("plain")) << answer;
    EXPECT_TRUE(client.exchange("GET http://evil.test/ HTTP/1.1\r\nHost: api.example.org\r\n\r\n")
                    .starts_with("HTTP/1.1 403"));
    EXPECT_TRUE(
        TestClient(port_).exchange("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n").starts_with("HTTP/1.1 403"));
    EXPECT_TRUE(TestClient(port_)
                    .exchange("GET / HTTP/1.1\r\nHost: api.example.org\r\nHost: x\r\n\r\n")
                    .starts_with("HTTP/1.1 400"));
    EXPECT_NE(TestClient(port_).tls(kHost, outside_->certificate_pem()), "");
    EXPECT_EQ(origin_->requests().size(), 1);
}

TEST_F(ProxyTest, ARequestAfterTheServerClosedItsKeptConnectionIsMadeAnew) {
    origin(nullptr, [](const std::string& request) {
        if (request.starts_with("GET")) return std::vector{reply("ok"), ""s}; // and closes, without saying so
        return std::vector{reply("ok")};
    });
    start(80);
    TestClient client(port_);
    for (int i = 0; i < 3; i++) {
        EXPECT_TRUE(client.exchange(kGet).starts_with("HTTP/1.1 200")) << i;
        std::this_thread::sleep_for(20ms);
    }
    EXPECT_EQ(origin_->requests().size(), 3);
}

// --- relay: a port of its own

TEST_F(ProxyTest, AnotherPortPassesAnyProtocol) {
    policy({.allow = {"api.example.org:2222"}});
    origin(nullptr, {});
    origin_->raw = [](int fd) { // speaks first, as SSH does
        ::send(fd, "SSH-2.0-x\r\n", 11, MSG_NOSIGNAL);
        char bytes[100];
        auto count = ::recv(fd, bytes, sizeof bytes, 0);
        ::send(fd, bytes, static_cast<size_t>(std::max<ssize_t>(count, 0)), MSG_NOSIGNAL);
    };
    start(2222);
    TestClient client(port_);
    EXPECT_EQ(client.receive_until("\n"), "SSH-2.0-x\r\n");
    client.send("hello\n");
    EXPECT_EQ(client.receive_until("\n"), "hello\n");
}

// Control: serve_relay() holds TLS to the name on other ports too.
TEST_F(ProxyTest, TlsOnAnotherPortIsHeldToItsName) {
    policy({.allow = {"api.example.org:8443"}});
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start(8443);
    TestClient client(port_);
    ASSERT_EQ(client.tls(kHost, outside_->certificate_pem()), "");
    EXPECT_TRUE(client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 200"));
    EXPECT_EQ(TestClient(port_).tls("evil.test", outside_->certificate_pem()), "tlsv1 unrecognized name");
}

// --- where it goes

// Control: may_dial() in dial(). The name is allowed, the address is not.
TEST_F(ProxyTest, ANameThatPointsInsideIsNotDialled) {
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    for (auto address :
         {"10.0.0.5", "127.0.0.1", "169.254.169.254", "203.0.113.9", "198.18.0.2", "192.168.0.1"}) {
        dns_.set(kHost, {address});
        there([&] {
            return upstream_.emplace(
                       *context_, [] { return std::vector{*IpAddress::parse("127.0.0.1")}; },
                       Upstream::Options{.port = dns_.port(), .timeout = 500ms}),
                   true;
        });
        EXPECT_EQ(TestClient(port_).tls(kHost, outside_->certificate_pem()), "tlsv1 alert access denied")
            << address;
    }
    EXPECT_EQ(origin_->connections(), 0);
    EXPECT_EQ(dialled_, "");
    auto denied = denials();
    ASSERT_EQ(denied.size(), 6);
    EXPECT_EQ(denied[0].add, "allow_private = [\"api.example.org\"]");
    EXPECT_EQ(denied[0].reason, "api.example.org is at 10.0.0.5, a private address");
    EXPECT_EQ(denied[2].add, "") << "no line opens the metadata address";
}

TEST_F(ProxyTest, AllowPrivateOpensPrivateAddressesAndNoMore) {
    policy({.allow = {kHost}, .allow_private = {kHost}});
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    dns_.set(kHost, {"169.254.169.254", "10.0.0.5"});
    start();
    TestClient client(port_);
    ASSERT_EQ(client.tls(kHost, outside_->certificate_pem()), "");
    EXPECT_EQ(dialled_, "10.0.0.5 ");
}

// Control: lookup_other() in dial().
TEST_F(ProxyTest, OneFamilyThatDoesNotWorkLeavesTheOther) {
    reach_ = {.v4 = true, .v6 = true};
    ipv4_is_dead_ = true;
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    dns_.set(kHost, {"8.8.4.4", "8.8.8.8", "9.9.9.9", "2606:4700::1111"});
    start();
    TestClient client(port_);
    ASSERT_EQ(client.tls(kHost, outside_->certificate_pem()), "");
    EXPECT_EQ(dialled_, "8.8.4.4 8.8.8.8 2606:4700::1111 ");
}

TEST_F(ProxyTest, ABoxWithIpv6OnlyReachesAHostWithIpv6Only) {
    reach_ = {.v4 = false, .v6 = true};
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    dns_.set(kHost, {"2606:4700::1111"});
    start();
    TestClient client(port_);
    ASSERT_EQ(client.tls(kHost, outside_->certificate_pem()), "");
    EXPECT_EQ(dialled_, "2606:4700::1111 ");
}

// Control: may_dial() in try_addresses(), for the second family too.
TEST_F(ProxyTest, TheOtherFamilysAddressesAreCheckedAsWell) {
    reach_ = {.v4 = true, .v6 = true};
    ipv4_is_dead_ = true;
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    dns_.set(kHost, {"8.8.4.4", "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.5", "fd00:ec2::254"});
    start();
    EXPECT_NE(TestClient(port_).tls(kHost, outside_->certificate_pem()), "");
    EXPECT_EQ(dialled_, "8.8.4.4 ");
}

// Control: Policy::decide() in serve().
TEST_F(ProxyTest, ADeniedPortIsToldInTheClientsProtocol) {
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start(8080);
    auto answer = TestClient(port_).exchange(kGet);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 403")) << answer;
    EXPECT_TRUE(answer.contains("allow = [\"api.example.org:8080\"]")) << answer;
    EXPECT_EQ(TestClient(port_).tls(kHost, outside_->certificate_pem()), "tlsv1 alert access denied");
    EXPECT_EQ(origin_->connections(), 0);
    EXPECT_EQ(dns_.queries(), 0) << "nothing is looked up for it";
}

TEST_F(ProxyTest, AServerThatIsNotThereIsAFailureAndNotADenial) {
    origin(nullptr, {});
    dns_.set("x", {});
    start(80);
    origin_.reset();
    auto answer = TestClient(port_).exchange(kGet);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 502")) << answer;
    EXPECT_TRUE(answer.contains("Connection refused")) << answer;
    EXPECT_TRUE(denials().empty());
}

// --- bounds

// Control: most_of_one_agent.
TEST_F(ProxyTest, ConnectionsOfOneAgentAreLimited) {
    most_connections_ = 3;
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    start(80);
    std::vector<std::unique_ptr<TestClient>> held;
    for (int i = 0; i < 3; i++) {
        held.push_back(std::make_unique<TestClient>(port_));
        EXPECT_TRUE(held.back()->exchange(kGet).starts_with("HTTP/1.1 200"));
    }
    EXPECT_EQ(TestClient(port_).exchange(kGet), "");
    held.pop_back();
    EXPECT_TRUE(eventually([&] { return agent_->open_connections < 3; }));
    EXPECT_TRUE(TestClient(port_).exchange(kGet).starts_with("HTTP/1.1 200"));
}

// Control: Injector::Turn. More than warden takes of one peer at a time.
TEST_F(ProxyTest, ManyWhoNeedSecretsAtOnceWaitForTheirTurn) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    warden_->takes_ms = 3;
    std::vector<std::unique_ptr<TestClient>> clients;
    for (int i = 0; i < 60; i++) clients.push_back(terminated());
    for (auto& client : clients) client->send(kGet);
    for (auto& client : clients) EXPECT_TRUE(client->receive_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
    EXPECT_EQ(warden_->asked(), 60);
}

// Control: Deadline and sweep().
TEST_F(ProxyTest, AClientThatSaysNothingIsClosed) {
    times_.hello = times_.keep_alive = 200ms;
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    start(80);
    TestClient silent(port_), slow(port_);
    slow.send("GET / HTTP/1.1\r\nHost: api.exa");
    auto before = Clock::now();
    EXPECT_TRUE(silent.ended());
    EXPECT_TRUE(slow.ended());
    EXPECT_LT(Clock::now() - before, 10s) << "not by the idle time of ten minutes";
    EXPECT_TRUE(eventually([&] { return proxy_->connections() == 0; }));
}

TEST_F(ProxyTest, AHeadWithoutEndIsRefused) {
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    start(80);
    TestClient client(port_);
    client.send("GET / HTTP/1.1\r\nHost: api.example.org\r\nX: " + std::string(40'000, 'x'));
    EXPECT_TRUE(client.receive_all().starts_with("HTTP/1.1 431"));
}

// Control: Session::still_allowed(). What new rules forbid, or would send another way, ends at once.
TEST_F(ProxyTest, NewRulesEndWhatTheyForbidAndNothingElse) {
    policy({.allow = {kHost, "other.example.org"}});
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    TestClient client(port_);
    ASSERT_EQ(client.tls(kHost, outside_->certificate_pem()), "");
    auto change = [&](const Policy::Source& source) {
        auto compiled = *Policy::compile(source);
        return there([&] {
            auto before = std::exchange(agent_->policy, std::make_shared<const Policy>(std::move(compiled)));
            return proxy_->end_not_allowed("researcher", *before);
        });
    };
    EXPECT_EQ(change({.allow = {"*.example.org"}}), 0u) << "another entry allows it as well";
    EXPECT_TRUE(client.exchange(kGet).contains("ok"));
    EXPECT_EQ(change({.allow = {kHost}, .inject = {binding()}}), 1u) << "now a secret goes there";
    EXPECT_TRUE(client.ended());
    TestClient again(port_);
    ASSERT_EQ(again.tls(kHost, box_->certificate_pem()), "");
    auto begin = Clock::now();
    EXPECT_EQ(change({.allow = {"other.example.org"}}), 1u);
    EXPECT_TRUE(again.ended());
    EXPECT_LT(Clock::now() - begin, 100ms);
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

// --- budgets

// Control: Session::dial() asks the ledger. Many connections are counted as one agent's.
TEST_F(ProxyTest, ConnectionsEndWithTheirBudgetAndThatIsSaidOnce) {
    policy({.allow = {kHost}, .budget = {.connections = 3}});
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    start(80);
    for (int i = 0; i < 3; i++) EXPECT_TRUE(TestClient(port_).exchange(kGet).contains("ok"));
    for (int i = 0; i < 5; i++) {
        auto answer = TestClient(port_).exchange(kGet);
        EXPECT_TRUE(answer.starts_with("HTTP/1.1 429 ")) << answer;
        EXPECT_TRUE(answer.contains("budget = { connections_per_hour = 6 }")) << answer;
    }
    EXPECT_EQ(origin_->connections(), 3);
    auto denied = denials();
    ASSERT_EQ(denied.size(), 1u);
    EXPECT_EQ(denied[0].kind, RecordKind::Budget);
    EXPECT_EQ(denied[0].count, 1u);
    EXPECT_EQ(denied[0].add, "budget = { connections_per_hour = 6 }");
    EXPECT_EQ(there([this] { return agent_->counters.connections_denied; }), 5u);
}

// Control: TcpStream asks before bytes go on, whoever speaks.
TEST_F(ProxyTest, ARunningFlowEndsAtItsLastByte) {
    constexpr size_t kLimit = 200'000;
    policy({.allow = {kHost}, .budget = {.bytes = kLimit}});
    origin(outside(), [](const std::string&) { return std::vector{reply(std::string(150'000, 'x'))}; });
    start();
    TestClient first(port_), second(port_);
    ASSERT_EQ(first.tls(kHost, outside_->certificate_pem()), "");
    ASSERT_EQ(second.tls(kHost, outside_->certificate_pem()), "");
    EXPECT_GT(first.exchange(kGet).size(), 150'000u);
    second.send(kGet);
    EXPECT_LT(second.receive_all().size(), 60'000u) << "the budget is the agent's, not the connection's";
    first.send(kGet);
    EXPECT_EQ(first.receive_all(), "");
    EXPECT_NE(TestClient(port_).tls(kHost, outside_->certificate_pem()), "") << "nor is a new one made";
    EXPECT_EQ(origin_->connections(), 2);
    EXPECT_EQ(there([this] { return agent_->ledger->used(Resource::Bytes, Clock::now()); }), kLimit);
    EXPECT_EQ(denials().size(), 1u);
}

// Control: HttpRelay::exchange(). A kept connection does not make requests free.
TEST_F(ProxyTest, RequestsAreCountedOnKeptConnectionsToo) {
    policy({.allow = {kHost}, .rules = {{.host = kHost, .methods = {"GET"}}}, .budget = {.requests = 2}});
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    auto client = terminated();
    EXPECT_TRUE(client->exchange(kGet).contains("ok"));
    EXPECT_TRUE(client->exchange(kGet).contains("ok"));
    auto answer = client->exchange(kGet);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 429 ")) << answer;
    EXPECT_TRUE(answer.contains("Retry-After: ")) << answer;
    EXPECT_EQ(origin_->requests().size(), 2u);
    EXPECT_TRUE(one_exchange(kGet).starts_with("HTTP/1.1 429 "));
}

// Control: end_agent(). An agent that is stopped has no connection left.
TEST_F(ProxyTest, ADetachedAgentsConnectionsEnd) {
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    TestClient client(port_);
    ASSERT_EQ(client.tls(kHost, outside_->certificate_pem()), "");
    there([&] {
        agent_->attached = false;
        proxy_->end_agent("researcher");
        return true;
    });
    EXPECT_TRUE(client.ended());
}

} // namespace
} // namespace nullbox::egress
