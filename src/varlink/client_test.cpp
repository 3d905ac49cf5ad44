// The client, against a server on a thread of its own.
#include "varlink/client.h"

#include "varlink/server_fixture_for_test.h"

namespace nullbox::varlink {

class ClientTest : public ServerTest {
protected:
    void SetUp() override {
        ServerTest::SetUp();
        listen();
        auto pipe = make_pipe();
        ASSERT_TRUE(pipe.has_value());
        quit_ = std::move(pipe->write);
        thread_ = std::thread([this, end = std::move(pipe->read)] {
            auto watch = loop_->watch(end.get(), EPOLLIN, [this](uint32_t) { loop_->stop(); });
            EXPECT_TRUE(watch.has_value());
            EXPECT_TRUE(loop_->run().has_value());
        });
    }
    void TearDown() override {
        quit_.reset();
        thread_.join();
        ServerTest::TearDown();
    }
    Fd quit_;
    std::thread thread_;
};

TEST_F(ClientTest, Calls) {
    auto client = Client::connect(path_);
    ASSERT_TRUE(client.has_value()) << client.error().message;
    for (int i = 0; i < 3; i++) {
        auto answer = client->call("io.nullbox.test.Echo", {{"text", "hi"}});
        ASSERT_TRUE(answer.has_value()) << answer.error().message;
        EXPECT_EQ(answer->at("text"), "hi");
    }
}

TEST_F(ClientTest, AVarlinkErrorKeepsTheConnection) {
    auto client = *Client::connect(path_);
    auto answer = client.call("io.nullbox.test.Drop", {});
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().message, "io.nullbox.Internal: the service did not answer this request");
    answer = client.call("io.nullbox.test.Echo", {{"texd", "x"}});
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().message,
              "org.varlink.service.InvalidParameter: text: is missing; must be a text");
    answer = client.call("io.nullbox.test.None", {});
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().message,
              R"(org.varlink.service.MethodNotFound: {"method":"io.nullbox.test.None"})");
    EXPECT_TRUE(client.call("io.nullbox.test.Echo", {{"text", "x"}}).has_value());
}

TEST_F(ClientTest, AStreamCanBeReadToItsEndOrLeft) {
    auto client = *Client::connect(path_);
    std::vector<int64_t> seen;
    auto all = client.call_more("io.nullbox.test.Count", {}, [&](const json::object& answer) {
        seen.push_back(answer.at("n").as_int64());
        return true;
    });
    EXPECT_TRUE(all.has_value());
    EXPECT_EQ(seen, (std::vector<int64_t>{1, 2, 3}));
    seen.clear();
    auto part = client.call_more("io.nullbox.test.Count", {}, [&](const json::object&) {
        seen.push_back(0);
        return false;
    });
    EXPECT_TRUE(part.has_value());
    EXPECT_EQ(seen.size(), 1u);
    auto after = client.call("io.nullbox.test.Echo", {{"text", "x"}});
    ASSERT_FALSE(after.has_value()) << "the connection is closed";
    EXPECT_TRUE(after.error().message.contains("connect again")) << after.error().message;
}

TEST_F(ClientTest, AStreamThatGoesQuietEndsAtItsLimit) {
    auto client = *Client::connect(path_);
    auto start = Clock::now();
    auto quiet =
        client.call_more("io.nullbox.test.Keep", {}, [](const json::object&) { return true; }, 100ms);
    ASSERT_FALSE(quiet.has_value());
    EXPECT_EQ(quiet.error().code, ETIMEDOUT);
    EXPECT_GE(Clock::now() - start, 100ms);
    EXPECT_LT(Clock::now() - start, 5s);
}

TEST_F(ClientTest, ATimeOutEndsTheConnection) {
    auto client = *Client::connect(path_);
    auto start = Clock::now();
    auto answer = client.call("io.nullbox.test.Keep", {}, 100ms);
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().code, ETIMEDOUT);
    EXPECT_GE(Clock::now() - start, 100ms);
    EXPECT_LT(Clock::now() - start, 5s);
    EXPECT_FALSE(client.call("io.nullbox.test.Echo", {{"text", "x"}}).has_value());
}

TEST(Client, SaysWhereItCouldNotConnect) {
    auto client = Client::connect("/nonexistent/x.sock");
    ASSERT_FALSE(client.has_value());
    EXPECT_TRUE(client.error().message.contains("/nonexistent/x.sock")) << client.error().message;
    EXPECT_EQ(client.error().code, ENOENT);
}

} // namespace nullbox::varlink
