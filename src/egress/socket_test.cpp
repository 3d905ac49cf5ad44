// Real sockets on loopback: one end waits in coroutines, the other is plain.
#include "egress/socket.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace nullbox::egress {
namespace {

using namespace std::chrono_literals;

class SocketTest : public testing::Test {
protected:
    static Fd listener(Endpoint& at) {
        Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_in name{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
        EXPECT_EQ(::listen(fd.get(), 8), 0);
        at = *local_endpoint(fd.get());
        return fd;
    }
    static Fd connect_to(const Endpoint& at) {
        Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in name{
            .sin_family = AF_INET, .sin_port = htons(at.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
        return fd;
    }
    // Ours does not block, theirs does.
    static std::pair<Fd, Fd> tcp_pair() {
        Endpoint at;
        auto listening = listener(at);
        auto theirs = connect_to(at);
        return {Fd(::accept4(listening.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)),
                std::move(theirs)};
    }
    void turn(std::chrono::milliseconds most = 10ms) { ASSERT_TRUE(loop_->run_once(most)); }
    void turn_for(std::chrono::milliseconds time) {
        for (auto end = Clock::now() + time; Clock::now() < end;) turn();
    }

    std::unique_ptr<Loop> loop_ = *Loop::make();
    std::optional<Tasks> tasks_{*loop_};
    std::string said_;
};

// Says what comes, until the end.
Task<> listen_to(Socket& socket, std::string& said) {
    std::array<char, 64> buffer;
    while (co_await socket.readable()) {
        auto count = socket.receive(buffer);
        if (count < 0 && errno == EAGAIN) continue;
        if (count <= 0) break;
        said.append(buffer.data(), static_cast<size_t>(count));
        said += ',';
    }
    said += "end";
}

TEST_F(SocketTest, WhatComesIsToldOnceAndTheEndToo) {
    auto [ours, theirs] = tcp_pair();
    Socket socket(*loop_, std::move(ours));
    tasks_->spawn(listen_to(socket, said_));
    turn_for(30ms);
    EXPECT_EQ(said_, "");
    ASSERT_EQ(::write(theirs.get(), "one", 3), 3);
    turn_for(30ms);
    EXPECT_EQ(said_, "one,");
    ASSERT_EQ(::write(theirs.get(), "two", 3), 3);
    theirs.reset(); // both in one event: the end is told of once, with bytes before it
    turn_for(30ms);
    EXPECT_EQ(said_, "one,two,end");
}

TEST_F(SocketTest, ABufferThatIsFullIsNotAllThatThereWas) {
    auto [ours, theirs] = tcp_pair();
    Socket socket(*loop_, std::move(ours));
    std::string much(150, 'x');
    ASSERT_EQ(::write(theirs.get(), much.data(), much.size()), 150);
    tasks_->spawn(listen_to(socket, said_));
    turn_for(30ms);
    EXPECT_EQ(said_.size(), 153) << said_;
    EXPECT_EQ(::write(theirs.get(), "y", 1), 1);
    turn_for(30ms);
    EXPECT_TRUE(said_.ends_with("y,"));
}

// Control: kMostInARow.
TEST_F(SocketTest, WhoAlwaysHasSomethingLetsOthersGoOn) {
    auto [ours, theirs] = tcp_pair();
    Socket socket(*loop_, std::move(ours));
    std::string much(64 * 100, 'x');
    ASSERT_EQ(::write(theirs.get(), much.data(), much.size()), static_cast<ssize_t>(much.size()));
    tasks_->spawn(listen_to(socket, said_));
    size_t turns_of_others = 0;
    Watch other;
    std::function<void()> again = [&] {
        turns_of_others++;
        other = loop_->after({}, again);
    };
    again();
    while (said_.size() < much.size() + 100) turn();
    EXPECT_GE(turns_of_others, 100 / Socket::kMostInARow);
}

TEST_F(SocketTest, EachDatagramIsGivenOut) {
    Fd peer(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in name{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    ASSERT_EQ(::bind(peer.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
    auto socket = Socket::datagram(*loop_, *local_endpoint(peer.get()));
    ASSERT_TRUE(socket);
    auto to = *local_endpoint(socket->fd());
    for (std::string_view text : {"one", "two"})
        send_datagram(peer.get(), std::as_bytes(std::span(text)), to);
    tasks_->spawn(listen_to(*socket, said_));
    turn_for(30ms);
    EXPECT_EQ(said_, "one,two,");
}

TEST_F(SocketTest, AWaitEndsWithItsSocketButNotWithinTheCall) {
    for (int how = 0; how < 4; how++) {
        auto [ours, theirs] = tcp_pair();
        std::optional<Socket> socket(std::in_place, *loop_, std::move(ours));
        said_.clear();
        auto wait = [&]() -> Task<> { said_ += co_await socket->readable() ? "something" : "nothing"; };
        tasks_->spawn(wait());
        turn();
        if (how == 0) socket->cancel();
        if (how == 1) socket->close();
        if (how == 2) socket->reset();
        if (how == 3) socket.reset();
        EXPECT_EQ(said_, "");
        turn_for(20ms);
        EXPECT_EQ(said_, "nothing") << how;
        if (how != 0) continue;
        // A socket whose wait was cancelled may be waited for again, even before that wait has ended.
        std::string before, after;
        tasks_->spawn(listen_to(*socket, before));
        socket->cancel();
        tasks_->spawn(listen_to(*socket, after));
        ASSERT_EQ(::write(theirs.get(), "more", 4), 4);
        turn_for(20ms);
        EXPECT_EQ(before, "end");
        EXPECT_EQ(after, "more,");
        socket->close();
        turn_for(20ms);
        EXPECT_EQ(after, "more,end");
    }
}

TEST_F(SocketTest, WhoIsDroppedWaitsNoMore) {
    auto [ours, theirs] = tcp_pair();
    Socket socket(*loop_, std::move(ours));
    struct Says {
        std::string& said;
        ~Says() { said += "gone"; }
    };
    auto wait = [&]() -> Task<> {
        Says says{said_};
        (void)co_await socket.readable();
        said_ += "here";
    };
    tasks_->spawn(wait());
    tasks_.reset();
    EXPECT_EQ(said_, "gone");
    ASSERT_EQ(::write(theirs.get(), "x", 1), 1);
    turn_for(20ms);
    EXPECT_EQ(said_, "gone");
}

TEST_F(SocketTest, WritesWaitForRoom) {
    auto [ours, theirs] = tcp_pair();
    Socket socket(*loop_, std::move(ours));
    std::vector<std::byte> much(8 << 20, std::byte{'x'});
    auto write = [&]() -> Task<> { said_ = co_await socket.send_all(much) ? "sent" : "not sent"; };
    tasks_->spawn(write());
    turn_for(20ms);
    EXPECT_EQ(said_, "");
    std::vector<char> buffer(1 << 20);
    for (size_t read = 0; read < much.size();) {
        auto count = ::recv(theirs.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (count > 0) read += static_cast<size_t>(count);
        ASSERT_TRUE(count > 0 || errno == EAGAIN);
        turn(1ms);
    }
    EXPECT_EQ(said_, "sent");
    // And with nobody who reads, the peer's end is an answer too.
    tasks_->spawn(write());
    turn();
    theirs.reset();
    turn_for(30ms);
    EXPECT_EQ(said_, "not sent");
}

TEST_F(SocketTest, ConnectsOrSaysWhyNot) {
    Endpoint at;
    auto listening = listener(at);
    Socket socket(*loop_);
    auto connect = [&]() -> Task<> {
        auto done = co_await socket.connect(at);
        said_ = done ? "connected" : done.error().message;
    };
    tasks_->spawn(connect());
    ASSERT_TRUE(tasks_->run());
    EXPECT_EQ(said_, "connected");
    EXPECT_TRUE(socket.is_open());
    listening.reset();
    tasks_->spawn(connect());
    ASSERT_TRUE(tasks_->run());
    EXPECT_TRUE(said_.contains("refused")) << said_;
}

TEST_F(SocketTest, AListenerGivesOutEachConnection) {
    Endpoint at;
    auto fd = listener(at);
    auto listening = *Listener::start(*loop_, std::move(fd), [&](Fd connection, const Endpoint& from) {
        EXPECT_EQ(local_endpoint(connection.get())->port, at.port);
        said_ += from.address.text() + ",";
    });
    auto one = connect_to(at), another = connect_to(at);
    turn_for(20ms);
    EXPECT_EQ(said_, "127.0.0.1,127.0.0.1,");
}

// As with no descriptors left: what is not taken stays there, and is told of for ever.
TEST_F(SocketTest, AListenerThatCannotAcceptDoesNotSpin) {
    Fd no_listener(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    auto listening = *Listener::start(*loop_, std::move(no_listener), [](Fd, const Endpoint&) { FAIL(); });
    int rounds = 0;
    for (auto end = Clock::now() + 250ms; Clock::now() < end; rounds++) turn(1000ms);
    EXPECT_LT(rounds, 10);
    EXPECT_GT(rounds, 2) << "it tries again";
}

// Each one goes on where the one before ended, on the same stack.
TEST_F(SocketTest, AwaitingWithoutAWaitNeedsNoStack) {
    int count = 0;
    auto one = [&]() -> Task<int> { co_return 1; };
    auto many = [&]() -> Task<> {
        for (int i = 0; i < 1'000'000; i++) count += co_await one();
    };
    tasks_->spawn(many());
    EXPECT_EQ(count, 1'000'000);
}

TEST_F(SocketTest, ANoticeReachesOnlyWhoWaits) {
    Condition changed(*loop_);
    changed.notify(); // nobody
    auto wait = [&](Clock::time_point until) -> Task<> {
        co_await changed.wait_until(until);
        said_ += "went on,";
    };
    tasks_->spawn(wait(Clock::time_point::max()));
    turn_for(20ms);
    EXPECT_EQ(said_, "");
    changed.notify();
    EXPECT_EQ(said_, "") << "not within the call";
    turn_for(5ms);
    EXPECT_EQ(said_, "went on,");
    tasks_->spawn(wait(Clock::now() + 20ms));
    turn_for(5ms);
    EXPECT_EQ(said_, "went on,");
    turn_for(40ms);
    EXPECT_EQ(said_, "went on,went on,");
}

} // namespace
} // namespace nullbox::egress
