// Against vectors that others have published.
#include "warden/crypto.h"

#include <cerrno>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "warden/kdf.h"
#include "warden/test_vault.h"

namespace nullbox::warden {

template <size_t N>
static std::array<std::byte, N> array_of(std::string_view hex) {
    auto bytes = from_hex(hex);
    std::array<std::byte, N> out{};
    EXPECT_EQ(bytes.size(), N);
    std::ranges::copy(bytes, out.begin());
    return out;
}

static SecretBytes secret_of(std::string_view hex) { return *SecretBytes::copy_of(from_hex(hex)); }

// The GCM specification (McGrew, Viega), test case 16.
TEST(Crypto, AesGcmKnownAnswer) {
    auto key = secret_of("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    auto nonce = array_of<12>("cafebabefacedbaddecaf888");
    auto tag = array_of<16>("76fc6ece0f4e1768cddf8853bb2d551b");
    auto associated = from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    auto ciphertext = from_hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                               "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662");
    auto plaintext = unseal(key, associated, nonce, tag, ciphertext);
    ASSERT_TRUE(plaintext.has_value()) << plaintext.error().message;
    EXPECT_TRUE(std::ranges::equal(plaintext->bytes(),
                                   from_hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                                            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")));
    tag[15] ^= std::byte{1};
    EXPECT_CODE(unseal(key, associated, nonce, tag, ciphertext), EBADMSG);
    tag[15] ^= std::byte{1};
    associated[0] ^= std::byte{1};
    EXPECT_CODE(unseal(key, associated, nonce, tag, ciphertext), EBADMSG);
}

TEST(Crypto, SealedOpensAgainAndNoNonceComesTwice) {
    auto key = test_key('k');
    auto associated = from_hex("0102");
    auto text = secret("plaintext");
    auto one = seal(key, associated, text.bytes()), two = seal(key, associated, text.bytes());
    ASSERT_TRUE(one && two);
    EXPECT_NE(one->nonce, two->nonce);
    EXPECT_NE(one->ciphertext, two->ciphertext);
    EXPECT_EQ(unseal(key, associated, one->nonce, one->tag, one->ciphertext)->text(), "plaintext");
    EXPECT_CODE(unseal(test_key('l'), associated, one->nonce, one->tag, one->ciphertext), EBADMSG);
    EXPECT_CODE(unseal(key, associated, two->nonce, one->tag, one->ciphertext), EBADMSG);
    EXPECT_FALSE(seal(secret("short"), associated, text.bytes()).has_value());
}

// RFC 5869 A.1; of its 42 bytes, the first 32.
TEST(Crypto, HkdfKnownAnswer) {
    auto input = secret_of("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    auto purpose = from_hex("f0f1f2f3f4f5f6f7f8f9");
    auto key = derive(input, from_hex("000102030405060708090a0b0c"), as_text(purpose));
    ASSERT_TRUE(key.has_value()) << key.error().message;
    EXPECT_TRUE(std::ranges::equal(
        key->bytes(), from_hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")));
}

TEST(Crypto, Base64IsCanonical) {
    for (std::string_view text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
        auto encoded = to_base64(secret(text));
        ASSERT_TRUE(encoded.has_value());
        auto decoded = from_base64(*encoded);
        ASSERT_TRUE(decoded.has_value()) << *encoded;
        EXPECT_EQ(decoded->text(), text);
    }
    EXPECT_EQ(*to_base64(secret("fooba")), "Zm9vYmE=");
    for (std::string_view wrong : {"Z", "Zm9", "Zm8", "Zg=", "Zg===", "=", "====", "Zm9=v", "Zm9v\n", " Zm9v",
                                   "Zm 9", "Zh==", "Zm9vYmF=", "Zm-v", "Z===", "Zg=A"})
        EXPECT_FALSE(from_base64(wrong).has_value()) << wrong;
}

static KdfParameters parameters(KdfParameters::Kind kind, uint32_t memory_kib, uint32_t passes,
                                uint32_t lanes) {
    KdfParameters out{.kind = kind, .memory_kib = memory_kib, .passes = passes, .lanes = lanes};
    std::ranges::fill(out.salt, std::byte{'s'});
    return out;
}
using enum KdfParameters::Kind;

// Both computed by other implementations: OpenSSL 3.5's Argon2id, Python's hashlib.
TEST(Kdf, KnownAnswers) {
    auto passphrase = secret("correct horse battery");
    auto key = derive_key(parameters(Argon2id, 19'456, 2, 1), passphrase);
    ASSERT_TRUE(key.has_value()) << key.error().message;
    EXPECT_TRUE(std::ranges::equal(
        key->bytes(), from_hex("ae423d583dbcd4108b05a6e49456cd0254151cc54146d4e96783ccea744657ea")));
    key = derive_key(parameters(Argon2id, 19'456, 2, 4), passphrase);
    ASSERT_TRUE(key.has_value()) << key.error().message;
    EXPECT_TRUE(std::ranges::equal(
        key->bytes(), from_hex("2ee28b4756b532ab772801be11149f2ff2a578cc7e736a3a61b5c75d90583c9a")));
    key = derive_key(parameters(Pbkdf2, 0, 600'000, 0), passphrase);
    ASSERT_TRUE(key.has_value()) << key.error().message;
    EXPECT_TRUE(std::ranges::equal(
        key->bytes(), from_hex("92467e84c6b304ca62c094b9cf720d28a8c502af01a5c2c956526556e8936414")));
}

TEST(Kdf, ParametersAreBounded) {
    for (auto kind : {Argon2id, Pbkdf2}) {
        auto made = make_kdf(kind);
        ASSERT_TRUE(made.has_value());
        EXPECT_OK(check_kdf(*made));
        EXPECT_NE(made->salt, make_kdf(kind)->salt);
    }
    EXPECT_OK(check_kdf(parameters(Argon2id, 98'304, 16, 4)));
    for (const auto& wrong :
         {parameters(Argon2id, 19'455, 2, 1), parameters(Argon2id, 98'305, 2, 1),
          parameters(Argon2id, UINT32_MAX, 2, 1), parameters(Argon2id, 65'536, 1, 1),
          parameters(Argon2id, 65'536, 17, 1), parameters(Argon2id, 65'536, 3, 0),
          parameters(Argon2id, 65'536, 3, 5), parameters(Pbkdf2, 0, 599'999, 0),
          parameters(Pbkdf2, 0, 20'000'001, 0), parameters(Pbkdf2, 1, 600'000, 0),
          parameters(Pbkdf2, 0, 600'000, 1), parameters(KdfParameters::Kind(0), 65'536, 3, 1),
          parameters(KdfParameters::Kind(3), 65'536, 3, 1)}) {
        EXPECT_FALSE(check_kdf(wrong).has_value());
        EXPECT_FALSE(derive_key(wrong, secret("x")).has_value());
    }
}

} // namespace nullbox::warden
