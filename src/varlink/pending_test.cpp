#include "varlink/pending.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/passing.h"
#include "varlink/client.h"
#include "varlink/server.h"

namespace nullbox::varlink {

namespace json = boost::json;
using namespace std::chrono_literals;

// A real server, and callers on the same loop or in a thread of their own.
class Pending : public testing::Test {
protected:
    void SetUp() override {
        char folder[] = "/tmp/nullbox-pending-XXXXXX";
        ASSERT_NE(::mkdtemp(folder), nullptr);
        folder_ = folder;
        loop_ = *Loop::make();
        InterfaceTable table{.name = "io.nullbox.test", .description = "interface io.nullbox.test\n"};
        // Answers with what it reads from each descriptor, and with the write end of a pipe.
        table.methods.push_back({.name = "Pass", .handle = [this](Call call) {
                                     json::array read;
                                     for (auto& fd : call.take_fds())
                                         read.emplace_back(read_fd(fd.get(), 100).value_or("unreadable"));
                                     pipe_ = *make_pipe();
                                     std::vector<Fd> back;
                                     back.push_back(std::move(pipe_.write));
                                     call.reply(json::object{{"read", read}}, std::move(back));
                                 }});
        table.methods.push_back({.name = "Keep", .handle = [this](Call call) { kept_ = std::move(call); }});
        table.methods.push_back({.name = "Count", .handle = [](Call call) {
                                     call.reply_continues(json::object{{"n", 1}});
                                     call.reply_continues(json::object{{"n", 2}});
                                     call.reply(json::object{{"n", 3}});
                                 }});
        table.methods.push_back(
            {.name = "Refuse", .handle = [](Call call) { call.error("io.nullbox.test.No", "not today"); }});
        server_ = *Server::listen(*loop_, path(), {.product = "test", .version = "1"}, std::move(table));
    }
    void TearDown() override {
        kept_.reset();
        server_.reset();
        std::filesystem::remove_all(folder_);
    }
    std::string path() const { return folder_ + "/test.sock"; }
    BackgroundCall to(std::string_view method) const {
        return {.socket_path = path(), .method = "io.nullbox.test." + std::string(method)};
    }
    bool until(const std::function<bool()>& condition) {
        auto end = Clock::now() + 5s;
        while (!condition() && Clock::now() < end) (void)loop_->run_once(10ms);
        return condition();
    }
    static Fd holding(std::string_view text) {
        auto pipe = *make_pipe();
        EXPECT_TRUE(write_all(pipe.write.get(), text).has_value());
        return std::move(pipe.read);
    }

