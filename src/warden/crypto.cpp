#include "warden/crypto.h"

#include <cerrno>
#include <memory>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "base/text.h"

namespace nullbox::warden {

namespace {

using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, decltype([](auto* it) { ::EVP_CIPHER_CTX_free(it); })>;
using Kdf = std::unique_ptr<EVP_KDF, decltype([](auto* it) { ::EVP_KDF_free(it); })>;
using KdfContext = std::unique_ptr<EVP_KDF_CTX, decltype([](auto* it) { ::EVP_KDF_CTX_free(it); })>;

Error openssl_error(std::string_view what) {
    char reason[256] = "no reason given";
    if (auto code = ::ERR_get_error()) ::ERR_error_string_n(code, reason, sizeof reason);
    ::ERR_clear_error();
    return error(cat(what, ": ", reason));
}

const unsigned char* in(BytesView bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
unsigned char* out(std::span<std::byte> bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }
int length(BytesView bytes) { return static_cast<int>(bytes.size()); } // ours are far below INT_MAX

} // namespace

Result<> start_crypto() {
    if (::OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr) != 1)
        return openssl_error("start OpenSSL");
    return {};
}

Result<> fill_random(std::span<std::byte> bytes) {
    if (::RAND_bytes(out(bytes), length(bytes)) != 1) return openssl_error("random bytes");
    return {};
}

Result<SecretBytes> random_key() {
    auto key = TRY(SecretBytes::make(kKeyBytes));
    TRY(fill_random(key.bytes()));
    return key;
}

Result<Sealed> seal(const SecretBytes& key, BytesView associated, BytesView plaintext) {
    Sealed sealed;
    TRY(fill_random(sealed.nonce));
    sealed.ciphertext.resize(plaintext.size());
    CipherContext context(::EVP_CIPHER_CTX_new());
    int count = 0;
    bool done =
        context && key.size() == kKeyBytes &&
        ::EVP_EncryptInit_ex(context.get(), ::EVP_aes_256_gcm(), nullptr, in(key.bytes()),
                             in(sealed.nonce)) == 1 &&
        ::EVP_EncryptUpdate(context.get(), nullptr, &count, in(associated), length(associated)) == 1 &&
        ::EVP_EncryptUpdate(context.get(), out(sealed.ciphertext), &count, in(plaintext),
                            length(plaintext)) == 1 &&
        ::EVP_EncryptFinal_ex(context.get(), nullptr, &count) == 1 &&
        ::EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kTagBytes, sealed.tag.data()) == 1;
    if (!done) return openssl_error("encrypt");
    return sealed;
}

Result<SecretBytes> unseal(const SecretBytes& key, BytesView associated, const Nonce& nonce, const Tag& tag,
                           BytesView ciphertext) {
    auto plaintext = TRY(SecretBytes::make(ciphertext.size()));
    CipherContext context(::EVP_CIPHER_CTX_new());
    int count = 0;
    bool ready =
        context && key.size() == kKeyBytes &&
        ::EVP_DecryptInit_ex(context.get(), ::EVP_aes_256_gcm(), nullptr, in(key.bytes()), in(nonce)) == 1 &&
        ::EVP_DecryptUpdate(context.get(), nullptr, &count, in(associated), length(associated)) == 1 &&
        ::EVP_DecryptUpdate(context.get(), out(plaintext.bytes()), &count, in(ciphertext),
                            length(ciphertext)) == 1 &&
        ::EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kTagBytes,
                              const_cast<std::byte*>(tag.data())) == 1;
    if (!ready) return openssl_error("decrypt");
    if (::EVP_DecryptFinal_ex(context.get(), nullptr, &count) != 1) {
        ::ERR_clear_error();
        return Error{.code = EBADMSG, .message = "decrypt: the seal is broken, or the key is another"};
    }
    return plaintext;
}

Result<SecretBytes> derive(const SecretBytes& key, BytesView salt, std::string_view purpose) {
    auto derived = TRY(SecretBytes::make(kKeyBytes));
    Kdf kdf(::EVP_KDF_fetch(nullptr, "HKDF", nullptr));
    KdfContext context(kdf ? ::EVP_KDF_CTX_new(kdf.get()) : nullptr);
    char digest[] = "SHA256";
    auto octets = [](const char* name, BytesView bytes) {
        return ::OSSL_PARAM_construct_octet_string(name, const_cast<std::byte*>(bytes.data()), bytes.size());
    };
    const OSSL_PARAM parameters[] = {
        ::OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        octets(OSSL_KDF_PARAM_KEY, key.bytes()),
        octets(OSSL_KDF_PARAM_SALT, salt),
        octets(OSSL_KDF_PARAM_INFO, std::as_bytes(std::span(purpose))),
        ::OSSL_PARAM_construct_end(),
    };
    if (!context || ::EVP_KDF_derive(context.get(), out(derived.bytes()), kKeyBytes, parameters) != 1)
        return openssl_error("derive a key (HKDF)");
    return derived;
}

Result<Digest> sha256(BytesView bytes) {
    Digest digest{};
    if (::EVP_Digest(bytes.data(), bytes.size(), out(digest), nullptr, ::EVP_sha256(), nullptr) != 1)
        return openssl_error("SHA-256");
    return digest;
}

Result<std::string> to_base64(const SecretBytes& bytes) {
    std::string text((bytes.size() + 2) / 3 * 4, '\0'); // and its NUL, where EVP_EncodeBlock puts one
    ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), in(bytes.bytes()),
                      length(bytes.bytes()));
    return text;
}

Result<SecretBytes> from_base64(std::string_view text) {
    auto wrong = error("must be base64 with padding, and nothing else");
    auto digit = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
               c == '/';
    };
    auto digits = text.substr(0, text.find('='));
    size_t padding = text.size() - digits.size();
    if (text.size() % 4 != 0 || padding > 2 || (padding == 2 && text.back() != '=')) return wrong;
    for (char c : digits) // EVP_DecodeBlock would skip blanks
        if (!digit(c)) return wrong;
    auto bytes = TRY(SecretBytes::make(text.size() / 4 * 3));
    auto* from = reinterpret_cast<const unsigned char*>(text.data());
    if (!text.empty() && ::EVP_DecodeBlock(out(bytes.bytes()), from, static_cast<int>(text.size())) < 0)
        return wrong;
    bytes.shrink(bytes.size() - padding);
    if (padding == 0) return bytes;
    // The bits that padding leaves over must be zero: one value, one text.
    auto again = TRY(to_base64(bytes));
    bool same = again == text;
    wipe(again);
    if (!same) return wrong;
    return bytes;
}

} // namespace nullbox::warden
