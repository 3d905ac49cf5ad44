// From a passphrase to a key, slowly: Argon2id (RFC 9106, libargon2) or PBKDF2-HMAC-SHA256 (RFC 8018,
// OpenSSL). The parameters stand in the vault's file, which an attacker may have written: they are bounded
// from below, so that nobody weakens them, and from above, so that nobody exhausts the machine.
#pragma once

#include <array>
#include <cstdint>

#include "warden/crypto.h"

namespace nullbox::warden {

constexpr size_t kSaltBytes = 32;

struct KdfParameters {
    enum class Kind : uint32_t { Argon2id = 1, Pbkdf2 = 2 };
    Kind kind = Kind::Argon2id;
    uint32_t memory_kib = 0; // Argon2id only
    uint32_t passes = 0;     // Argon2id: t; PBKDF2: iterations
    uint32_t lanes = 0;      // Argon2id only
    std::array<std::byte, kSaltBytes> salt{};
    bool operator==(const KdfParameters&) const = default;
};

struct KdfBounds {
    uint32_t least_memory_kib, most_memory_kib, least_passes, most_passes, most_lanes;
};
// OWASP's least for each; the most is what warden's control group (128 MiB) and a patient operator bear.
constexpr KdfBounds kArgon2Bounds{19'456, 96 << 10, 2, 16, 4};
constexpr KdfBounds kPbkdf2Bounds{0, 0, 600'000, 20'000'000, 0};

// New ones with a random salt: 64 MiB, 3 passes, 1 lane; or 600,000 iterations.
Result<KdfParameters> make_kdf(KdfParameters::Kind kind);
std::string_view kdf_name(KdfParameters::Kind kind); // "argon2id", "pbkdf2"
Result<> check_kdf(const KdfParameters& parameters);
// Checks, then takes from a tenth of a second to several seconds. Any thread.
Result<SecretBytes> derive_key(const KdfParameters& parameters, const SecretBytes& passphrase);

} // namespace nullbox::warden
