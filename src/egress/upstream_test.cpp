#include "egress/upstream.h"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "egress/dns_for_test.h"

namespace nullbox::egress {

class UpstreamTest : public testing::Test {
protected:
    Result<std::vector<IpAddress>> lookup(std::string_view name, size_t servers = 1) {
        Upstream upstream(
            *loop_, [servers] { return std::vector<IpAddress>(servers, *IpAddress::parse("127.0.0.1")); },
            {.port = dns_.port(),
             .timeout = std::chrono::milliseconds(200),
             .hosts = hosts_,
             .reach = [this] { return reach_; }});
        return lookup(upstream, name);
    }
    // Of one that is asked more than once.
    Result<std::vector<IpAddress>> lookup(Upstream& upstream, std::string_view name) {
        Result<std::vector<IpAddress>> found = error("not asked");
        auto task = [&]() -> Task<void> { found = co_await upstream.lookup(*HostName::parse(name)); };
        run(task());
        return found;
    }
    void run(Task<> task) {
        Tasks tasks(*loop_);
        tasks.spawn(std::move(task));
        ASSERT_TRUE(tasks.run());
    }
    std::unique_ptr<Loop> loop_ = *Loop::make();
    TestDns dns_;
    std::map<HostName, IpAddress> hosts_;
    Reach reach_;
};

TEST_F(UpstreamTest, FindsAddresses) {
    dns_.set("api.example.org", {"8.8.4.4", "8.8.8.8"});
    auto found = lookup("api.example.org");
    ASSERT_TRUE(found) << found.error().message;
    ASSERT_EQ(found->size(), 2);
    EXPECT_EQ((*found)[0].text(), "8.8.4.4");
    dns_.set("six.example.org", {"2606:4700::1111"});
    EXPECT_EQ(lookup("six.example.org")->front().text(), "2606:4700::1111");
}

TEST_F(UpstreamTest, ABoxWithIpv6OnlyAsksForThatFirst) {
    dns_.set("both.example.org", {"8.8.4.4", "2606:4700::1111"});
    dns_.set("four.example.org", {"8.8.4.4"});
    EXPECT_EQ(lookup("both.example.org")->front().text(), "8.8.4.4");
    reach_ = {.v4 = false, .v6 = true};
    EXPECT_EQ(lookup("both.example.org")->front().text(), "2606:4700::1111");
    EXPECT_EQ(lookup("four.example.org")->front().text(), "8.8.4.4") << "so that it is said what it has";
    reach_ = {.v4 = true, .v6 = true};
    EXPECT_EQ(lookup("both.example.org")->front().text(), "8.8.4.4") << "the other one is for later";
}

TEST_F(UpstreamTest, TheOtherFamilyIsAskedForWhereTheBoxHasIt) {
    dns_.set("both.example.org", {"8.8.4.4", "2606:4700::1111"});
    Upstream upstream(*loop_, [] { return std::vector{*IpAddress::parse("127.0.0.1")}; },
                      {.port = dns_.port(), .reach = [this] { return reach_; }});
    auto other = [&](bool family_v6) {
        std::string found;
        auto task = [&]() -> Task<void> {
            for (const auto& one :
                 co_await upstream.lookup_other(*HostName::parse("both.example.org"), family_v6))
                found += one.text() + " ";
        };
        run(task());
        return found;
    };
    EXPECT_EQ(other(false), "");
    EXPECT_EQ(dns_.queries(), 0) << "this box has IPv4 only";
    reach_.v6 = true;
    EXPECT_EQ(other(false), "2606:4700::1111 ");
    EXPECT_EQ(other(false), "2606:4700::1111 ");
    EXPECT_EQ(dns_.queries(), 1) << "and then it is known";
    EXPECT_EQ(other(true), "8.8.4.4 ");
    reach_.v4 = false;
    EXPECT_EQ(other(true), "");
}

// Control: tcp_only_. Without it each look-up waits for UDP's time-out first.
TEST_F(UpstreamTest, AServerThatAnswersByTcpOnlyIsRemembered) {
    for (auto name : {"a.example.org", "b.example.org"}) dns_.set(name, {"8.8.4.4"});
    dns_.lower_case = dns_.by_tcp = true;
    Upstream upstream(*loop_, [] { return std::vector{*IpAddress::parse("127.0.0.1")}; },
                      {.port = dns_.port(), .timeout = std::chrono::milliseconds(200)});
    auto ask = [&](std::string_view name) { return lookup(upstream, name).has_value(); };
    EXPECT_TRUE(ask("a.example.org"));
    EXPECT_EQ(dns_.queries(), 2) << "by UDP in vain, then by TCP";
    EXPECT_TRUE(ask("b.example.org"));
    EXPECT_EQ(dns_.queries(), 3);
    EXPECT_EQ(dns_.streams(), 2);
    dns_.by_tcp = false; // it changes its mind
    dns_.lower_case = false;
    dns_.set("c.example.org", {"8.8.4.4"});
    dns_.set("d.example.org", {"8.8.4.4"});
    EXPECT_FALSE(ask("c.example.org")) << "for one look-up";
    EXPECT_TRUE(ask("d.example.org"));
    EXPECT_EQ(dns_.streams(), 2);
}

TEST_F(UpstreamTest, AConfiguredHostIsNotAskedFor) {
    hosts_.emplace(*HostName::parse("nas.lan"), *IpAddress::parse("192.0.2.7"));
    auto found = lookup("nas.lan", 0);
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(found->front().text(), "192.0.2.7");
    EXPECT_EQ(dns_.queries(), 0);
    EXPECT_FALSE(lookup("www.nas.lan", 0));
}

TEST_F(UpstreamTest, SaysWhatIsWrong) {
    EXPECT_TRUE(
        lookup("missing.example.org").error().message.contains("there is no host missing.example.org"));
    EXPECT_TRUE(lookup("api.example.org", 0).error().message.contains("no DNS server"));
    dns_.set("empty.example.org", {});
    EXPECT_TRUE(lookup("empty.example.org").error().message.contains("no address"));
}

// Control: the spelling. A server that lowers it is asked by TCP, where nobody can slip an answer in.
TEST_F(UpstreamTest, AnAnswerInAnotherSpellingIsNotTakenByUdp) {
    dns_.set("api.example.org", {"8.8.4.4"});
    dns_.lower_case = true;
    EXPECT_FALSE(lookup("api.example.org")) << "this server speaks no TCP yet";
    EXPECT_EQ(dns_.queries(), 1);
    dns_.by_tcp = true;
    auto found = lookup("api.example.org");
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(found->front().text(), "8.8.4.4");
    EXPECT_EQ(dns_.streams(), 1);
}

TEST_F(UpstreamTest, AForgedAnswerBeforeTheRightOneIsNotSeen) {
    dns_.set("api.example.org", {"8.8.4.4"});
    dns_.forge_first = true;
    auto found = lookup("api.example.org");
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(found->front().text(), "8.8.4.4");
}

TEST_F(UpstreamTest, TheNextServerIsAskedWhenOneFails) {
    dns_.set("api.example.org", {"8.8.4.4"});
    dns_.fail_first = true;
    EXPECT_TRUE(lookup("api.example.org", 2));
    EXPECT_EQ(dns_.queries(), 2);
}

// A server that takes questions and says nothing is in nobody's way for long.
TEST_F(UpstreamTest, AServerThatFailedIsAskedLast) {
    sockaddr_in address{
        .sin_family = AF_INET, .sin_port = htons(dns_.port()), .sin_addr = {htonl(INADDR_LOOPBACK + 1)}};
    Fd silent(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ASSERT_EQ(::bind(silent.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    auto questions_to_silent = [&] {
        int count = 0;
        for (char bytes[512]; ::recv(silent.get(), bytes, sizeof bytes, 0) > 0;) count++;
        return count;
    };
    for (auto name : {"a.example.org", "b.example.org"}) dns_.set(name, {"8.8.4.4"});
    std::vector servers{*IpAddress::parse("127.0.0.2"), *IpAddress::parse("127.0.0.1")};
    Upstream upstream(*loop_, [&] { return servers; },
                      {.port = dns_.port(), .timeout = std::chrono::milliseconds(200), .hosts = {}});
    auto ask = [&](std::string_view name) { return lookup(upstream, name).has_value(); };
    EXPECT_TRUE(ask("a.example.org"));
    EXPECT_EQ(questions_to_silent(), 1);
    EXPECT_TRUE(ask("b.example.org"));
    EXPECT_EQ(questions_to_silent(), 0) << "the other one answers, so it comes first";
    EXPECT_EQ(upstream.problem(), "");
    servers.pop_back();
    EXPECT_FALSE(ask("c.example.org"));
    EXPECT_EQ(questions_to_silent(), 1) << "failing, but the only one";
    EXPECT_TRUE(upstream.problem().contains("no DNS server answered")) << upstream.problem();
    servers = {*IpAddress::parse("127.0.0.1")};
    EXPECT_FALSE(ask("c.example.org")) << "there is no such name";
    EXPECT_EQ(upstream.problem(), "") << "but the server says so";
    dns_.fail_first = true; // and its TCP is closed
    EXPECT_FALSE(ask("d.example.org"));
    EXPECT_EQ(upstream.problem(), "") << "an error is an answer: a name's owner can cause it";
}

} // namespace nullbox::egress
