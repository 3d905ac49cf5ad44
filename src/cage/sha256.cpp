// The low-level functions: the EVP ones bring OpenSSL's providers and every algorithm of them along.
#define OPENSSL_API_COMPAT 10100

#include "cage/sha256.h"

#include <openssl/sha.h>

namespace nullbox::cage {

static SHA256_CTX* context(std::array<std::byte, 128>& state) {
    static_assert(sizeof(SHA256_CTX) <= sizeof state);
    return reinterpret_cast<SHA256_CTX*>(state.data());
}

Sha256::Sha256() { SHA256_Init(context(state_)); }

void Sha256::update(std::span<const std::byte> bytes) {
    SHA256_Update(context(state_), bytes.data(), bytes.size());
}

std::string Sha256::finish_hex() {
    std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
    SHA256_Final(digest.data(), context(state_));
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (unsigned char byte : digest) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

} // namespace nullbox::cage
