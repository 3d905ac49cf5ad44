#include "egress/dns_message.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace nullbox::egress::dns {

static std::vector<std::byte> bytes(std::string_view text) {
    auto view = std::as_bytes(std::span(text));
    return {view.begin(), view.end()};
}

using namespace std::string_literals;
static const std::string kHeader = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"s;
static const std::string kName = "\x03"s
                                 "ApI\x07"s
                                 "example\x03"s
                                 "org\x00"s;
static const std::string kA = "\x00\x01\x00\x01"s;

TEST(DnsQuery, IsReadAndAnswered) {
    auto query = parse_query(bytes(kHeader + kName + kA));
    ASSERT_TRUE(query);
    EXPECT_EQ(query->id, 0x1234);
    EXPECT_TRUE(query->recursion_desired);
    EXPECT_EQ(query->name->text(), "api.example.org");
    EXPECT_EQ(query->type, kTypeA);
    auto out = answer(*query, Rcode::NoError, Ip4{0xc6120005}, 30);
    EXPECT_EQ(as_text(out), "\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00"s + kName + kA +
                                "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\xc6\x12\x00\x05"s);
    EXPECT_EQ(as_text(answer(*query, Rcode::NxDomain)),
              "\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00"s + kName + kA);
}

TEST(DnsQuery, EdnsIsUnderstood) {
    auto header = kHeader;
    header[11] = 1;
    auto query = parse_query(bytes(header + kName + kA + "\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"s));
    ASSERT_TRUE(query);
    EXPECT_TRUE(query->edns);
    EXPECT_EQ(query->udp_bytes, kMaxUdpBytes);
    EXPECT_EQ(as_text(answer(*query, Rcode::NoError)).back(), '\0');
    EXPECT_EQ(answer(*query, Rcode::NoError).size(), 12 + kName.size() + 4 + 11);
}

TEST(DnsQuery, NamesThatAreNoHostNamesAreKeptApart) {
    // One label "api.example" is not the two labels api and example.
    auto dotted = parse_query(bytes(kHeader +
                                    "\x0b"s
                                    "api.example\x03"s
                                    "org\x00"s +
                                    kA));
    ASSERT_TRUE(dotted);
    EXPECT_FALSE(dotted->name);
    auto nul = parse_query(bytes(kHeader +
                                 "\x05"s
                                 "a\x00"
                                 "b.c\x03"s
                                 "org\x00"s +
                                 kA));
    EXPECT_TRUE(!nul || !nul->name);
    auto service = parse_query(bytes(kHeader +
                                     "\x05"s
                                     "_http\x03"s
                                     "org\x00"s +
                                     kA));
    ASSERT_TRUE(service);
    EXPECT_FALSE(service->name);
}

TEST(DnsQuery, NonsenseIsRefusedOrDropped) {
    auto rcode = [](const std::string& message) -> int {
        auto query = parse_query(bytes(message));
        if (query) return -1;
        return query.error().id ? static_cast<int>(query.error().rcode) : -2;
    };
    EXPECT_EQ(rcode(""), -2);
    EXPECT_EQ(rcode(kHeader.substr(0, 11)), -2);
    auto response = kHeader;
    response[2] = '\x81';
    EXPECT_EQ(rcode(response + kName + kA), -2) << "an answer is never answered";
    auto opcode = kHeader;
    opcode[2] = '\x29';
    EXPECT_EQ(rcode(opcode + kName + kA), 4);
    auto two = kHeader;
    two[5] = 2;
    EXPECT_EQ(rcode(two + kName + kA + kName + kA), 1);
    EXPECT_EQ(rcode(kHeader + kName), 1) << "no type";
    EXPECT_EQ(rcode(kHeader + kName + kA + "x"), 1) << "bytes behind";
    EXPECT_EQ(rcode(kHeader + "\xc0\x0c"s + kA), 1) << "a name that points to itself";
    EXPECT_EQ(rcode(kHeader +
                    "\x01"s
                    "a\xc0\x0c"s +
                    kA),
              1)
        << "a loop";
    EXPECT_EQ(rcode(kHeader + "\xc0\xff"s + kA), 1) << "forwards";
    EXPECT_EQ(rcode(kHeader + "\x40"s + std::string(64, 'a') + "\x00"s + kA), 1);
    std::string long_name;
    for (int i = 0; i < 5; i++) long_name += "\x3f"s + std::string(63, 'a');
    EXPECT_EQ(rcode(kHeader + long_name + "\x00"s + kA), 1);
}

