// The plain functions, which OpenSSL 3 calls deprecated, on purpose: EVP would bring all of its providers
// into a program that needs one hash.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "ctxgraph/sha256.h"

#include <openssl/sha.h>

namespace nullbox::ctxgraph {

std::array<uint8_t, 32> sha256(std::string_view bytes) {
    std::array<uint8_t, 32> digest;
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, bytes.data(), bytes.size());
    SHA256_Final(digest.data(), &context);
    return digest;
}

std::string sha256_hex(std::string_view bytes) {
    std::string text;
    for (uint8_t byte : sha256(bytes)) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

} // namespace nullbox::ctxgraph
