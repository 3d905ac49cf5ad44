// The vault's file, and its index, as somebody with the disk in hand might write them. What is accepted is
// written back to the same bytes, and within its bounds.
#include "warden/vault_file.h"
#include <algorithm>

#include "base/check.h"

using namespace nullbox;
using namespace nullbox::warden;

static void check_file(BytesView bytes) {
    auto file = parse_vault(bytes);
    if (!file) return;
    CHECK(!file->slots.empty() && file->slots.size() <= kMostSlots && file->secrets <= kMostSecrets);
    auto again = encode(*file);
    CHECK(again && std::ranges::equal(*again, bytes));
    for (const auto& slot : file->slots) {
        if (slot.kind != static_cast<uint32_t>(SlotKind::Passphrase)) continue;
        auto parsed = parse_passphrase_slot(slot.body);
        CHECK(parsed && check_kdf(parsed->kdf) && encode(*parsed) == slot.body);
        CHECK(parsed->kdf.memory_kib <= kArgon2Bounds.most_memory_kib);
    }
}

static void check_index(BytesView index, BytesView values) {
    auto records = parse_index(index, values);
    if (!records) return;
    CHECK(records->size() <= kMostSecrets && std::ranges::equal(encode_index(*records), index));
    size_t length = 0;
    for (const auto& record : *records) {
        CHECK(record.grants.size() <= kMostGrants && record.value.ciphertext.size() <= kMostSecretBytes);
        for (const auto& grant : record.grants) CHECK(wrong_grant(grant).empty());
        length += record.value.ciphertext.size();
    }
    CHECK(length == values.size());
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto bytes = std::as_bytes(std::span(data, size));
    check_file(bytes);
    // No fuzzer guesses a checksum.
    Bytes summed(bytes.begin(), bytes.end());
    auto checksum = sha256(bytes);
    CHECK(checksum);
    summed.insert(summed.end(), checksum->begin(), checksum->end());
    check_file(summed);
    (void)parse_passphrase_slot(bytes);
    if (size < 2) return 0;
    // The index, and as much of the rest as its first two bytes say for the values.
    size_t values = std::min<size_t>(size - 2, data[0] | size_t{data[1]} << 8);
    check_index(bytes.subspan(2, size - 2 - values), bytes.last(values));
    return 0;
}
