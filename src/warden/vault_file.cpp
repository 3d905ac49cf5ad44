#include "warden/vault_file.h"

#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::warden {

constexpr std::string_view kMagic = "NBXVAULT";
constexpr uint32_t kVersion = 1;
constexpr uint8_t kInject = 1, kExposed = 2; // a grant's kind

static Error damaged(std::string_view what) {
    return Error{.code = EBADMSG, .message = cat("the vault is damaged: ", what)};
}

template <size_t N>
static std::array<std::byte, N> take_array(ByteReader& reader) {
    std::array<std::byte, N> out{};
    std::ranges::copy(reader.take(N), out.begin());
    return out;
}

static Bytes take_bytes(ByteReader& reader, size_t count) {
    auto taken = reader.take(count);
    return {taken.begin(), taken.end()};
}

// --- Slots

Result<PassphraseSlot> parse_passphrase_slot(BytesView body) {
    ByteReader reader(body);
    PassphraseSlot slot;
    slot.kdf.kind = static_cast<KdfParameters::Kind>(reader.number<uint32_t>()); // checked by check_kdf
    slot.kdf.memory_kib = reader.number<uint32_t>();
    slot.kdf.passes = reader.number<uint32_t>();
    slot.kdf.lanes = reader.number<uint32_t>();
    slot.kdf.salt = take_array<kSaltBytes>(reader);
    slot.root_key.nonce = take_array<kNonceBytes>(reader);
    slot.root_key.tag = take_array<kTagBytes>(reader);
    slot.root_key.ciphertext = take_bytes(reader, kKeyBytes);
    if (reader.failed() || reader.rest().size() != 0)
        return damaged("a passphrase slot has the wrong length");
    if (auto right = check_kdf(slot.kdf); !right) return damaged(right.error().message);
    return slot;
}

Bytes encode(const PassphraseSlot& slot) {
    ByteWriter writer;
    writer.number(static_cast<uint32_t>(slot.kdf.kind))
        .number(slot.kdf.memory_kib)
        .number(slot.kdf.passes)
        .number(slot.kdf.lanes)
        .bytes(slot.kdf.salt)
        .bytes(slot.root_key.nonce)
        .bytes(slot.root_key.tag)
        .bytes(slot.root_key.ciphertext);
    return std::move(writer).take();
}

static Result<Slot> take_slot(ByteReader& reader) {
    Slot slot{.kind = reader.number<uint32_t>(), .body = {}};
    auto length = reader.number<uint32_t>();
    if (length > kMostSlotBytes) return damaged("a key slot is too long");
    slot.body = take_bytes(reader, length);
    if (reader.failed()) return damaged("it ends in a key slot");
    if (slot.kind == static_cast<uint32_t>(SlotKind::Passphrase)) TRY(parse_passphrase_slot(slot.body));
    return slot;
}

// --- The file

Bytes head_of(const VaultFile& file) {
    ByteWriter writer;
    writer.bytes(std::as_bytes(std::span(kMagic)))
        .number(kVersion)
        .number(static_cast<uint32_t>(file.slots.size()))
        .bytes(file.id)
        .number(file.generation)
        .number(file.secrets)
        .number(static_cast<uint32_t>(file.index.ciphertext.size()))
        .number(static_cast<uint32_t>(file.values.size()));
    for (const auto& slot : file.slots)
        writer.number(slot.kind).number(static_cast<uint32_t>(slot.body.size())).bytes(slot.body);
    return std::move(writer).take();
}

Result<Bytes> encode(const VaultFile& file) {
    ByteWriter writer;
    writer.bytes(head_of(file)).bytes(file.index.nonce).bytes(file.index.tag).bytes(file.index.ciphertext);
    auto bytes = std::move(writer).take();
    bytes.insert(bytes.end(), file.values.begin(), file.values.end());
    auto checksum = TRY(sha256(bytes));
    bytes.insert(bytes.end(), checksum.begin(), checksum.end());
    return bytes;
}

// Whether it is a vault, of a version we know, and whole.
static Result<BytesView> check_whole(BytesView bytes) {
    if (bytes.size() > kMostVaultBytes)
        return damaged(
            cat("it is ", bytes.size(), " bytes long; at most ", kMostVaultBytes, " are possible"));
    if (bytes.size() < kMagic.size() + sizeof kVersion + kDigestBytes) return damaged("it is cut off");
    if (as_text(bytes.first(kMagic.size())) != kMagic) return damaged("it does not begin as a vault does");
    auto body = bytes.first(bytes.size() - kDigestBytes);
    auto checksum = TRY(sha256(body));
    if (!std::ranges::equal(checksum, bytes.last(kDigestBytes)))
        return damaged("its checksum is wrong, it has changed or was cut off; put a copy back");
    ByteReader reader(body.subspan(kMagic.size()));
    auto version = reader.number<uint32_t>();
    if (version != kVersion)
        return damaged(cat("it is of version ", version, ", this NullBox reads version ", kVersion));
    return body;
}

Result<VaultFile> parse_vault(BytesView bytes) {
    auto body = TRY(check_whole(bytes));
    ByteReader reader(body.subspan(kMagic.size() + sizeof kVersion));
    VaultFile file;
    auto slots = reader.number<uint32_t>();
    file.id = take_array<sizeof file.id>(reader);
    file.generation = reader.number<uint64_t>();
    file.secrets = reader.number<uint32_t>();
    auto index_length = reader.number<uint32_t>();
    auto values_length = reader.number<uint32_t>();
    if (slots == 0 || slots > kMostSlots) return damaged(cat("it has ", slots, " key slots"));
    if (file.secrets > kMostSecrets) return damaged(cat("it has ", file.secrets, " secrets"));
    for (uint32_t i = 0; i < slots; i++) file.slots.push_back(TRY(take_slot(reader)));
    file.index.nonce = take_array<kNonceBytes>(reader);
    file.index.tag = take_array<kTagBytes>(reader);
    if (uint64_t{index_length} + values_length != reader.rest().size())
        return damaged("its lengths do not add up");
    file.index.ciphertext = take_bytes(reader, index_length);
    file.values = take_bytes(reader, values_length);
    if (reader.failed() || reader.rest().size() != 0) return damaged("its lengths do not add up");
    return file;
}

