// The relay between real loopback sockets and a socket pair where the VM has a vsock stream.
#include "agent_init/stream_relay.h"

#include <deque>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"

namespace nullbox::agent_init {
namespace {

using namespace std::chrono_literals;

class StreamRelayTest : public testing::Test {
protected:
    void SetUp() override {
        auto made = StreamRelay::listen(*loop_, 0, [this]() -> Result<Fd> {
            if (refuse_) return error("the host has no memory service");
            auto pair = *make_socket_pair(SOCK_STREAM | SOCK_NONBLOCK);
            hosts_.push_back(std::move(pair.first));
            return std::move(pair.second);
        });
        ASSERT_TRUE(made) << made.error().message;
        relay_ = *std::move(made);
    }
    Fd connect() {
        Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(relay_->port());
        EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        EXPECT_TRUE(set_nonblocking(socket.get()));
        return socket;
    }
    void turn(int rounds = 10) {
        for (int i = 0; i < rounds; i++) EXPECT_TRUE(loop_->run_once(1ms));
    }
    // Until count bytes came, or the end; "" and ended when the stream is at its end.
    std::string take(const Fd& from, size_t count) {
        std::string text;
        for (int i = 0; i < 20'000 && text.size() < count && !ended_; i++) {
            char chunk[65536];
            ssize_t got = ::recv(from.get(), chunk, sizeof chunk, 0);
            if (got > 0) text.append(chunk, static_cast<size_t>(got));
            ended_ = got == 0;
            if (got < 0) turn(1);
        }
        return text;
    }
    // Sends all of it, turning the loop while the other end is full.
    void give(const Fd& to, std::string_view text) {
        for (int i = 0; i < 20'000 && !text.empty(); i++) {
            ssize_t sent = ::send(to.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (sent > 0) text.remove_prefix(static_cast<size_t>(sent));
            if (sent < 0) turn(1);
        }
        EXPECT_TRUE(text.empty());
    }

    std::unique_ptr<Loop> loop_ = *Loop::make();
    std::deque<Fd> hosts_;
    bool refuse_ = false, ended_ = false;
    std::unique_ptr<StreamRelay> relay_;
};

TEST_F(StreamRelayTest, BothWaysAndBothEnds) {
    Fd guest = connect();
    turn();
    ASSERT_EQ(hosts_.size(), 1U);
    give(guest, "question");
    EXPECT_EQ(take(hosts_[0], 8), "question");
    ::shutdown(guest.get(), SHUT_WR);
    EXPECT_EQ(take(hosts_[0], 1), "");
    EXPECT_TRUE(std::exchange(ended_, false)) << "the end is passed on";
    give(hosts_[0], "answer");
    EXPECT_EQ(take(guest, 6), "answer") << "the other direction goes on";
    hosts_[0].reset();
    EXPECT_EQ(take(guest, 1), "");
    EXPECT_TRUE(ended_);
    turn();
    EXPECT_EQ(relay_->connections(), 0U);
}

TEST_F(StreamRelayTest, ManyBytesArriveWholeAndASlowReaderStopsTheWriter) {
    Fd guest = connect();
    turn();
    std::string flood(8 << 20, 'x');
    size_t sent = 0;
    for (int idle = 0; idle < 50;) {
        ssize_t count = ::send(guest.get(), flood.data() + sent, flood.size() - sent, MSG_NOSIGNAL);
        sent += static_cast<size_t>(std::max<ssize_t>(count, 0));
        idle = count > 0 ? 0 : idle + 1;
        turn(1);
        if (sent == flood.size()) break;
    }
    EXPECT_LT(sent, flood.size()) << "nobody reads: the writer has to wait";
    size_t received = 0;
    for (int i = 0; i < 200'000 && received < flood.size(); i++) {
        if (sent < flood.size()) {
            ssize_t count = ::send(guest.get(), flood.data() + sent, flood.size() - sent, MSG_NOSIGNAL);
            sent += static_cast<size_t>(std::max<ssize_t>(count, 0));
        }
        char chunk[65536];
        ssize_t got = ::recv(hosts_[0].get(), chunk, sizeof chunk, 0);
        received += static_cast<size_t>(std::max<ssize_t>(got, 0));
        turn(1);
    }
    EXPECT_EQ(received, flood.size());
}

TEST_F(StreamRelayTest, AHostThatIsNotThereEndsTheConnection) {
    refuse_ = true;
    Fd guest = connect();
    EXPECT_EQ(take(guest, 1), "");
    EXPECT_TRUE(ended_);
    refuse_ = ended_ = false;
    Fd again = connect();
    turn();
    give(again, "x");
    EXPECT_EQ(take(hosts_.back(), 1), "x");
}

TEST_F(StreamRelayTest, ConnectionsAreBoundedAndTheNextWaitsItsTurn) {
    std::vector<Fd> guests;
    for (size_t i = 0; i < kMostRelayConnections + 3; i++) {
        guests.push_back(connect());
        turn(2);
    }
    EXPECT_EQ(hosts_.size(), kMostRelayConnections);
    EXPECT_EQ(relay_->connections(), kMostRelayConnections);
    guests[0].reset();
    hosts_[0].reset();
    turn();
    EXPECT_EQ(hosts_.size(), kMostRelayConnections + 1);
}

TEST_F(StreamRelayTest, AProgramThatVanishesFreesItsPlace) {
    Fd guest = connect();
    turn();
    linger now{.l_onoff = 1, .l_linger = 0}; // close() resets
    ::setsockopt(guest.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    guest.reset();
    turn();
    EXPECT_EQ(relay_->connections(), 0U);
    EXPECT_EQ(take(hosts_[0], 1), "");
    EXPECT_TRUE(ended_);
}

} // namespace
} // namespace nullbox::agent_init
