#include "egress/client_hello.h"

#include <gtest/gtest.h>

#include "egress/proxy_for_test.h"

namespace nullbox::egress {

using namespace std::string_literals;

static std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(ClientHello, TheServerNameOfARealClientIsFound) {
    auto hello = real_hello("api.example.org");
    auto parsed = parse_client_hello(bytes(hello + "more"));
    ASSERT_TRUE(parsed && *parsed);
    EXPECT_EQ((*parsed)->server_name, "api.example.org");
    EXPECT_FALSE((*parsed)->encrypted_hello);
    EXPECT_EQ((*parsed)->bytes, hello.size());
    auto nameless = parse_client_hello(bytes(real_hello(nullptr)));
    ASSERT_TRUE(nameless && *nameless);
    EXPECT_FALSE((*nameless)->server_name);
}

TEST(ClientHello, MayComeInPiecesAndRecords) {
    auto hello = real_hello("api.example.org");
    for (size_t size = 0; size < hello.size(); size++) {
        auto parsed = parse_client_hello(bytes(hello.substr(0, size)));
        ASSERT_TRUE(parsed) << size << ": " << parsed.error().message;
        EXPECT_FALSE(*parsed) << size;
    }
    std::string split;
    for (size_t at = 5; at < hello.size(); at += 40) {
        auto piece = hello.substr(at, 40);
        split += "\x16\x03\x01\x00"s + static_cast<char>(piece.size()) + piece;
    }
    auto parsed = parse_client_hello(bytes(split));
    ASSERT_TRUE(parsed && *parsed);
    EXPECT_EQ((*parsed)->server_name, "api.example.org");
}

// Control: encrypted_hello. A hidden name would be reached behind an allowed one.
TEST(ClientHello, EncryptedHelloIsSeen) {
    for (unsigned extension : {0xfe0du, 0xffceu}) {
        auto parsed = parse_client_hello(bytes(real_hello("api.example.org", extension)));
        ASSERT_TRUE(parsed && *parsed);
        EXPECT_TRUE((*parsed)->encrypted_hello);
    }
}

// A hello around the given extensions, with the right lengths.
static std::string made_hello(const std::string& extensions) {
    auto number = [](size_t value, int size) {
        std::string out;
        for (int i = size - 1; i >= 0; i--) out += static_cast<char>(value >> (8 * i));
        return out;
    };
    auto body = "\x03\x03"s + std::string(32, 'r') + "\x00\x00\x02\x13\x01\x01\x00"s +
                number(extensions.size(), 2) + extensions;
    auto message = "\x01"s + number(body.size(), 3) + body;
    return "\x16\x03\x01"s + number(message.size(), 2) + message;
}
static const std::string kName = "\x00\x00\x00\x0a\x00\x08\x00\x00\x05"s
                                 "a.org"s;

TEST(ClientHello, WhatTwoReadersMightReadDifferentlyIsRefused) {
    EXPECT_TRUE(parse_client_hello(bytes(made_hello(kName))));
    EXPECT_FALSE(parse_client_hello(bytes(made_hello(kName + kName)))) << "two name extensions";
    EXPECT_FALSE(parse_client_hello(bytes(made_hello("\x00\x00\x00\x12\x00\x10\x00\x00\x05"s
                                                     "a.org\x00\x00\x05"s
                                                     "b.org"s))))
        << "two names";
    EXPECT_FALSE(parse_client_hello(bytes(made_hello("\x00\x00\x00\x0a\x00\x08\x01\x00\x05"s
                                                     "a.org"s))))
        << "another type";
    EXPECT_FALSE(parse_client_hello(bytes(made_hello("\x00\x00\x00\x0b\x00\x08\x00\x00\x05"s
                                                     "a.orgx"s))))
        << "bytes behind";
    EXPECT_FALSE(parse_client_hello(bytes("GET / HTTP/1.1\r\n")));
    EXPECT_FALSE(parse_client_hello(bytes("\x80\x2e\x01\x03\x01"s))) << "SSL 2";
    EXPECT_FALSE(parse_client_hello(bytes("\x16\x03\x01\x00\x00"s))) << "an empty record";
    EXPECT_FALSE(parse_client_hello(bytes("\x16\x03\x01\xff\xff"s))) << "a record too long";
    EXPECT_FALSE(parse_client_hello(bytes("\x16\x03\x01\x00\x04\x02\x00\x00\x00"s))) << "another message";
    EXPECT_FALSE(parse_client_hello(bytes("\x16\x03\x01\x00\x04\x01\xff\xff\xff"s))) << "a message too long";
    auto hello = made_hello(kName);
    hello[4] = static_cast<char>(hello[4] + 4); // a second message in the same record
    EXPECT_FALSE(parse_client_hello(bytes(hello + "\x01\x00\x00\x00"s)));
}

TEST(RetryRequest, IsTold) {
    const std::string random = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91"
                               "\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"s;
    auto hello = "\x16\x03\x03\x00\x58\x02\x00\x00\x54\x03\x03"s;
    EXPECT_EQ(is_retry_request(bytes(hello + random)), true);
    EXPECT_EQ(is_retry_request(bytes(hello + std::string(32, 'x'))), false);
    EXPECT_EQ(is_retry_request(bytes(hello + random.substr(1))), std::nullopt);
    EXPECT_EQ(is_retry_request(bytes("\x15\x03\x03\x00\x02\x02\x28"s)), false);
}

} // namespace nullbox::egress