// --- The index

static void put_text(ByteWriter& writer,
                     std::string_view text) { // at most 65535 bytes: wrong_grant and names
    writer.number(static_cast<uint16_t>(text.size())).bytes(std::as_bytes(std::span(text)));
}

static std::string take_text(ByteReader& reader) {
    auto length = reader.number<uint16_t>();
    return std::string(as_text(reader.take(length)));
}

static void put_sealed(ByteWriter& writer, const Sealed& sealed) {
    writer.bytes(sealed.nonce).bytes(sealed.tag);
}

static void take_sealed(ByteReader& reader, Sealed& sealed) {
    sealed.nonce = take_array<kNonceBytes>(reader);
    sealed.tag = take_array<kTagBytes>(reader);
}

Bytes encode_index(const std::vector<Record>& records) {
    ByteWriter writer;
    writer.number(static_cast<uint32_t>(records.size()));
    for (const auto& record : records) {
        put_text(writer, record.name);
        writer.number(record.version)
            .number(static_cast<uint64_t>(record.created_ms))
            .number(static_cast<uint64_t>(record.updated_ms));
        put_sealed(writer, record.key);
        writer.bytes(record.key.ciphertext);
        put_sealed(writer, record.value);
        writer.number(static_cast<uint32_t>(record.value.ciphertext.size()));
        writer.number(static_cast<uint16_t>(record.grants.size()));
        for (const auto& grant : record.grants) {
            put_text(writer, grant.agent);
            writer.number(grant.exposed ? kExposed : kInject);
            if (grant.exposed) continue;
            put_text(writer, grant.host);
            put_text(writer, grant.header);
            put_text(writer, grant.format);
        }
    }
    return std::move(writer).take();
}

std::string wrong_grant(const Grant& grant) {
    auto wrong = [](std::string_view what, std::string_view text, size_t most, auto form) -> std::string {
        if (text.empty() || text.size() > most)
            return cat(what, " must be 1 to ", most, " bytes long, is ", text.size());
        auto why = form(text);
        return why.empty() ? why : cat(what, " ", why);
    };
    auto why = wrong("agent", grant.agent, kMostAgentBytes, manifest::wrong_name);
    if (!why.empty() || grant.exposed) return why;
    why = wrong("host", grant.host, kMostHostBytes, manifest::wrong_host_name);
    if (why.empty()) why = wrong("header", grant.header, kMostHeaderBytes, manifest::wrong_secret_header);
    if (why.empty()) why = wrong("format", grant.format, kMostFormatBytes, manifest::wrong_secret_format);
    return why;
}

static Result<Grant> take_grant(ByteReader& reader) {
    Grant grant{.agent = take_text(reader)};
    auto kind = reader.number<uint8_t>();
    if (kind != kInject && kind != kExposed) return damaged("a grant is of an unknown kind");
    grant.exposed = kind == kExposed;
    if (!grant.exposed) {
        grant.host = take_text(reader);
        grant.header = take_text(reader);
        grant.format = take_text(reader);
    }
    if (reader.failed()) return damaged("it ends in a grant");
    if (auto why = wrong_grant(grant); !why.empty()) return damaged(why);
    return grant;
}

// values: what is left of them; the record's own are taken off.
static Result<Record> take_record(ByteReader& reader, ByteReader& values) {
    Record record{.name = take_text(reader)};
    if (record.name.size() > kMostNameBytes || !manifest::wrong_secret_name(record.name).empty())
        return damaged("a secret has a wrong name");
    record.version = reader.number<uint64_t>();
    record.created_ms = static_cast<int64_t>(reader.number<uint64_t>());
    record.updated_ms = static_cast<int64_t>(reader.number<uint64_t>());
    take_sealed(reader, record.key);
    record.key.ciphertext = take_bytes(reader, kKeyBytes);
    take_sealed(reader, record.value);
    auto length = reader.number<uint32_t>();
    if (length == 0 || length > kMostSecretBytes) return damaged("a secret has a wrong length");
    record.value.ciphertext = take_bytes(values, length);
    auto grants = reader.number<uint16_t>();
    if (grants > kMostGrants) return damaged("a secret has too many grants");
    for (uint16_t i = 0; i < grants; i++) record.grants.push_back(TRY(take_grant(reader)));
    if (reader.failed() || values.failed()) return damaged("it ends in a secret");
    return record;
}

Result<std::vector<Record>> parse_index(BytesView index, BytesView values) {
    ByteReader reader(index), value_reader(values);
    auto count = reader.number<uint32_t>();
    if (count > kMostSecrets) return damaged(cat("it has ", count, " secrets"));
    std::vector<Record> records;
    for (uint32_t i = 0; i < count; i++) {
        records.push_back(TRY(take_record(reader, value_reader)));
        if (i > 0 && records[i - 1].name >= records[i].name) return damaged("its secrets are not in order");
    }
    if (reader.failed() || reader.rest().size() != 0 || value_reader.rest().size() != 0)
        return damaged("its index does not fit its secrets");
    return records;
}

} // namespace nullbox::warden
