// SHA-256 (FIPS 180-4) by OpenSSL. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace nullbox::ctxgraph {

std::array<uint8_t, 32> sha256(std::string_view bytes);
std::string sha256_hex(std::string_view bytes); // lower case

} // namespace nullbox::ctxgraph
