#include "egress/upstream.h"

#include <gtest/gtest.h>

#include "egress/dns_for_test.h"

namespace nullbox::egress {

class UpstreamTest : public testing::Test {
protected:
    Result<std::vector<IpAddress>> lookup(std::string_view name, size_t servers = 1) {
        asio::io_context context;
        Upstream upstream(
            context, [servers] { return std::vector<IpAddress>(servers, *IpAddress::parse("127.0.0.1")); },
            {.port = dns_.port(), .timeout = std::chrono::milliseconds(200), .hosts = hosts_});
        Result<std::vector<IpAddress>> found = error("not asked");
        auto task = [&]() -> Task<void> { found = co_await upstream.lookup(*HostName::parse(name)); };
        asio::co_spawn(context, task(), asio::detached);
        context.run();
        return found;
    }
    TestDns dns_;
    std::map<HostName, IpAddress> hosts_;
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
    dns_.lower_case_by_udp = true;
    auto found = lookup("api.example.org");
    EXPECT_FALSE(found) << "this test's server speaks no TCP";
    EXPECT_GE(dns_.queries(), 1);
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

} // namespace nullbox::egress
