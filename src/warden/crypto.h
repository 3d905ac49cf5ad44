// The cryptography a vault is made of, all of it OpenSSL's: AES-256-GCM (NIST SP 800-38D), HKDF-SHA256
// (RFC 5869), SHA-256, its random generator, base64 (RFC 4648 section 4). Keys and plaintext are SecretBytes.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "warden/secret.h"

namespace nullbox::warden {

using Bytes = std::vector<std::byte>;
using BytesView = std::span<const std::byte>;

constexpr size_t kKeyBytes = 32, kNonceBytes = 12, kTagBytes = 16, kDigestBytes = 32;
using Nonce = std::array<std::byte, kNonceBytes>;
using Tag = std::array<std::byte, kTagBytes>;
using Digest = std::array<std::byte, kDigestBytes>;

// Before anything else here: OpenSSL takes no configuration, and so no code, from files.
Result<> start_crypto();

Result<> fill_random(std::span<std::byte> bytes);
Result<SecretBytes> random_key();

// What a nonce, a key and associated data make of a plaintext.
struct Sealed {
    Nonce nonce{};
    Tag tag{};
    Bytes ciphertext;
};
Result<Sealed> seal(const SecretBytes& key, BytesView associated, BytesView plaintext); // a new random nonce
// EBADMSG if key, nonce, tag, associated data and ciphertext do not belong together.
Result<SecretBytes> unseal(const SecretBytes& key, BytesView associated, const Nonce& nonce, const Tag& tag,
                           BytesView ciphertext);

// A key of its own for each purpose.
Result<SecretBytes> derive(const SecretBytes& key, BytesView salt, std::string_view purpose);
Result<Digest> sha256(BytesView bytes);

// The only copy in ordinary memory is the answer's own.
Result<std::string> to_base64(const SecretBytes& bytes);
// Canonical with padding, or an error.
Result<SecretBytes> from_base64(std::string_view text);

} // namespace nullbox::warden