    std::string folder_;
    std::unique_ptr<Loop> loop_;
    std::unique_ptr<Server> server_;
    std::optional<Call> kept_;
    Pipe pipe_;
    std::optional<Result<Answer>> got_;
    std::function<void(Result<Answer>)> take_ = [this](Result<Answer> answer) { got_ = std::move(answer); };
};

TEST_F(Pending, DescriptorsGoThereAndBack) {
    auto call = to("Pass");
    call.fds.push_back(holding("one"));
    call.fds.push_back(holding("two"));
    auto pending = call_in_background(*loop_, std::move(call), take_);
    ASSERT_TRUE(until([&] { return got_.has_value(); }));
    ASSERT_TRUE(got_->has_value()) << got_->error().message;
    auto& answer = **got_;
    EXPECT_EQ(answer.parameters.at("read"), json::array({"one", "two"}));
    ASSERT_EQ(answer.fds.size(), 1u);
    EXPECT_NE(::fcntl(answer.fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
    ASSERT_TRUE(write_all(answer.fds[0].get(), "hello").has_value());
    answer.fds.clear();
    EXPECT_EQ(read_fd(pipe_.read.get(), 100).value_or(""), "hello");
}

TEST_F(Pending, TheBlockingClientPassesDescriptorsToo) {
    std::optional<Result<Answer>> got;
    std::thread caller([&] {
        auto client = Client::connect(path());
        std::vector<Fd> fds;
        fds.push_back(holding("three"));
        got = client->call_with_fds("io.nullbox.test.Pass", {}, std::move(fds));
    });
    EXPECT_TRUE(until([&] { return pipe_.read && !pipe_.write; }));
    caller.join();
    ASSERT_TRUE(got && got->has_value());
    EXPECT_EQ((*got)->parameters.at("read"), json::array({"three"}));
    EXPECT_EQ((*got)->fds.size(), 1u);
}

TEST_F(Pending, TooManyDescriptorsEndTheConnection) {
    std::vector<Fd> fds;
    for (size_t i = 0; i < kMaxPassedFds; i++) fds.push_back(holding("x"));
    // Each byte brings the most one send may, and no message ends.
    auto client = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX};
    std::ranges::copy(path(), address.sun_path);
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(send_with_fds(client.get(), std::string_view("{"), fds), 1);
    ASSERT_EQ(send_with_fds(client.get(), std::string_view(" "), fds), 1);
    std::string answer;
    ASSERT_TRUE(until([&] {
        char bytes[1024];
        auto received = receive_with_fds(client.get(), bytes);
        if (received.count > 0) answer.append(bytes, static_cast<size_t>(received.count));
        return received.count == 0;
    }));
    EXPECT_TRUE(answer.contains("io.nullbox.BadMessage")) << answer;
}

TEST_F(Pending, ARefusalAndAMissingServiceAreErrorsWithTheMethodsName) {
    auto refused = call_in_background(*loop_, to("Refuse"), take_);
    ASSERT_TRUE(until([&] { return got_.has_value(); }));
    EXPECT_EQ(got_->error().message, "io.nullbox.test.Refuse: io.nullbox.test.No: not today");

    got_.reset();
    auto call = to("Pass");
    call.socket_path = folder_ + "/none.sock";
    auto missing = call_in_background(*loop_, std::move(call), take_);
    EXPECT_FALSE(got_.has_value()) << "never from the call itself";
    ASSERT_TRUE(until([&] { return got_.has_value(); }));
    EXPECT_EQ(got_->error().code, ENOENT);
    EXPECT_TRUE(got_->error().message.contains("none.sock")) << got_->error().message;
}

TEST_F(Pending, NoAnswerInTimeAndAServiceThatDies) {
    auto call = to("Keep");
    call.limit = 30ms;
    auto late = call_in_background(*loop_, std::move(call), take_);
    ASSERT_TRUE(until([&] { return got_.has_value(); }));
    EXPECT_EQ(got_->error().code, ETIMEDOUT);

    got_.reset();
    auto dying = call_in_background(*loop_, to("Keep"), take_);
    ASSERT_TRUE(until([&] { return kept_ && kept_->connected(); }));
    kept_.reset();
    server_.reset();
    ASSERT_TRUE(until([&] { return got_.has_value(); }));
    EXPECT_FALSE(got_->has_value());
}

TEST_F(Pending, GivingUpEndsTheConnectionAndTheCallback) {
    auto pending = call_in_background(*loop_, to("Keep"), take_);
    ASSERT_TRUE(until([&] { return kept_.has_value(); }));
    EXPECT_TRUE(kept_->connected());
    pending = {};
    ASSERT_TRUE(until([&] { return !kept_->connected(); }));
    EXPECT_FALSE(got_.has_value());
}

TEST_F(Pending, AStreamEndsWithItsLastAnswerAndMayBeDroppedInside) {
    std::vector<int64_t> seen;
    bool ended = false;
    auto stream = follow_in_background(*loop_, to("Count"), [&](Result<Answer> answer, bool last) {
        ASSERT_TRUE(answer.has_value());
        seen.push_back(answer->parameters.at("n").as_int64());
        ended = last;
    });
    ASSERT_TRUE(until([&] { return ended; }));
    EXPECT_EQ(seen, (std::vector<int64_t>{1, 2, 3}));

    PendingCall dropped;
    int calls = 0;
    dropped = follow_in_background(*loop_, to("Count"), [&](Result<Answer>, bool) {
        calls++;
        dropped = {};
    });
    ASSERT_TRUE(until([&] { return calls > 0; }));
    for (int i = 0; i < 5; i++) (void)loop_->run_once(1ms);
    EXPECT_EQ(calls, 1);
}

TEST_F(Pending, ARefusalMayBeAnAnswer) {
    auto call = to("Refuse");
    call.refusals_as_answers = true;
    auto pending = call_in_background(*loop_, std::move(call), take_);
    ASSERT_TRUE(until([&] { return got_.has_value(); }));
    ASSERT_TRUE(got_->has_value());
    EXPECT_EQ((*got_)->error, "io.nullbox.test.No");
    EXPECT_EQ((*got_)->parameters.at("message"), "not today");
}

TEST_F(Pending, APausedStreamWaits) {
    std::vector<int64_t> seen;
    PendingCall pending;
    pending = follow_in_background(*loop_, to("Keep"), [&](Result<Answer> answer, bool) {
        seen.push_back(answer.has_value() ? answer->parameters.at("n").as_int64() : -1);
    });
    ASSERT_TRUE(until([&] { return kept_.has_value(); }));
    pending.pause();
    kept_->reply_continues(json::object{{"n", 1}});
    for (int i = 0; i < 10; i++) (void)loop_->run_once(5ms);
    EXPECT_TRUE(seen.empty());
    pending.resume();
    ASSERT_TRUE(until([&] { return seen.size() == 1; }));
    kept_->reply(json::object{{"n", 2}});
    ASSERT_TRUE(until([&] { return seen.size() == 2; }));
    EXPECT_EQ(seen, (std::vector<int64_t>{1, 2}));
}

} // namespace nullbox::varlink
