#include "varlink/server_fixture_for_test.h"

namespace nullbox::varlink {

TEST_F(ServerTest, AnswersACall) {
    listen();
    auto peer = connect();
    send(peer, request("Echo", R"({"text":"hi \u0000 there"})"));
    EXPECT_EQ(
        received(peer),
        R"({"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"text","message":"must be one line without control characters"}}|)");
    send(peer, request("Echo", R"({"text":"gr\u00fc\u00df"})"));
    EXPECT_EQ(received(peer), "{\"parameters\":{\"text\":\"gr\xc3\xbc\xc3\x9f\"}}|");
}

TEST_F(ServerTest, APacketMayHoldPartOfAMessage) {
    listen();
    auto peer = connect();
    for (char byte : request("Echo", R"({"text":"slow"})")) {
        EXPECT_EQ(received(peer), "");
        send(peer, std::string_view(&byte, 1));
    }
    EXPECT_EQ(received(peer), R"({"parameters":{"text":"slow"}}|)");
}

TEST_F(ServerTest, APacketMayHoldSeveralMessagesWhichAreAnsweredInOrder) {
    listen();
    auto peer = connect();
    std::string many, expected;
    for (int i = 0; i < 100; i++) {
        many += request("Echo", cat(R"({"text":")", i, "\"}"));
        expected += cat(R"({"parameters":{"text":")", i, "\"}}|");
    }
    send(peer, many);
    EXPECT_EQ(received(peer), expected);
}

TEST_F(ServerTest, ALaterRequestWaitsForTheOneInProgress) {
    listen();
    auto peer = connect();
    send(peer, request("Keep") + request("Echo", R"({"text":"second"})"));
    EXPECT_EQ(received(peer), "");
    EXPECT_EQ(calls_, 1);
    ASSERT_EQ(kept_.size(), 1u);
    kept_[0].reply(json::object{{"first", true}});
    EXPECT_EQ(received(peer), R"({"parameters":{"first":true}}|{"parameters":{"text":"second"}}|)");
}

TEST_F(ServerTest, AStreamContinues) {
    listen();
    auto peer = connect();
    send(peer, request("Count", "{}", R"(,"more":true)"));
    EXPECT_EQ(
        received(peer),
        R"({"parameters":{"n":1},"continues":true}|{"parameters":{"n":2},"continues":true}|{"parameters":{"n":3}}|)");
}

TEST_F(ServerTest, AStreamThatWasNotAskedForIsAnError) {
    listen();
    auto peer = connect();
    send(peer, request("Count") + request("Echo", R"({"text":"next"})"));
    auto answers = received(peer);
    EXPECT_TRUE(answers.starts_with(R"({"error":"org.varlink.service.ExpectedMore")")) << answers;
    EXPECT_TRUE(answers.ends_with(R"(|{"parameters":{"text":"next"}}|)")) << answers;
}

TEST_F(ServerTest, OnewayIsDoneWithoutAnAnswer) {
    listen();
    auto peer = connect();
    send(peer, request("Echo", R"({"text":"x"})", R"(,"oneway":true)") +
                   request("Nothing", "{}", R"(,"oneway":true)") + request("Echo", R"({"text":"y"})"));
    EXPECT_EQ(received(peer), R"({"parameters":{"text":"y"}}|)");
    EXPECT_EQ(calls_, 2);
}

TEST_F(ServerTest, OnewayCountsEvenWhenThePeerLeavesAtOnce) {
    listen();
    {
        Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{.sun_family = AF_UNIX};
        std::ranges::copy(path_, address.sun_path);
        ASSERT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        std::string many;
        for (int i = 0; i < 100; i++) many += request("Echo", R"({"text":"x"})", R"(,"oneway":true)");
        ASSERT_TRUE(write_all(socket.get(), many).has_value());
    }
    turn(40);
    EXPECT_EQ(calls_, 100);
}

