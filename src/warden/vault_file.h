// The vault's file as bytes (docs/vault-format.md): header, key slots, the sealed index, the values, and a
// checksum that tells damage from a wrong passphrase. Pure: bytes in, structs out, no key needed; what the
// bytes say is believed only once the index has been unsealed with the header and the slots as its associated
// data. Whoever wrote the file may be hostile: everything is bounded before it is used.
#pragma once

#include <optional>

#include "warden/kdf.h"

namespace nullbox::warden {

constexpr size_t kMostVaultBytes = size_t{4} << 20;
constexpr size_t kMostSecrets = 1000;
constexpr size_t kMostSecretBytes = size_t{64} << 10;
constexpr size_t kMostGrants = 64; // of one secret
constexpr size_t kMostSlots = 8;
constexpr size_t kMostSlotBytes = 1024;
constexpr size_t kMostNameBytes = 64, kMostAgentBytes = 32, kMostHostBytes = 253, kMostHeaderBytes = 64,
                 kMostFormatBytes = 256;

// One way to the root key. Kinds this version does not know are kept as they are.
enum class SlotKind : uint32_t { Passphrase = 1, Tpm2 = 2, Recovery = 3 };
struct Slot {
    uint32_t kind = 0;
    Bytes body;
    bool operator==(const Slot&) const = default;
};
struct PassphraseSlot {
    KdfParameters kdf;
    Sealed root_key;
};
Result<PassphraseSlot> parse_passphrase_slot(BytesView body);
Bytes encode(const PassphraseSlot& slot);

using VaultId = std::array<std::byte, 16>;

struct VaultFile {
    VaultId id{};
    uint64_t generation = 0; // grows with each write
    uint32_t secrets = 0;
    std::vector<Slot> slots;
    Sealed index; // of encode_index()
    Bytes values; // the ciphertexts, in the index's order
};
// EBADMSG if it is damaged or no vault.
Result<VaultFile> parse_vault(BytesView bytes);
Result<Bytes> encode(const VaultFile& file);
// The associated data of the index.
Bytes head_of(const VaultFile& file);

// May this agent have the secret, and how: put into a header of requests to one host, or as it is.
struct Grant {
    std::string agent;
    bool exposed = false;
    std::string host, header, format; // not for exposed
    bool operator==(const Grant&) const = default;
};

struct Record {
    std::string name;
    uint64_t version = 0; // 1 at first; grows with each new value
    int64_t created_ms = 0, updated_ms = 0;
    Sealed key;   // the value's own key, under a key of the root key
    Sealed value; // under that key
    std::vector<Grant> grants;
};
// The index's plaintext. Records are sorted by name, each once.
Bytes encode_index(const std::vector<Record>& records);
Result<std::vector<Record>> parse_index(BytesView index, BytesView values);

// Forms that hold in the file and at the interface: empty when right, else what would be right.
std::string wrong_grant(const Grant& grant);

} // namespace nullbox::warden
