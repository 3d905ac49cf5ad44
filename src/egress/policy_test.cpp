#include "egress/policy.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace nullbox::egress {

static HostName name(std::string_view text) { return *HostName::parse(text); }

static Policy policy() {
    return *Policy::compile(
        {.allow = {"api.example.org", "*.example.net", "*.tls.example.com:443", "git.example.org:22",
                   "192.0.2.7:8080", "[2001:db8::7]:443", "secret.example.org", "nas.lan:445"},
         .allow_private = {"nas.lan"},
         .inject = {{.secret = "KEY",
                     .host = name("secret.example.org"),
                     .header = "Authorization",
                     .format = "Bearer {secret}",
                     .placeholder = "p"}}});
}

struct PolicyCase {
    const char* destination;
    bool allowed;
    const char* rule_or_add;
    Mode mode = Mode::Relay;
};

// Control: Policy::decide(), whose last line is deny.
TEST(Policy, AllowsWhatIsNamedAndNothingElse) {
    for (const auto& [text, allowed, rule_or_add, mode] :
         std::vector<PolicyCase>{{"api.example.org", true, "api.example.org", Mode::Tls},
                                 {"api.example.org:443", true, "api.example.org", Mode::Tls},
                                 {"API.example.org.:80", true, "api.example.org", Mode::Http},
                                 {"api.example.org:22", false, "allow = [\"api.example.org:22\"]"},
                                 {"example.org", false, "allow = [\"example.org\"]"},
                                 {"x.api.example.org", false, "allow = [\"x.api.example.org\"]"},
                                 {"evilapi.example.org:443", false, "allow = [\"evilapi.example.org\"]"},
                                 {"a.example.net", true, "*.example.net", Mode::Tls},
                                 {"b.a.example.net:80", true, "*.example.net", Mode::Http},
                                 {"example.net", false, "allow = [\"example.net\"]"},
                                 {"badexample.net", false, "allow = [\"badexample.net\"]"},
                                 {"x.tls.example.com", true, "*.tls.example.com:443", Mode::Tls},
                                 {"x.tls.example.com:80", false, "allow = [\"x.tls.example.com\"]"},
                                 {"git.example.org:22", true, "git.example.org:22", Mode::Relay},
                                 {"git.example.org:443", false, "allow = [\"git.example.org\"]"},
                                 {"192.0.2.7:8080", true, "192.0.2.7:8080", Mode::Relay},
                                 {"192.0.2.7:80", false, "allow = [\"192.0.2.7:80\"]"},
                                 {"192.0.2.8:8080", false, "allow = [\"192.0.2.8:8080\"]"},
                                 {"[2001:db8::7]:443", true, "[2001:db8::7]:443", Mode::Relay},
                                 {"[2001:db8::8]:443", false, "allow = [\"[2001:db8::8]:443\"]"},
                                 {"secret.example.org", true, "secret.example.org", Mode::Terminate},
                                 {"secret.example.org:80", true, "secret.example.org",
                                  Mode::Terminate}, // to be refused there, in words
                                 {"nas.lan:445", true, "nas.lan:445", Mode::Relay}}) {
        auto decision = policy().decide(*Destination::parse(text));
        EXPECT_EQ(decision.allowed, allowed) << text;
        EXPECT_EQ(allowed ? decision.rule : decision.add, rule_or_add) << text;
        if (allowed) EXPECT_EQ(decision.mode, mode) << text;
        EXPECT_EQ(decision.reason.empty(), allowed) << text;
    }
    EXPECT_FALSE(Policy().decide(*Destination::parse("api.example.org")).allowed);
}

// Which entry is the one that is recorded: an exact one, then the first wildcard of the list.
TEST(Policy, OfTwoEntriesOneIsTheReason) {
    auto policy =
        *Policy::compile({.allow = {"*.b.example.org:22", "*.example.org", "*.b.example.org",
                                    "a.b.example.org:22", "a.b.example.org", "*.example.org:8080"}});
    auto rule = [&](std::string_view text) { return policy.decide(*Destination::parse(text)).rule; };
    EXPECT_EQ(rule("a.b.example.org"), "a.b.example.org");
    EXPECT_EQ(rule("a.b.example.org:22"), "a.b.example.org:22");
    EXPECT_EQ(rule("c.b.example.org"), "*.example.org");
    EXPECT_EQ(rule("c.b.example.org:22"), "*.b.example.org:22");
    EXPECT_EQ(rule("c.b.example.org:8080"), "*.example.org:8080");
    EXPECT_EQ(rule("example.org:8080"), "");
    EXPECT_EQ(rule("example.org"), "");
    EXPECT_EQ(policy.decide_name(name("a.b.example.org")).rule, "a.b.example.org:22");
    EXPECT_EQ(policy.decide_name(name("c.b.example.org")).rule, "*.b.example.org:22");
}