TEST_F(ServerTest, UpgradeIsRefused) {
    listen();
    auto peer = connect();
    send(peer, request("Echo", R"({"text":"x"})", R"(,"upgrade":true)"));
    EXPECT_TRUE(received(peer).starts_with(R"({"error":"org.varlink.service.MethodNotImplemented")"));
    EXPECT_EQ(calls_, 0);
}

TEST_F(ServerTest, TheServiceDescribesItself) {
    listen();
    auto peer = connect();
    auto own = [](std::string_view text) { return std::string(text) + '\0'; };
    send(peer, own(R"({"method":"org.varlink.service.GetInfo"})"));
    EXPECT_EQ(
        received(peer),
        R"({"parameters":{"vendor":"NullBox","product":"NullBox test","version":"1","url":"","interfaces":["org.varlink.service","io.nullbox.test"]}}|)");
    send(
        peer,
        own(R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.nullbox.test"}})"));
    EXPECT_EQ(received(peer),
              cat(R"({"parameters":{"description":)", json::serialize(json::string(kDescription)), "}}|"));
    send(
        peer,
        own(R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"org.varlink.service"}})"));
    EXPECT_TRUE(received(peer).contains("method GetInfo()"));
    send(
        peer,
        own(R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.none"}})"));
    EXPECT_EQ(received(peer),
              R"({"error":"org.varlink.service.InterfaceNotFound","parameters":{"interface":"io.none"}}|)");
    send(peer,
         own(R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":5}})"));
    EXPECT_TRUE(received(peer).starts_with(R"({"error":"org.varlink.service.InvalidParameter")"));
}

TEST_F(ServerTest, StandardErrors) {
    listen();
    auto peer = connect();
    auto whole = [](std::string_view method) { return cat(R"({"method":")", method, "\"}") + '\0'; };
    struct {
        std::string_view method, answer;
    } cases[] = {
        {"io.other.Echo",
         R"({"error":"org.varlink.service.InterfaceNotFound","parameters":{"interface":"io.other"}}|)"},
        {"Echo", R"({"error":"org.varlink.service.InterfaceNotFound","parameters":{"interface":""}}|)"},
        {"", R"({"error":"org.varlink.service.InterfaceNotFound","parameters":{"interface":""}}|)"},
        {"io.nullbox.test.None",
         R"({"error":"org.varlink.service.MethodNotFound","parameters":{"method":"io.nullbox.test.None"}}|)"},
        {"io.nullbox.test.",
         R"({"error":"org.varlink.service.MethodNotFound","parameters":{"method":"io.nullbox.test."}}|)"},
        {"org.varlink.service.None",
         R"({"error":"org.varlink.service.MethodNotFound","parameters":{"method":"org.varlink.service.None"}}|)"},
        {"io.nullbox.test.Planned",
         R"({"error":"org.varlink.service.MethodNotImplemented","parameters":{"method":"io.nullbox.test.Planned"}}|)"},
        {"io.nullbox.test.Drop",
         R"({"error":"io.nullbox.Internal","parameters":{"message":"the service did not answer this request"}}|)"},
        {"io.nullbox.test.Throw",
         R"({"error":"io.nullbox.Internal","parameters":{"message":"the service did not answer this request"}}|)"},
        {"io.nullbox.test.Twice", R"({"parameters":{}}|)"},
    };
    for (const auto& one : cases) {
        send(peer, whole(one.method));
        EXPECT_EQ(received(peer), one.answer) << one.method;
    }
}

TEST_F(ServerTest, TheUidTableDecidesBeforeTheHandler) {
    listen();
    auto peer = connect();
    send(peer, request("Forbidden"));
    EXPECT_EQ(
        received(peer),
        cat(R"({"error":"org.varlink.service.PermissionDenied","parameters":{"method":"io.nullbox.test.Forbidden","uid":)",
            ::getuid(), R"(,"message":"uid )", ::getuid(), R"( may not call io.nullbox.test.Forbidden"}}|)"));
    EXPECT_EQ(calls_, 0);
    send(peer, request("OnlyMe"));
    EXPECT_EQ(received(peer), cat(R"({"parameters":{"uid":)", ::getuid(), R"(,"pid":)", ::getpid(), "}}|"));
}

