#include "egress/name.h"

#include <gtest/gtest.h>

namespace nullbox::egress {

TEST(HostName, IsOneFormWhateverTheSpelling) {
    for (auto spelling : {"api.example.org", "API.Example.ORG", "api.example.org.", "Api.example.oRg."})
        EXPECT_EQ(HostName::parse(spelling)->text(), "api.example.org") << spelling;
    EXPECT_EQ(HostName::parse("nas")->text(), "nas");
    EXPECT_EQ(HostName::parse("xn--bcher-kva.example")->text(), "xn--bcher-kva.example");
    EXPECT_EQ(HostName::parse("a--b.1.example")->text(), "a--b.1.example");
}

TEST(HostName, RefusesWhatTwoReadersMightReadDifferently) {
    using std::string;
    const string label64(64, 'a');
    const string long_name =
        string(63, 'a') + "." + string(63, 'b') + "." + string(63, 'c') + "." + string(62, 'd');
    for (const auto& text : {string(),
                             string("."),
                             string("a..b"),
                             string(".a"),
                             string("a.."),
                             string("a b"),
                             string("a_b.org"),
                             string("-a.org"),
                             string("a-.org"),
                             string("good.org\0.evil.org", 18),
                             string("good.org\0", 9),
                             string("b\xc3\xbc"
                                    "cher.org"),
                             string("127.1"),
                             string("1.2.3.4"),
                             string("0x7f.0x1"),
                             string("a.0x1"),
                             string("a/b"),
                             string("a:80"),
                             string("[::1]"),
                             string("a@b.org"),
                             string("*.org"),
                             string("a\n.org"),
                             label64 + ".org",
                             long_name})
        EXPECT_FALSE(HostName::parse(text).has_value()) << text;
}

TEST(HostName, BelowCountsWholeLabels) {
    auto name = [](const char* text) { return *HostName::parse(text); };
    EXPECT_TRUE(name("a.example.org").below(name("example.org")));
    EXPECT_TRUE(name("b.a.example.org").below(name("example.org")));
    EXPECT_FALSE(name("example.org").below(name("example.org")));
    EXPECT_FALSE(name("evilexample.org").below(name("example.org")));
    EXPECT_FALSE(name("example.org.evil.net").below(name("example.org")));
}

} // namespace nullbox::egress