static const UpstreamQuestion kQuestion{.id = 0x0102, .spelling = "aPi.example.org", .type = kTypeA};

// Question (in its spelling), then records.
static std::string reply(std::string_view flags, char answers, const std::string& records,
                         std::string_view spelling = "aPi") {
    return "\x01\x02"s + std::string(flags) + "\x00\x01\x00"s + answers + "\x00\x00\x00\x00\x03"s +
           std::string(spelling) +
           "\x07"s
           "example\x03"s
           "org\x00"s +
           kA + records;
}
static const std::string kAddress = "\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x08\x08\x04\x04"s;

TEST(DnsAnswer, AddressesAreFoundThroughAliases) {
    auto direct = parse_answer(bytes(reply("\x81\x80", 1, "\xc0\x0c"s + kAddress)), kQuestion);
    ASSERT_TRUE(direct);
    ASSERT_EQ(direct->addresses.size(), 1);
    EXPECT_EQ(direct->addresses[0].text(), "8.8.4.4");
    EXPECT_EQ(direct->ttl_s, 60);
    // api.example.org -> cdn.example.org (10 s) -> 8.8.4.4
    auto alias = "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x0a\x00\x06\x03"s
                 "cdn\xc0\x10"s;
    auto aliased = parse_answer(bytes(reply("\x81\x80", 2, alias + "\xc0\x2d"s + kAddress)), kQuestion);
    ASSERT_TRUE(aliased);
    ASSERT_EQ(aliased->addresses.size(), 1);
    EXPECT_EQ(aliased->ttl_s, 10);
    // An address of somebody else's name is not ours.
    auto other = parse_answer(bytes(reply("\x81\x80", 1,
                                          "\x04"s
                                          "evil\x00"s +
                                              kAddress)),
                              kQuestion);
    ASSERT_TRUE(other);
    EXPECT_TRUE(other->addresses.empty());
    // An alias to itself ends.
    auto loop = parse_answer(
        bytes(reply("\x81\x80", 1, "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x0a\x00\x02\xc0\x0c"s)), kQuestion);
    ASSERT_TRUE(loop);
    EXPECT_TRUE(loop->addresses.empty());
}

// Control: id, 0x20 spelling and question must match, or anybody off the path could answer.
TEST(DnsAnswer, ForgedAnswersAreNotSeen) {
    auto good = reply("\x81\x80", 1, "\xc0\x0c"s + kAddress);
    EXPECT_TRUE(parse_answer(bytes(good), kQuestion));
    auto id = good;
    id[1] = 3;
    EXPECT_FALSE(parse_answer(bytes(id), kQuestion));
    EXPECT_FALSE(parse_answer(bytes(reply("\x81\x80", 1, "\xc0\x0c"s + kAddress, "api")), kQuestion));
    EXPECT_FALSE(parse_answer(bytes(reply("\x01\x00"s, 1, "\xc0\x0c"s + kAddress)), kQuestion)) << "a query";
    for (size_t size = 0; size < good.size(); size++)
        if (auto cut = parse_answer(bytes(good.substr(0, size)), kQuestion))
            EXPECT_TRUE(cut->addresses.empty());
    auto truncated = parse_answer(bytes(reply("\x83\x80", 0, "")), kQuestion);
    ASSERT_TRUE(truncated);
    EXPECT_TRUE(truncated->truncated);
}

TEST(DnsQuestion, IsEncoded) {
    EXPECT_EQ(as_text(encode(kQuestion)), "\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03"s
                                          "aPi\x07"s
                                          "example\x03"s
                                          "org\x00\x00\x01\x00\x01"s
                                          "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"s);
}

} // namespace nullbox::egress::dns