// Root is not above the table, and another uid is seen as what it is.
TEST_F(ServerTest, AnotherUidIsSeenAsItself) {
    if (::getuid() != 0) GTEST_SKIP() << "needs root, to connect as another uid";
    listen();
    pid_t child = ::fork();
    if (child == 0) {
        // Between fork and exec: system calls only, and the answer is the exit status.
        if (::setgid(54321) != 0 || ::setuid(54321) != 0) ::_exit(2);
        Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{.sun_family = AF_UNIX};
        std::ranges::copy(path_, address.sun_path);
        if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) ::_exit(3);
        auto wanted = request("OnlyMe");
        if (::write(socket.get(), wanted.data(), wanted.size()) != static_cast<ssize_t>(wanted.size()))
            ::_exit(4);
        char bytes[1024];
        ssize_t count = ::read(socket.get(), bytes, sizeof bytes);
        std::string_view answer(bytes, count > 0 ? static_cast<size_t>(count) : 0);
        ::_exit(answer.contains("PermissionDenied") && answer.contains("\"uid\":54321") ? 0 : 5);
    }
    ASSERT_GT(child, 0);
    int status = -1;
    for (int i = 0; i < 500 && ::waitpid(child, &status, WNOHANG) == 0; i++)
        ASSERT_TRUE(loop_->run_once(10ms).has_value());
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(ServerTest, NonsenseIsToldSoAndClosed) {
    listen();
    using namespace std::string_literals;
    for (const auto& nonsense :
         {"\0"s, "\0\0\0\0\0\0\0\0"s, "{\0"s, "[]\0"s, "null\0"s, "{\"method\":5}\0"s, "{}\0"s,
          "{\"method\":\"a.b\",\"parameters\":[]}\0"s, "{\"method\":\"a.b\",\"more\":1}\0"s,
          "{\"method\":\"a\xff.b\"}\0"s, "GET / HTTP/1.1\r\n\r\n\0"s, "{\"method\":\"a.b\"} x\0"s,
          "{\"a\":" + std::string(64, '[') + std::string(64, ']') + "}\0"s}) {
        auto peer = connect();
        send(peer, nonsense + request("Echo", R"({"text":"x"})"));
        auto answer = received(peer);
        EXPECT_TRUE(answer.starts_with(R"({"error":"io.nullbox.BadMessage","parameters":{"message":")"))
            << answer;
        EXPECT_TRUE(answer.ends_with("\"}}|<end>")) << answer;
    }
    EXPECT_EQ(calls_, 0);
}

TEST_F(ServerTest, AFloodOfNulEndsWithOneAnswer) {
    listen();
    auto peer = connect();
    std::string flood(32768, '\0');
    while (::send(peer.get(), flood.data(), flood.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) turn(1);
    EXPECT_TRUE(received(peer).ends_with("<end>"));
    auto other = connect();
    send(other, request("Echo", R"({"text":"alive"})"));
    EXPECT_EQ(received(other), R"({"parameters":{"text":"alive"}}|)");
}

// Sends while turning the loop, because the socket's own buffer is smaller than a message may be.
static bool push(Loop& loop, const Fd& peer, std::string_view bytes) {
    while (!bytes.empty()) {
        ssize_t count = ::send(peer.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0 && errno != EAGAIN) return false;
        if (count > 0) bytes.remove_prefix(static_cast<size_t>(count));
        if (!loop.run_once(0ms).has_value()) return false;
    }
    return true;
}

TEST_F(ServerTest, AMessageOfTheLimitPassesAndOneByteMoreDoesNot) {
    listen();
    auto frame = request("Echo", R"({"text":""})").size() - 1;
    auto peer = connect();
    // The answer is shorter than the request, so it fits too.
    auto fits = request("Echo", cat(R"({"text":")", std::string(kMaxMessageBytes - frame, 'x'), "\"}"));
    ASSERT_EQ(fits.size(), kMaxMessageBytes + 1);
    ASSERT_TRUE(push(*loop_, peer, fits));
    auto answer = received(peer);
    EXPECT_EQ(answer.size(),
              kMaxMessageBytes - frame + std::string_view(R"({"parameters":{"text":""}}|)").size());

    auto other = connect();
    push(*loop_, other,
         request("Echo", cat(R"({"text":")", std::string(kMaxMessageBytes - frame + 1, 'x'), "\"}")));
    EXPECT_TRUE(received(other).contains("message is longer than 1048576 bytes"));
    auto endless = connect();
    push(*loop_, endless, std::string(kMaxMessageBytes + 70'000, 'x'));
    EXPECT_TRUE(received(endless).ends_with("<end>"));
    EXPECT_EQ(calls_, 1);
}

TEST_F(ServerTest, AnAnswerOverTheLimitBecomesAnError) {
    listen();
    auto peer = connect();
    send(peer, request("Keep"));
    ASSERT_EQ(kept_.size(), 1u);
    kept_[0].reply(json::object{{"text", std::string(kMaxMessageBytes, 'x')}});
    EXPECT_EQ(received(peer),
              R"({"error":"io.nullbox.Internal","parameters":{"message":"the answer is too large"}}|)");
}

TEST_F(ServerTest, APeerThatLeavesInMidStreamIsNoticed) {
    listen();
    auto peer = connect();
    send(peer, request("Keep", "{}", R"(,"more":true)"));
    ASSERT_EQ(kept_.size(), 1u);
    kept_[0].reply_continues({});
    EXPECT_TRUE(kept_[0].connected());
    peer.reset();
    turn();
    EXPECT_FALSE(kept_[0].connected());
    kept_[0].reply_continues({});
    kept_[0].reply({});
    kept_.clear();
    auto other = connect();
    send(other, request("Echo", R"({"text":"alive"})"));
    EXPECT_EQ(received(other), R"({"parameters":{"text":"alive"}}|)");
}

TEST_F(ServerTest, APeerThatOnlyStopsSendingGetsItsAnswers) {
    listen();
    auto peer = connect();
    send(peer, request("Keep") + request("Echo", R"({"text":"last"})"));
    ASSERT_EQ(::shutdown(peer.get(), SHUT_WR), 0);
    turn();
    ASSERT_EQ(kept_.size(), 1u);
    EXPECT_TRUE(kept_[0].connected());
    kept_[0].reply({});
    EXPECT_EQ(received(peer), R"({"parameters":{}}|{"parameters":{"text":"last"}}|<end>)");
}

TEST_F(ServerTest, AStreamThatIsNotReadIsClosedAtTheLimit) {
    listen();
    auto slow = connect();
    auto other = connect();
    send(slow, request("Keep", "{}", R"(,"more":true)"));
    ASSERT_EQ(kept_.size(), 1u);
    json::object line{{"line", std::string(10'000, 'x')}};
    size_t sent = 0;
    for (; kept_[0].connected() && sent < 1000; sent++) {
        kept_[0].reply_continues(line);
        turn(1);
    }
    EXPECT_FALSE(kept_[0].connected());
    EXPECT_GT(sent, kMaxQueuedBytes / 10'100);
    EXPECT_LT(sent, 2 * kMaxQueuedBytes / 10'000);
    send(other, request("Echo", R"({"text":"alive"})"));
    EXPECT_EQ(received(other), R"({"parameters":{"text":"alive"}}|)");
}

TEST_F(ServerTest, AStalledPeerLosesItsPlaceAfterAWhile) {
    listen({.stalled = 400ms});
    auto stalled = connect();
    send(stalled, request("Keep", "{}", R"(,"more":true)"));
    ASSERT_EQ(kept_.size(), 1u);
    // More than the socket holds, less than the limit.
    json::object line{{"line", std::string(100'000, 'x')}};
    for (int i = 0; i < 10; i++) kept_[0].reply_continues(line);
    EXPECT_TRUE(kept_[0].connected());
    auto start = Clock::now();
    while (kept_[0].connected() && Clock::now() - start < 10s) ASSERT_TRUE(loop_->run_once(50ms).has_value());
    EXPECT_FALSE(kept_[0].connected());
    EXPECT_LT(Clock::now() - start, 5s);

    // One that reads slowly, a little within each span, keeps its place.
    auto slow = connect();
    send(slow, request("Keep", "{}", R"(,"more":true)"));
    ASSERT_EQ(kept_.size(), 2u);
    for (int i = 0; i < 10; i++) kept_[1].reply_continues(line);
    std::vector<char> bytes(120'000);
    for (int i = 0; i < 8; i++) {
        ASSERT_TRUE(loop_->run_once(100ms).has_value());
        ASSERT_GT(::recv(slow.get(), bytes.data(), bytes.size(), MSG_DONTWAIT), 0);
        turn(1);
        EXPECT_TRUE(kept_[1].connected()) << i;
    }
}

TEST_F(ServerTest, APeerThatWasToldOfItsNonsenseMustReadIt) {
    listen({.closing = 50ms});
    auto one = request("Echo", cat(R"({"text":")", std::string(10'000, 'x'), "\"}"));
    // How many answers until the server waits for the peer; a few less leave the socket full all the same.
    auto measure = connect();
    for (int i = 0; i < 60; i++) push(*loop_, measure, one);
    turn(60);
    int most = calls_;
    ASSERT_LT(most, 60);
    auto peer = connect();
    for (int i = 0; i < most - 3; i++) ASSERT_TRUE(push(*loop_, peer, one));
    ASSERT_TRUE(push(*loop_, peer, std::string("nonsense\0", 9)));
    turn(20);
    EXPECT_EQ(calls_, 2 * most - 3);
    char byte = 'x';
    EXPECT_EQ(::send(peer.get(), &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT), 1) << "not closed at once";
    for (auto end = Clock::now() + 300ms; Clock::now() < end;) turn(1);
    EXPECT_EQ(::send(peer.get(), &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT), -1);
    EXPECT_EQ(errno, EPIPE);
}

TEST_F(ServerTest, PipeliningWithoutReadingIsSlowedNotClosed) {
    listen();
    auto peer = connect();
    auto one = request("Echo", cat(R"({"text":")", std::string(10'000, 'x'), "\"}"));
    int sent = 0;
    std::string rest;
    while (sent < 2000) {
        if (rest.empty()) rest = one, sent++;
        ssize_t count = ::send(peer.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        turn(2);
        if (count < 0) break;
        rest.erase(0, static_cast<size_t>(count));
    }
    ASSERT_EQ(errno, EAGAIN);
    EXPECT_LT(calls_, sent);
    auto answers = received(peer);
    EXPECT_FALSE(answers.ends_with("<end>"));
    EXPECT_EQ(static_cast<int>(std::ranges::count(answers, '|')), rest.empty() ? sent : sent - 1);
}

TEST_F(ServerTest, ManyConnectionsOfOneUidLeaveRoomForOthers) {
    listen();
    std::vector<Fd> peers;
    for (size_t i = 0; i < kMaxConnectionsOfOneUid; i++) peers.push_back(connect());
    for (const auto& peer : peers) EXPECT_EQ(received(peer), "");
    auto refused = connect();
    EXPECT_EQ(received(refused), "<end>");
    peers.pop_back();
    turn();
    auto welcome = connect();
    send(welcome, request("Echo", R"({"text":"x"})"));
    EXPECT_EQ(received(welcome), R"({"parameters":{"text":"x"}}|)");
}

// The places are for all uids together; a second uid takes what the first left, and no more.
TEST_F(ServerTest, ConnectionsOfAllUidsAreBounded) {
    if (::getuid() != 0) GTEST_SKIP() << "needs root, to connect as another uid";
    listen();
    std::vector<Fd> peers;
    for (size_t i = 0; i < kMaxConnectionsOfOneUid; i++) peers.push_back(connect());
    pid_t child = ::fork();
    if (child == 0) {
        if (::setgid(54321) != 0 || ::setuid(54321) != 0) ::_exit(2);
        sockaddr_un address{.sun_family = AF_UNIX};
        std::ranges::copy(path_, address.sun_path);
        auto wanted = request("Echo", R"({"text":"x"})");
        for (size_t i = kMaxConnectionsOfOneUid; i <= kMaxConnections; i++) {
            int one = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); // stays open to the end
            if (::connect(one, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) ::_exit(3);
            char bytes[1024];
            bool served = ::send(one, wanted.data(), wanted.size(), MSG_NOSIGNAL) > 0 &&
                          ::read(one, bytes, sizeof bytes) > 0;
            if (served != (i < kMaxConnections)) ::_exit(4);
        }
        ::_exit(0);
    }
    ASSERT_GT(child, 0);
    int status = -1;
    for (int i = 0; i < 500 && ::waitpid(child, &status, WNOHANG) == 0; i++)
        ASSERT_TRUE(loop_->run_once(10ms).has_value());
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Runs out of descriptors with a client in the backlog: the loop must rest, and serve it later.
TEST_F(ServerTest, NoDescriptorsDoesNotSpin) {
#if __has_feature(undefined_behavior_sanitizer)
    GTEST_SKIP() << "the sanitizer makes pipes of its own for its checks, and there are none here";
#endif
    listen();
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    Fd peer(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    int next = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    ::close(next);
    rlimit none{.rlim_cur = static_cast<rlim_t>(next), .rlim_max = before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    sockaddr_un address{.sun_family = AF_UNIX};
    std::ranges::copy(path_, address.sun_path);
    ASSERT_EQ(::connect(peer.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_TRUE(write_all(peer.get(), request("Echo", R"({"text":"late"})")).has_value());
    std::vector<std::string> lines;
    set_log_sink([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
    int rounds = 0;
    for (auto end = Clock::now() + 350ms; Clock::now() < end; rounds++)
        ASSERT_TRUE(loop_->run_once(50ms).has_value());
    EXPECT_LT(rounds, 20);
    set_log_sink({});
    ASSERT_EQ(lines.size(), 1u) << "one line, not one for each try";
    EXPECT_TRUE(lines[0].contains("Too many open files")) << lines[0];
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    for (auto end = Clock::now() + 300ms; Clock::now() < end;) ASSERT_TRUE(loop_->run_once(10ms).has_value());
    EXPECT_EQ(received(peer), R"({"parameters":{"text":"late"}}|)");
}

TEST_F(ServerTest, TheSocketFileIsOpenToAllAndRemovedAtTheEnd) {
    mode_t old = ::umask(077);
    listen();
    ::umask(old);
    struct stat status{};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0666u);
    server_.reset();
    EXPECT_NE(::stat(path_.c_str(), &status), 0);
}

TEST_F(ServerTest, AStaleSocketIsReplacedButNothingElse) {
    listen();
    auto old = std::move(server_);
    listen();    // over the old one's file
    old.reset(); // which leaves the new one's alone
    auto peer = connect();
    send(peer, request("Echo", R"({"text":"x"})"));
    EXPECT_EQ(received(peer), R"({"parameters":{"text":"x"}}|)");

    auto file = folder_ + "/file";
    ASSERT_TRUE(write_file_atomic(file, "precious", 0600).has_value());
    auto refused = Server::listen(*loop_, file, {}, table());
    ASSERT_FALSE(refused.has_value());
    EXPECT_TRUE(refused.error().message.contains("no socket")) << refused.error().message;
    EXPECT_EQ(*read_file(file), "precious");
    EXPECT_FALSE(Server::listen(*loop_, folder_ + "/" + std::string(120, 'x'), {}, table()).has_value());
}

TEST_F(ServerTest, ACallMayOutliveTheServer) {
    listen();
    auto peer = connect();
    send(peer, request("Keep"));
    ASSERT_EQ(kept_.size(), 1u);
    server_.reset();
    EXPECT_FALSE(kept_[0].connected());
    kept_[0].reply({});
    EXPECT_EQ(received(peer), "<end>");
}

} // namespace nullbox::varlink
