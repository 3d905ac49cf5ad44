// The proxy with real sockets: a client on one side, a server of OpenSSL's own on the other, a warden that
// speaks Varlink. Each test names the control that it would miss: take that out, and it fails.
#pragma once

#include <csignal>
#include <filesystem>
#include <gtest/gtest.h>
#include <netinet/in.h>
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
#include "egress/loop_thread_for_test.h"
#include "egress/proxy_for_test.h"
#include "egress/scrubber.h"

namespace nullbox::egress {

using namespace std::chrono_literals;
using namespace std::string_literals;

inline constexpr const char* kHost = "api.example.org";
inline const std::string kSecret = "sk-live-4eC39HqLyjWDarjtT1zdp7dc";
inline const std::string kPlaceholder = "nullbox-KEY-0123456789abcdefghijkl";
inline const std::string kGet = "GET / HTTP/1.1\r\nHost: api.example.org\r\n\r\n";

inline HostName name(std::string_view text) { return *HostName::parse(text); }

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
        thread_ = std::make_unique<LoopThread>();
        upstream_.emplace(
            thread_->loop(), [] { return std::vector{*IpAddress::parse("127.0.0.1")}; },
            Upstream::Options{
                .port = dns_.port(), .timeout = 500ms, .hosts = {}, .reach = [this] { return reach_; }});
        injector_.emplace(thread_->loop(), folder_ + "/warden.sock");
        proxy_.emplace(
            thread_->tasks(),
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
                        return Endpoint{*IpAddress::parse("127.0.0.1"),
                                        there ? origin_->port() : uint16_t{1}};
                    },
                .times = times_,
                .most_of_one_agent = most_connections_});
        ASSERT_TRUE(proxy_->listen(listener()));
        thread_->start();
    }
    void stop() {
        if (!thread_) return;
        there([this] {
            proxy_.reset();
            return true;
        });
        eventually([this] { return agent_->open_connections == 0; });
        thread_.reset();
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
        return thread_->there(std::move(todo));
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
    std::unique_ptr<LoopThread> thread_; // after what runs on it is gone
    std::optional<Upstream> upstream_;
    std::optional<Injector> injector_;
    std::optional<Proxy> proxy_;
};

} // namespace nullbox::egress