TEST(Policy, ALongListIsTheSameList) {
    Policy::Source source;
    for (int i = 0; i < 100'000; i++)
        source.allow.push_back(i % 2 ? cat("*.s", i, ".example.org") : cat("h", i, ".example.org:8443"));
    auto policy = *Policy::compile(source);
    EXPECT_EQ(policy.rules(), 100'000u);
    for (int i = 0; i < 100'000; i++) {
        auto host = i % 2 ? cat("a.b.s", i, ".example.org:443") : cat("h", i, ".example.org:8443");
        ASSERT_EQ(policy.decide(*Destination::parse(host)).rule, source.allow[static_cast<size_t>(i)])
            << host;
    }
    EXPECT_FALSE(policy.decide(*Destination::parse("a.h2.example.org:8443")).allowed);
    EXPECT_FALSE(policy.decide(*Destination::parse("s1.example.org")).allowed);
}

TEST(Policy, NamesAreLookedUpIfAnyEntryNamesThem) {
    EXPECT_TRUE(policy().decide_name(name("git.example.org")).allowed);
    EXPECT_FALSE(policy().decide_name(name("api.example.org")).by_wildcard);
    EXPECT_TRUE(policy().decide_name(name("a.example.net")).by_wildcard);
    auto denied = policy().decide_name(name("evil.test"));
    EXPECT_FALSE(denied.allowed);
    EXPECT_EQ(denied.add, "allow = [\"evil.test\"]");
}

TEST(Policy, PrivateAddressesAreForTheNamesThatSaySo) {
    EXPECT_TRUE(policy().decide(*Destination::parse("nas.lan:445")).private_allowed);
    EXPECT_FALSE(policy().decide(*Destination::parse("api.example.org")).private_allowed);
    EXPECT_TRUE(policy().decide(*Destination::parse("192.0.2.7:8080")).private_allowed);
}

// What a denial says to add is accepted, and then allows it.
TEST(Policy, TheLineToAddIsTheRightOne) {
    for (auto text :
         {"evil.test:443", "evil.test:80", "evil.test:8443", "192.0.2.9:22", "[2001:db8::9]:5000"}) {
        auto destination = *Destination::parse(text);
        auto add = Policy().decide(destination).add;
        auto entry = add.substr(10, add.size() - 12);
        auto wider = Policy::compile({.allow = {entry}});
        ASSERT_TRUE(wider) << add;
        EXPECT_TRUE(wider->decide(destination).allowed) << add;
    }
}

TEST(Policy, RefusesWhatItCannotHold) {
    for (auto entry :
         {"", "*", "*.org", "api.example.org/v1", "https://api.example.org", "192.0.2.7", "a:0", "a:65536"})
        EXPECT_FALSE(Policy::compile({.allow = {entry}})) << entry;
    auto bind = [](std::string header, std::string format, std::string_view host = "a.example.org") {
        return Policy::compile(
            {.allow = {"a.example.org"},
             .inject = {{.secret = "K", .host = name(host), .header = header, .format = format}}});
    };
    EXPECT_TRUE(bind("X-Api-Key", "{secret}"));
    EXPECT_FALSE(bind("X-Api-Key", "{secret}", "b.example.org")); // not allowed, so it would never be used
    EXPECT_FALSE(bind("X-Api-Key", "no mark"));
    EXPECT_FALSE(bind("X-Api-Key", "{secret}{secret}"));
    EXPECT_FALSE(bind("X-Api-Key", "a\r\nb: {secret}"));
    EXPECT_FALSE(bind("X Api", "{secret}"));
    EXPECT_FALSE(bind("Host", "{secret}"));
    EXPECT_FALSE(bind("transfer-encoding", "{secret}"));
}

} // namespace nullbox::egress
