// What goes through as it is: TLS end to end, plain HTTP, any protocol on a port of its own.
#include "egress/proxy_fixture_for_test.h"

namespace nullbox::egress {
namespace {

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

// More than any buffer holds, while who receives is slow: it stays in the kernel, and arrives as it is.
std::string much() {
    std::string bytes(24 << 20, 0);
    uint32_t state = 1;
    for (char& c : bytes) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return bytes;
}

std::string read_to_the_end(int fd) {
    std::string all;
    std::vector<char> piece(1 << 20);
    for (ssize_t count = 0; (count = ::recv(fd, piece.data(), piece.size(), 0)) > 0;)
        all.append(piece.data(), static_cast<size_t>(count));
    return all;
}

TEST_F(ProxyTest, MuchArrivesWholeInBothDirections) {
    policy({.allow = {"api.example.org:2222"}});
    const auto sent = much();
    std::string received;
    origin(nullptr, {});
    origin_->raw = [&](int fd) {
        std::this_thread::sleep_for(100ms);
        received = read_to_the_end(fd);
        for (std::string_view rest = sent; !rest.empty();) {
            auto count = ::send(fd, rest.data(), rest.size(), MSG_NOSIGNAL);
            if (count <= 0) return;
            rest.remove_prefix(static_cast<size_t>(count));
        }
    };
    start(2222);
    TestClient client(port_);
    client.send(sent);
    client.end();
    std::this_thread::sleep_for(100ms);
    EXPECT_TRUE(client.receive_all() == sent);
    EXPECT_TRUE(received == sent);
    stop();
    EXPECT_EQ(agent_->counters.bytes_up, sent.size());
    EXPECT_EQ(agent_->counters.bytes_down, sent.size());
}

// Control: move_to() asks before bytes go on.
TEST_F(ProxyTest, MuchEndsWithTheBudgetToo) {
    constexpr size_t kLimit = 5'000'000;
    policy({.allow = {"api.example.org:2222"}, .budget = {.bytes = kLimit}});
    const auto sent = much();
    origin(nullptr, {});
    origin_->raw = [&](int fd) { (void)!::send(fd, sent.data(), sent.size(), MSG_NOSIGNAL); };
    start(2222);
    TestClient client(port_);
    std::this_thread::sleep_for(100ms);
    auto received = client.receive_all();
    EXPECT_GT(received.size(), kLimit / 2);
    EXPECT_LE(received.size(), kLimit);
    EXPECT_TRUE(sent.starts_with(received));
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

} // namespace
} // namespace nullbox::egress
