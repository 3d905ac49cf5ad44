// Connections to servers that several connections of an agent use in turn: who may, and when one ends.
#include "egress/proxy_fixture_for_test.h"
#include "egress/server_pool.h"

namespace nullbox::egress {
namespace {

const std::string kPost = "POST / HTTP/1.1\r\nHost: api.example.org\r\nContent-Length: 2\r\n\r\nhi";

class SharedServersTest : public ProxyTest {
protected:
    std::string get() { return TestClient(port_).exchange(kGet); }
    void change(const Policy::Source& source) {
        auto compiled = *Policy::compile(source);
        there([&] {
            auto before = std::exchange(agent_->policy, std::make_shared<const Policy>(std::move(compiled)));
            return proxy_->end_not_allowed("researcher", *before);
        });
    }
    size_t idle() {
        return there([this] { return agent_->idle_servers; });
    }
};

// Control: ServerPool::put(). Each of the agent's connections is in the records all the same.
TEST_F(SharedServersTest, OneServesManyClients) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    for (int i = 0; i < 4; i++) EXPECT_TRUE(one_exchange(kGet).starts_with("HTTP/1.1 200"));
    EXPECT_TRUE(one_exchange(kPost).starts_with("HTTP/1.1 200"));
    EXPECT_EQ(origin_->requests().size(), 5u);
    EXPECT_EQ(origin_->connections(), 1);
    EXPECT_EQ(idle(), 1u);
    auto all = records();
    EXPECT_EQ(std::ranges::count_if(all,
                                    [](const Record& record) {
                                        return record.verdict == Verdict::Allowed &&
                                               record.kind == RecordKind::Connection &&
                                               record.address == "8.8.4.4";
                                    }),
              5);
}

// Control: ServerPool::Key.
TEST_F(SharedServersTest, NoneIsSharedWithAnotherAgentOrHost) {
    policy({.allow = {kHost, "other.example.org"}});
    dns_.set("other.example.org", {"8.8.4.4"});
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    start(80);
    EXPECT_TRUE(get().contains("ok"));
    there([&] {
        auto other = std::make_shared<Agent>("other", tap_link(1), Policy());
        other->policy = agent_->policy;
        return agent_ = other;
    });
    EXPECT_TRUE(get().contains("ok"));
    EXPECT_EQ(origin_->connections(), 2);
    there([&] {
        destination_ = {name("other.example.org"), 80};
        return true;
    });
    EXPECT_TRUE(
        TestClient(port_).exchange("GET / HTTP/1.1\r\nHost: other.example.org\r\n\r\n").contains("ok"));
    EXPECT_EQ(origin_->connections(), 3);
}

// Control: addresses in take(). A name that has moved is looked at as if there were none.
TEST_F(SharedServersTest, OneIsNotForANameThatHasMoved) {
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    start(80);
    TestClient kept(port_);
    EXPECT_TRUE(kept.exchange(kGet).contains("ok"));
    dns_.set(kHost, {"10.0.0.5"});
    there([this] { return reach_.link = 7; }); // another network: what was looked up is forgotten
    EXPECT_TRUE(get().contains("a private address"));
    EXPECT_TRUE(kept.exchange(kGet).contains("ok")) << "its own stays";
    EXPECT_EQ(origin_->connections(), 1);
}

// Control: drop() in end_not_allowed(). What was dialled under other rules is not there under these.
TEST_F(SharedServersTest, OneEndsWithItsRules) {
    policy({.allow = {kHost}, .allow_private = {kHost}});
    dns_.set(kHost, {"10.0.0.5"});
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    start(80);
    EXPECT_TRUE(get().contains("ok"));
    EXPECT_EQ(idle(), 1u);
    change({.allow = {kHost}});
    EXPECT_EQ(idle(), 0u);
    EXPECT_TRUE(get().contains("a private address"));
    EXPECT_EQ(origin_->requests().size(), 1u);
}

// Control: drop() in end_agent().
TEST_F(SharedServersTest, OneEndsWithItsAgent) {
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    start(80);
    EXPECT_TRUE(get().contains("ok"));
    there([&] {
        agent_->attached = false;
        proxy_->end_agent("researcher");
        return true;
    });
    EXPECT_EQ(idle(), 0u);
}

// Control: quiet() in put(), silent() in take(). A server cannot answer a request before it is made.
TEST_F(SharedServersTest, BytesThatNobodyAskedForGoToNobody) {
    for (bool at_once : {true, false}) {
        origin(nullptr, [&](const std::string&) {
            auto more = reply("planted");
            return at_once ? std::vector{reply("ok") + more} : std::vector{reply("ok"), more};
        });
        start(80);
        EXPECT_TRUE(get().ends_with("ok"));
        std::this_thread::sleep_for(50ms);
        auto second = get();
        EXPECT_TRUE(second.ends_with("ok")) << second;
        EXPECT_EQ(origin_->connections(), 2);
        stop();
        origin_.reset();
    }
}

// Control: silent() in take(). A request with a body cannot be repeated.
TEST_F(SharedServersTest, OneThatItsServerHasClosedIsNotUsed) {
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok"), ""s}; });
    start(80);
    for (int i = 0; i < 3; i++) {
        EXPECT_TRUE(TestClient(port_).exchange(kPost).starts_with("HTTP/1.1 200")) << i;
        std::this_thread::sleep_for(20ms);
    }
    EXPECT_EQ(origin_->connections(), 3);
}

// Control: sweep(), and the time that an idle one is kept.
TEST_F(SharedServersTest, AnIdleOneEnds) {
    times_.keep_alive = 300ms;
    origin(nullptr, [](const std::string&) { return std::vector{reply("ok")}; });
    start(80);
    EXPECT_TRUE(get().contains("ok"));
    EXPECT_TRUE(eventually([this] { return agent_->idle_servers == 0; }));
}

// Control: Turns' patience. More answers that last than may go at a time, and a request beside them.
TEST_F(SharedServersTest, StreamsThatLastHoldNobodyUp) {
    std::atomic<bool> over = false;
    std::atomic<size_t> lasting = 0;
    origin(nullptr, [&](const std::string& request) {
        if (!request.contains("/stream")) return std::vector{reply("ok")};
        lasting++;
        while (!over) std::this_thread::sleep_for(5ms);
        return std::vector{reply("stream")};
    });
    start(80);
    std::vector<std::unique_ptr<TestClient>> clients;
    constexpr size_t kStreams = ServerPool::kMostAtOnce + 4;
    for (size_t i = 0; i < kStreams; i++) {
        clients.push_back(std::make_unique<TestClient>(port_));
        clients.back()->send("GET /stream HTTP/1.1\r\nHost: api.example.org\r\n\r\n");
    }
    EXPECT_TRUE(get().ends_with("ok"));
    EXPECT_TRUE(eventually([&] { return lasting == kStreams; }));
    over = true;
    for (auto& client : clients) EXPECT_TRUE(client->receive_until("stream").ends_with("stream"));
}

// Control: the patience of Agent::handshakes. Hellos after which nothing comes.
TEST_F(SharedServersTest, HandshakesThatStallHoldNobodyUp) {
    policy_with_secret();
    origin(outside(), [](const std::string&) { return std::vector{reply("ok")}; });
    start();
    std::vector<std::unique_ptr<TestClient>> stalled;
    for (int i = 0; i < 10; i++) {
        stalled.push_back(std::make_unique<TestClient>(port_));
        stalled.back()->send(real_hello(kHost));
    }
    EXPECT_TRUE(one_exchange(kGet).starts_with("HTTP/1.1 200"));
}

// --- turns

class TurnsTest : public testing::Test {
protected:
    // Says its letter once it has its turn, and has it until its time is over.
    void have(char letter, std::chrono::milliseconds time) { tasks_.spawn(has(letter, time)); }
    Task<> has(char letter, std::chrono::milliseconds time) {
        Turn turn(turns_, *loop_);
        co_await turn.wait();
        said_ += letter;
        co_await sleep_for(*loop_, time);
        said_ += static_cast<char>(letter - 'a' + 'A');
    }
    std::unique_ptr<Loop> loop_ = *Loop::make();
    Tasks tasks_{*loop_};
    std::shared_ptr<Turns> turns_;
    std::string said_;
};

TEST_F(TurnsTest, SoManyAtATimeInTheirOrder) {
    turns_ = std::make_shared<Turns>(1);
    for (char letter : "abcd"s) have(letter, 1ms);
    ASSERT_TRUE(tasks_.run());
    EXPECT_EQ(said_, "aAbBcCdD");
}

TEST_F(TurnsTest, WhoWaitsInVainHasOneOfItsOwn) {
    turns_ = std::make_shared<Turns>(1, Patience{.still = 20ms, .most = 10s});
    have('a', 500ms);
    have('b', 1ms);
    have('c', 1ms);
    ASSERT_TRUE(tasks_.run());
    EXPECT_TRUE(said_.starts_with("ab") && said_.ends_with("A")) << said_;
}

} // namespace
} // namespace nullbox::egress
