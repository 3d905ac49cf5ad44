// The probe against real listeners on the loopback.
#include "agent_init/health_probe.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {
namespace {

using namespace std::chrono_literals;
using guest_link::CheckHealth;
using guest_link::Health;

class HealthProbeTest : public testing::Test {
protected:
    void SetUp() override {
        listener_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ASSERT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        socklen_t size = sizeof address;
        ASSERT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
        port_ = ntohs(address.sin_port);
        ASSERT_EQ(::listen(listener_.get(), 4), 0);
    }
    void begin(bool http, uint32_t timeout_ms = 5000) {
        health_.reset();
        probe_ = HealthProbe::begin(
            *loop_,
            {.number = 7, .http = http, .port = port_, .path = "/health?deep=1", .timeout_ms = timeout_ms},
            [this](Health health) {
                EXPECT_FALSE(health_) << "told twice";
                health_ = std::move(health);
            });
        EXPECT_FALSE(health_) << "not from within begin";
    }
    void turn(int rounds = 20) {
        for (int i = 0; i < rounds; i++) EXPECT_TRUE(loop_->run_once(2ms));
    }
    // The agent's end of the connection.
    Fd accept() {
        for (int i = 0; i < 1000; i++) {
            Fd taken(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (taken) return taken;
            turn(1);
        }
        ADD_FAILURE() << "nobody connects";
        return {};
    }
    // What the probe makes of the answer, and then of the connection's end.
    std::string judge(std::string_view answer) {
        begin(true);
        Fd agent = accept();
        turn();
        EXPECT_TRUE(write_all(agent.get(), answer));
        turn();
        agent.reset();
        turn();
        EXPECT_TRUE(health_) << answer;
        if (!health_) return "nothing";
        EXPECT_EQ(health_->number, 7U);
        return cat(health_->good ? "good: " : "bad: ", health_->says);
    }

    std::unique_ptr<Loop> loop_ = *Loop::make();
    Fd listener_;
    uint16_t port_ = 0;
    std::optional<Health> health_;
    std::unique_ptr<HealthProbe> probe_;
};

TEST_F(HealthProbeTest, TcpWantsAConnectionAndNoMore) {
    begin(false);
    turn();
    ASSERT_TRUE(health_);
    EXPECT_EQ(*health_, (Health{.number = 7, .good = true, .says = "accepts connections"}));
    listener_.reset();
    begin(false);
    turn();
    ASSERT_TRUE(health_);
    EXPECT_EQ(*health_, (Health{.number = 7, .good = false, .says = "connection refused"}));
}

TEST_F(HealthProbeTest, TheRequestIsOneThatServersTake) {
    begin(true);
    Fd agent = accept();
    turn();
    char request[1024] = {};
    ASSERT_GT(::recv(agent.get(), request, sizeof request - 1, 0), 0);
    EXPECT_EQ(std::string(request), cat("GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:", port_,
                                        "\r\nUser-Agent: nullbox-health\r\nAccept: */*\r\n"
                                        "Connection: close\r\n\r\n"));
}

TEST_F(HealthProbeTest, OnlyA2xxIsGood) {
    EXPECT_EQ(judge("HTTP/1.1 200 OK\r\n\r\nfine"), "good: answered 200");
    EXPECT_EQ(judge("HTTP/1.0 204\n"), "good: answered 204");
    EXPECT_EQ(judge("HTTP/1.1 503 Service Unavailable\r\n"), "bad: answered 503");
    EXPECT_EQ(judge("HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n"), "bad: answered 302");
}

TEST_F(HealthProbeTest, NonsenseIsBounded) {
    EXPECT_EQ(judge("HTTP/1.1 2000 OK\r\n"), "bad: answered, but not in HTTP");
    EXPECT_EQ(judge("HTTP/1.1 +20 OK\r\n"), "bad: answered, but not in HTTP");
    EXPECT_EQ(judge("HTTP/2 200\r\n"), "bad: answered, but not in HTTP");
    EXPECT_EQ(judge("SSH-2.0-OpenSSH\r\n"), "bad: answered, but not in HTTP");
    EXPECT_EQ(judge(std::string(2000, 'x')), "bad: answered, but not in HTTP") << "a line without an end";
    EXPECT_EQ(judge(""), "bad: closed the connection without an answer");
    EXPECT_EQ(judge("HTTP/1.1 200"), "bad: closed the connection without an answer") << "cut short";
}

TEST_F(HealthProbeTest, AnAgentThatNeverAnswersIsNotWaitedForWithoutEnd) {
    begin(true, 1000);
    Fd agent = accept();
    for (int i = 0; i < 1000 && !health_; i++) turn(1);
    ASSERT_TRUE(health_);
    EXPECT_EQ(health_->says, "no answer within 1 s");
    EXPECT_FALSE(health_->good);
}

TEST_F(HealthProbeTest, WhatFollowsTheFirstLineIsReadAndForgotten) {
    begin(true);
    Fd agent = accept();
    turn();
    EXPECT_TRUE(write_all(agent.get(), "HTTP/1.1 200 OK\r\n"));
    turn();
    ASSERT_TRUE(health_) << "told at once";
    char request[1024];
    EXPECT_GT(::recv(agent.get(), request, sizeof request, 0), 0);
    EXPECT_TRUE(write_all(agent.get(), std::string(10'000, 'x')));
    turn();
    EXPECT_LT(::recv(agent.get(), request, sizeof request, MSG_DONTWAIT), 0) << "no reset, no end yet";
    ASSERT_TRUE(set_nonblocking(agent.get()));
    std::string flood(size_t{1} << 20, 'x');
    for (int i = 0; i < 100; i++) {
        (void)::send(agent.get(), flood.data(), flood.size(), MSG_NOSIGNAL);
        turn(2);
    }
    EXPECT_LT(::send(agent.get(), "x", 1, MSG_NOSIGNAL), 0) << "up to a bound";
}

TEST_F(HealthProbeTest, ADroppedProbeTellsNothing) {
    begin(false);
    probe_.reset();
    turn();
    EXPECT_FALSE(health_);
}

} // namespace
} // namespace nullbox::agent_init
