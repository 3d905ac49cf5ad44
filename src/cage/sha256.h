// SHA-256 of bytes that come in pieces (FIPS 180-4), by OpenSSL's routines for this processor and nothing
// else of it: cage and each VM process are one binary, which stays small.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace nullbox::cage {

class Sha256 {
public:
    Sha256();
    void update(std::span<const std::byte> bytes);
    std::string finish_hex(); // lower case; once

private:
    alignas(8) std::array<std::byte, 128> state_; // SHA256_CTX
};

} // namespace nullbox::cage
