#include "net/identity.h"

#include <gtest/gtest.h>

namespace nullbox::net {

TEST(Identity, SurvivesItsFile) {
    auto made = Identity::make();
    ASSERT_TRUE(made.has_value()) << made.error().message;
    auto again = Identity::from_pem(*made->to_pem());
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_EQ(again->public_key(), made->public_key());
    EXPECT_EQ(made->public_key().size(), 91u); // P-256, uncompressed, named curve
    EXPECT_NE(Identity::make()->public_key(), made->public_key());
}

TEST(Identity, RefusesWhatIsNoKeyOfItsKind) {
    EXPECT_FALSE(Identity::from_pem("").has_value());
    auto pem = *Identity::make()->to_pem();
    EXPECT_FALSE(Identity::from_pem(std::string_view(pem).substr(0, pem.size() / 2)).has_value());
    // An Ed25519 key (RFC 8410, section 10.3).
    auto other = Identity::from_pem("-----BEGIN PRIVATE KEY-----\n"
                                    "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
                                    "-----END PRIVATE KEY-----\n");
    ASSERT_FALSE(other.has_value());
    EXPECT_EQ(other.error().message, "the private key is not of the kind P-256");
}

TEST(Identity, FingerprintIsTheSha256) {
    EXPECT_EQ(fingerprint("abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Base64, OneTextForTheSameBytes) {
    // RFC 4648, section 10.
    for (auto [bytes, text] : {std::pair("", ""),
                               {"f", "Zg=="},
                               {"fo", "Zm8="},
                               {"foo", "Zm9v"},
                               {"foob", "Zm9vYg=="},
                               {"fooba", "Zm9vYmE="},
                               {"foobar", "Zm9vYmFy"}}) {
        EXPECT_EQ(base64(bytes), text);
        EXPECT_EQ(*from_base64(text), bytes);
    }
    for (auto text : {"Z", "Zg=", "Zg", "Zh==", "Zg==Zg==", "Zm9v\n", " Zg==", "Zm9v====", "====", "Zm8-"})
        EXPECT_FALSE(from_base64(text).has_value()) << text;
}

} // namespace nullbox::net
