// The clock's keeper, with time servers on loopback and a clock that is a number.
#include "egress/net/time_sync.h"

#include <arpa/inet.h>
#include <array>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "egress/net/box_for_test.h"
#include "egress/net/sntp_for_test.h"

namespace nullbox::egress {
using namespace test;
namespace {

using Bytes = std::vector<std::byte>;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr int64_t kSecond = 1'000'000'000;

class TimeServer {
public:
    TimeServer(Loop& loop, Ip4 address, uint16_t port) : socket_(udp_socket(address, port)) {
        watch_ = loop.watch(socket_.get(), EPOLLIN, [this](uint32_t) { readable(); }).value();
    }
    int64_t time_s = 1'700'000'000;
    bool silent = false, forged_first = false;
    int asked = 0;

private:
    void readable() {
        std::array<std::byte, 128> buffer;
        sockaddr_in from{};
        socklen_t size = sizeof from;
        ASSERT_EQ(::recvfrom(socket_.get(), buffer.data(), buffer.size(), 0,
                             reinterpret_cast<sockaddr*>(&from), &size),
                  48);
        asked++;
        if (silent) return;
        uint64_t cookie = 0;
        for (size_t i = 40; i < 48; i++) cookie = cookie << 8 | std::to_integer<uint64_t>(buffer[i]);
        auto send = [&](const Bytes& packet) {
            ::sendto(socket_.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&from),
                     size);
        };
        if (forged_first) send(sntp_answer(1'999'999'999, cookie + 1));
        send(sntp_answer(time_s, cookie));
    }
    Fd socket_;
    Watch watch_;
};

class TimeSyncTest : public testing::Test {
protected:
    TimeSyncTest() {
        SystemClock clock{.now_ns = [this] { return now_ns_; },
                          .step = [this](int64_t now_ns) -> Result<> {
                              now_ns_ = now_ns;
                              steps_++;
                              return {};
                          },
                          .slew = [this](nanoseconds by) -> Result<> {
                              slewed_ = by;
                              return {};
                          }};
        auto lookup = [](const std::string& name, TimeSync::Answer answer) {
            if (name == "both")
                answer(std::vector{*IpAddress::parse("127.0.0.1"), *IpAddress::parse("127.0.0.2")});
            else
                answer(error("no such name"));
        };
        port_ = local_end(udp_socket(ip("127.0.0.1"), 0).get()).port;
        first_ = std::make_unique<TimeServer>(*loop_, ip("127.0.0.1"), port_);
        second_ = std::make_unique<TimeServer>(*loop_, ip("127.0.0.2"), port_);
        sync_.emplace(
            *loop_, lookup, clock,
            TimeSync::Options{.not_before_s = 1'600'000'000, .port = port_, .timeout = milliseconds(50)});
    }
    bool synchronise(std::vector<std::string> servers) {
        sync_->start(std::move(servers));
        return wait_until(*loop_,
                          [&] { return sync_->status().synchronised && sync_->status().problem.empty(); });
    }
    // Half of the half second that the server says it took.
    int64_t off_by_s() const { return (now_ns_ - 1'700'000'000 * kSecond) / kSecond; }

    std::unique_ptr<Loop> loop_ = *Loop::make();
    int64_t now_ns_ = 5 * kSecond; // 1970
    int steps_ = 0;
    nanoseconds slewed_{0};
    uint16_t port_ = 0;
    std::unique_ptr<TimeServer> first_, second_;
    std::optional<TimeSync> sync_;
};

TEST_F(TimeSyncTest, TheFirstAnswerSetsTheClock) {
    ASSERT_TRUE(synchronise({"127.0.0.1"}));
    EXPECT_EQ(off_by_s(), 0);
    EXPECT_EQ(steps_, 1);
    EXPECT_EQ(sync_->status().server, "127.0.0.1");
}

TEST_F(TimeSyncTest, ForgeriesAndSilenceAndUnknownNamesDelayOnly) {
    first_->silent = true;
    second_->forged_first = true;
    ASSERT_TRUE(synchronise({"nowhere", "both"}));
    EXPECT_EQ(first_->asked, 1);
    EXPECT_EQ(second_->asked, 1);
    EXPECT_EQ(off_by_s(), 0);
}

TEST_F(TimeSyncTest, NoTimeBeforeTheImageWasBuilt) {
    first_->time_s = 1'500'000'000;
    EXPECT_FALSE(wait_until(*loop_, [&] { return steps_ > 0; }, milliseconds(1)));
    sync_->start({"127.0.0.1"});
    EXPECT_FALSE(wait_until(*loop_, [&] { return steps_ > 0; }, milliseconds(200)));
    EXPECT_TRUE(sync_->status().problem.contains("before this image was built")) << sync_->status().problem;
    EXPECT_EQ(first_->asked, 1);
}

TEST_F(TimeSyncTest, SmallDifferencesAreSlewed) {
    now_ns_ = 1'700'000'000 * kSecond;
    ASSERT_TRUE(synchronise({"127.0.0.1"}));
    EXPECT_EQ(steps_, 0);
    EXPECT_NEAR(static_cast<double>(slewed_.count()), 0.25e9, 0.05e9);
}

TEST_F(TimeSyncTest, ALargeLaterStepNeedsTwoThatAgree) {
    ASSERT_TRUE(synchronise({"127.0.0.1"}));
    auto before = now_ns_;
    first_->time_s += 100'000;
    sync_->start({"127.0.0.1", "127.0.0.2"});
    ASSERT_TRUE(wait_until(*loop_, [&] { return second_->asked == 1; }));
    turn(*loop_, milliseconds(20));
    // The second says what we have: it counts, the first does not.
    EXPECT_EQ(now_ns_, before);
    EXPECT_EQ(steps_, 1);
    second_->time_s += 100'000;
    sync_->start({"127.0.0.1", "127.0.0.2"});
    EXPECT_TRUE(wait_until(*loop_, [&] { return steps_ == 2; }));
    EXPECT_EQ(off_by_s(), 100'000);
}

TEST_F(TimeSyncTest, TwoThatContradictEachOtherAreBothNotBelieved) {
    ASSERT_TRUE(synchronise({"127.0.0.1"}));
    first_->time_s += 100'000;
    second_->time_s += 200'000;
    sync_->start({"127.0.0.1", "127.0.0.2"});
    ASSERT_TRUE(wait_until(*loop_, [&] { return second_->asked == 1; }));
    turn(*loop_, milliseconds(20));
    EXPECT_EQ(steps_, 1);
    EXPECT_FALSE(sync_->status().problem.empty());
}

TEST_F(TimeSyncTest, WithoutServersItSaysSo) {
    sync_->start({});
    EXPECT_EQ(sync_->status().problem, "no time server is known");
}

} // namespace
} // namespace nullbox::egress
