#include "cage/guest_session.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::cage {
namespace {

using namespace guest_link;
using namespace std::chrono_literals;

// A session whose guest is the test; what it reports is written down.
struct Guest {
    std::unique_ptr<Loop> loop = *Loop::make();
    Fd socket;
    std::vector<std::string> heard;
    std::unique_ptr<GuestSession> session;

    Guest() {
        auto pair = *make_socket_pair(SOCK_STREAM);
        socket = std::move(pair.first);
        session = *GuestSession::make(
            *loop, std::move(pair.second),
            {.hello = [this](const Hello&) { heard.emplace_back("hello"); },
             .started = [this](const Started&) { heard.emplace_back("started"); },
             .output = [this](const Output& output) { heard.push_back("output " + output.text); },
             .health = [this](const Health& health) { heard.push_back("health " + health.says); },
             .exited = [this](const Exited& exited) { heard.push_back(cat("exited ", exited.value)); },
             .failed = [this](const Failure& failure) { heard.push_back("failed " + failure.message); },
             .nonsense = [this](const std::string& message) { heard.push_back(message); },
             .closed = [this] { heard.emplace_back("closed"); }});
    }
    Guest& say(const GuestFrame& frame) {
        EXPECT_TRUE(write_all(socket.get(), *encode(frame)));
        return *this;
    }
    std::vector<std::string> after() {
        for (int i = 0; i < 5; i++) EXPECT_TRUE(loop->run_once(1ms));
        return heard;
    }
    using Heard = std::vector<std::string>;
};

TEST(GuestSession, TheOrderOfARun) {
    Guest guest;
    guest.say(Hello{})
        .say(Started{})
        .say(Output{.text = "a"})
        .say(Health{.says = "b"})
        .say(Exited{.value = 4})
        .say(Output{.text = "late"});
    EXPECT_EQ(guest.after(), (Guest::Heard{"hello", "started", "output a", "health b", "exited 4"}));
    char byte = 0;
    EXPECT_EQ(::recv(guest.socket.get(), &byte, 1, MSG_DONTWAIT), 0)
        << "the host closes after the last frame";
}

TEST(GuestSession, EveryOtherOrderIsNonsense) {
    const std::string kOut = "nonsense on the guest's link: a frame out of order";
    EXPECT_EQ(Guest().say(Started{}).after(), Guest::Heard{kOut});
    EXPECT_EQ(Guest().say(Failure{}).after(), Guest::Heard{kOut});
    EXPECT_EQ(Guest().say(Hello{}).say(Hello{}).after(), (Guest::Heard{"hello", kOut}));
    EXPECT_EQ(Guest().say(Hello{}).say(Exited{}).after(), (Guest::Heard{"hello", kOut}));
    EXPECT_EQ(Guest().say(Hello{}).say(Started{}).say(Started{}).after(),
              (Guest::Heard{"hello", "started", kOut}));
}

TEST(GuestSession, AnotherVersionIsRefused) {
    EXPECT_EQ(
        Guest().say(Hello{.version = 1}).after(),
        (Guest::Heard{
            cat("nonsense on the guest's link: agent-init speaks version 1 of the link, cage ", kVersion)}));
}

TEST(GuestSession, AnEndWithoutAReportIsSeen) {
    Guest guest;
    guest.say(Hello{});
    guest.socket.reset();
    EXPECT_EQ(guest.after(), (Guest::Heard{"hello", "closed"}));
    EXPECT_FALSE(guest.session->send(HostFrame(Stop{})));
}

TEST(GuestSession, DrainTakesWhatIsLeftPastThePace) {
    Guest guest;
    guest.say(Hello{}).say(Started{});
    guest.after();
    for (int i = 0; i < 20; i++) guest.say(Output{.text = std::string(5000, 'x')});
    guest.say(Exited{});
    guest.socket.reset();
    guest.session->drain();
    EXPECT_EQ(guest.heard.size(), 23U);
    EXPECT_EQ(guest.heard.back(), "exited 0");
}

TEST(GuestSession, AGuestThatDoesNotReadBlocksNobody) {
    Guest guest;
    Start start{.command = {std::string(500'000, 'x')}};
    auto begin = Clock::now();
    for (int i = 0; i < 3; i++) EXPECT_TRUE(guest.session->send(HostFrame(start)));
    EXPECT_LT(Clock::now() - begin, 2s);
    guest.say(Hello{});
    EXPECT_EQ(guest.after(), Guest::Heard{"hello"});
}

} // namespace
} // namespace nullbox::cage
