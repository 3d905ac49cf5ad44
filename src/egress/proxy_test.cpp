// Whom the proxy dials, how much it lets be open, and when it ends what was allowed.
#include "egress/proxy_fixture_for_test.h"

namespace nullbox::egress {
namespace {

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
                       thread_->loop(), [] { return std::vector{*IpAddress::parse("127.0.0.1")}; },
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
    EXPECT_EQ(origin_->requests().size(), 3u);
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
