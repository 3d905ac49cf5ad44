#include "egress/resolver.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "egress/dns_message.h"
#include "egress/loop_thread_for_test.h"

namespace nullbox::egress {

static std::vector<std::byte> question(std::string name, uint16_t type = dns::kTypeA) {
    return dns::encode({.id = 7, .spelling = std::move(name), .type = type});
}
static int rcode(std::span<const std::byte> answer) {
    return answer.size() < 4 ? -1 : static_cast<int>(answer[3]) & 0xf;
}

class ResolverTest : public testing::Test {
protected:
    std::optional<Ip4> address(const std::string& name) {
        auto out = ask(name);
        auto parsed = dns::parse_answer(out, {.id = 7, .spelling = name});
        if (!parsed || parsed->addresses.empty()) return std::nullopt;
        return Ip4::parse(parsed->addresses[0].text());
    }
    std::vector<std::byte> ask(const std::string& name, uint16_t type = dns::kTypeA) {
        now_ += std::chrono::seconds(1);
        return answer_query(*agent_, book_, question(name, type), now_);
    }
    std::vector<Record> denials() {
        return book_.last(1000, [](const Record& record) { return record.verdict == Verdict::Denied; });
    }
    std::shared_ptr<Agent> agent_ = std::make_shared<Agent>(
        "a", tap_link(3),
        *Policy::compile({.allow = {"api.example.org", "*.example.net", "git.example.org:22"}}));
    RecordBook book_{{.now_ms = [] { return int64_t{1}; }}};
    Clock::time_point now_ = Clock::now();
};

TEST_F(ResolverTest, AListedNameGetsOneAddressForGood) {
    auto first = address("api.example.org");
    ASSERT_TRUE(first);
    EXPECT_TRUE(agent_->link.is_synthetic(*first));
    EXPECT_EQ(address("API.example.ORG"), first);
    auto other = address("git.example.org");
    EXPECT_NE(other, first);
    EXPECT_EQ(agent_->names.name_of(*first)->text(), "api.example.org");
    EXPECT_TRUE(denials().empty());
}

// Control: decide_name() before anything else. No query of the agent is ever sent on.
TEST_F(ResolverTest, OtherNamesDoNotExistAndAreRecorded) {
    EXPECT_EQ(rcode(ask("evil.test")), 3);
    EXPECT_EQ(rcode(ask("c2VjcmV0.exfil.evil.test", 16)), 3);
    EXPECT_EQ(rcode(ask("example.net")), 3);
    EXPECT_EQ(rcode(ask("_service.api.example.org", 33)), 3);
    ASSERT_EQ(denials().size(), 4);
    EXPECT_EQ(denials()[0].name, "evil.test");
    EXPECT_EQ(denials()[0].add, "allow = [\"evil.test\"]");
    EXPECT_EQ(agent_->counters.lookups_denied, 4);
}

TEST_F(ResolverTest, ListedNamesHaveNoOtherRecords) {
    for (uint16_t type : {dns::kTypeAaaa, uint16_t{65}, uint16_t{64}, uint16_t{16}, uint16_t{255}}) {
        auto out = ask("api.example.org", type);
        EXPECT_EQ(rcode(out), 0) << type;
        EXPECT_EQ(static_cast<int>(out[7]), 0) << "no answer records for type " << type;
    }
}

// Control: kMaxWildcardNames. Each name below a wildcard is a message to whoever runs it.
TEST_F(ResolverTest, NamesBelowAWildcardAreLimited) {
    for (size_t i = 0; i < kMaxWildcardNames; i++) EXPECT_EQ(rcode(ask(cat("n", i, ".example.net"))), 0) << i;
    EXPECT_EQ(rcode(ask("one-more.example.net")), 5);
    EXPECT_EQ(rcode(ask("n0.example.net")), 0) << "those that are known stay";
    EXPECT_EQ(rcode(ask("api.example.org")), 0) << "and listed names too";
    EXPECT_EQ(denials().size(), 1);
}

// Control: lookup_budget.
TEST_F(ResolverTest, AFloodOfQueriesIsDropped) {
    size_t answered = 0;
    for (int i = 0; i < 1000; i++)
        answered += !answer_query(*agent_, book_, question("api.example.org"), now_).empty();
    EXPECT_EQ(answered, 100);
}

TEST_F(ResolverTest, NonsenseIsAnsweredAsSuchOrNotAtAll) {
    EXPECT_TRUE(answer_query(*agent_, book_, {}, now_).empty());
    auto broken = question("api.example.org");
    broken.resize(broken.size() - 12);
    EXPECT_EQ(rcode(answer_query(*agent_, book_, broken, now_)), 1);
}

struct TestSocket {
    Fd fd;
    uint16_t port = 0;
};
static TestSocket bound(int type) {
    TestSocket out{Fd(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0))};
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(out.fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    if (type == SOCK_STREAM) EXPECT_EQ(::listen(out.fd.get(), 8), 0);
    ::getsockname(out.fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    out.port = ntohs(address.sin_port);
    return out;
}

static std::string exchange(int type, uint16_t port, std::string_view query) {
    Fd fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    timeval limit{.tv_sec = 0, .tv_usec = 300'000};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    (void)!::write(fd.get(), query.data(), query.size());
    char bytes[2048];
    auto count = ::read(fd.get(), bytes, sizeof bytes);
    return count > 0 ? std::string(bytes, static_cast<size_t>(count)) : std::string();
}

TEST_F(ResolverTest, ServesDatagramsAndStreamsOfItsGuestOnly) {
    agent_->link.guest = Ip4{INADDR_LOOPBACK};
    auto datagrams = bound(SOCK_DGRAM), streams = bound(SOCK_STREAM);
    LoopThread thread;
    Resolver resolver(thread.tasks(), book_);
    ASSERT_TRUE(resolver.serve(agent_, std::move(datagrams.fd), std::move(streams.fd)));
    thread.start();
    auto asked = question("api.example.org");
    std::string query(reinterpret_cast<const char*>(asked.data()), asked.size());
    auto answer = exchange(SOCK_DGRAM, datagrams.port, query);
    EXPECT_EQ(rcode(std::as_bytes(std::span(answer))), 0);
    auto framed = std::string{'\0', static_cast<char>(query.size())} + query;
    auto streamed = exchange(SOCK_STREAM, streams.port, framed);
    ASSERT_GT(streamed.size(), 2);
    EXPECT_EQ(streamed.substr(2), answer);
    thread.there([&] { return agent_->link.guest = Ip4{INADDR_LOOPBACK + 1}; }); // now we are somebody else
    EXPECT_EQ(exchange(SOCK_DGRAM, datagrams.port, query), "");
    EXPECT_EQ(exchange(SOCK_STREAM, streams.port, framed), "");
    thread.stop();
    resolver.stop("a");
}

TEST(Agents, AFlowIsOfTheGuestThatSendsItAndOfItsOwnNames) {
    Agents agents;
    auto policy = *Policy::compile({.allow = {"api.example.org"}});
    auto one = agents.attach("one", policy), two = agents.attach("two", policy);
    ASSERT_TRUE(one && two);
    auto address = *one->names.address_of(*HostName::parse("api.example.org"), false);
    auto flow = agents.flow(one->link.guest, IpAddress::of(address), 443);
    ASSERT_TRUE(flow);
    EXPECT_EQ(flow->agent, one);
    EXPECT_EQ(flow->destination.text(), "api.example.org:443");
    EXPECT_FALSE(agents.flow(two->link.guest, IpAddress::of(address), 443)) << "another's synthetic address";
    EXPECT_FALSE(agents.flow(Ip4{one->link.guest.value + 1}, IpAddress::of(address), 443)) << "not the guest";
    EXPECT_FALSE(agents.flow(Ip4{0x08080808}, IpAddress::of(address), 443));
    EXPECT_FALSE(agents.flow(one->link.guest, IpAddress::of(Ip4{address.value + 1}), 443))
        << "never given out";
    agents.detach("one");
    EXPECT_FALSE(one->attached);
    EXPECT_FALSE(agents.flow(one->link.guest, IpAddress::of(address), 443));
    EXPECT_EQ(agents.attach("one", policy)->link.slot, one->link.slot) << "it comes back to its slot";
    for (unsigned i = 2; i < kMaxSlots; i++) EXPECT_TRUE(agents.attach(cat("x", i), policy));
    EXPECT_FALSE(agents.attach("one-too-many", policy));
}

} // namespace nullbox::egress
