#include "warden/vault.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::warden {

constexpr size_t kMostHeaderValueBytes = 8192; // what servers take

static Error fault(int code, std::string message) { return {.code = code, .message = std::move(message)}; }

// The associated data of everything that is sealed: what it is, of which vault, of which secret.
static Bytes associated(std::string_view purpose, const VaultId& id, std::string_view name = {},
                        uint64_t version = 0) {
    ByteWriter writer;
    writer.bytes(std::as_bytes(std::span(purpose)))
        .number(uint8_t{0})
        .bytes(id)
        .number(static_cast<uint16_t>(name.size()))
        .bytes(std::as_bytes(std::span(name)))
        .number(version);
    return std::move(writer).take();
}

static Bytes associated_slot(const VaultId& id, const KdfParameters& kdf) {
    ByteWriter writer;
    writer.bytes(associated("NullBox vault slot", id))
        .number(static_cast<uint32_t>(SlotKind::Passphrase))
        .number(static_cast<uint32_t>(kdf.kind))
        .number(kdf.memory_kib)
        .number(kdf.passes)
        .number(kdf.lanes)
        .bytes(kdf.salt);
    return std::move(writer).take();
}

static Bytes associated_key(const VaultId& id, const Record& record) {
    return associated("NullBox vault key", id, record.name, record.version);
}

static Bytes associated_value(const VaultId& id, const Record& record) {
    return associated("NullBox vault value", id, record.name, record.version);
}

static bool is_passphrase(const Slot& slot) {
    return slot.kind == static_cast<uint32_t>(SlotKind::Passphrase);
}

static Result<Slot> make_slot(const VaultId& id, const KdfParameters& kdf, const SecretBytes& key,
                              const SecretBytes& root) {
    TRY(check_kdf(kdf));
    auto sealed = TRY(seal(key, associated_slot(id, kdf), root.bytes()));
    return Slot{.kind = static_cast<uint32_t>(SlotKind::Passphrase),
                .body = encode(PassphraseSlot{.kdf = kdf, .root_key = std::move(sealed)})};
}

// --- Opening and closing

Vault::Vault(std::string path) : path_(std::move(path)) {
    auto bytes = read_file(path_, kMostVaultBytes);
    if (!bytes) {
        if (bytes.error().code != ENOENT) problem_ = bytes.error().message;
        return;
    }
    auto file = parse_vault(std::as_bytes(std::span(*bytes)));
    if (file)
        file_ = *std::move(file);
    else
        problem_ = cat(path_, ": ", file.error().message);
}

Vault::State Vault::state() const {
    if (!problem_.empty()) return State::Damaged;
    if (!file_) return State::Absent;
    return keys_ ? State::Unlocked : State::Locked;
}

std::string_view state_name(Vault::State state) {
    switch (state) {
    case Vault::State::Absent:
        return "absent";
    case Vault::State::Locked:
        return "locked";
    case Vault::State::Unlocked:
        return "unlocked";
    case Vault::State::Damaged:
        return "damaged";
    }
    return "?";
}

static Result<PassphraseSlot> passphrase_slot(const VaultFile& file) {
    auto found = std::ranges::find_if(file.slots, is_passphrase);
    if (found == file.slots.end()) return fault(EBADMSG, "the vault has no passphrase");
    return parse_passphrase_slot(found->body);
}

Result<KdfParameters> Vault::kdf() const {
    if (!file_) return fault(ENOENT, "there is no vault");
    return TRY(passphrase_slot(*file_)).kdf;
}

Result<Vault::Keys> Vault::keys_of(SecretBytes root, const VaultId& id) {
    Keys keys;
    keys.index = TRY(derive(root, id, "NullBox vault 1 index"));
    keys.wrapping = TRY(derive(root, id, "NullBox vault 1 keys"));
    keys.root = std::move(root);
    return keys;
}

Result<> Vault::create(const KdfParameters& kdf, const SecretBytes& key) {
    if (file_ || !problem_.empty()) return fault(EEXIST, cat("there is a vault already, ", path_));
    VaultFile file;
    TRY(fill_random(file.id));
    auto root = TRY(random_key());
    auto keys = TRY(keys_of(std::move(root), file.id));
    file.slots.push_back(TRY(make_slot(file.id, kdf, key, keys.root)));
    TRY(store(std::move(file), {}, keys));
    keys_ = std::move(keys);
    return {};
}

Result<SecretBytes> Vault::root_key(const SecretBytes& key) const {
    auto slot = TRY(passphrase_slot(*file_));
    const auto& sealed = slot.root_key;
    auto root =
        unseal(key, associated_slot(file_->id, slot.kdf), sealed.nonce, sealed.tag, sealed.ciphertext);
    // The checksum holds, so it is not by accident that the slot does not open.
    if (!root && root.error().code == EBADMSG) return fault(EKEYREJECTED, "the passphrase is wrong");
    return root;
}

Result<> Vault::unlock(const SecretBytes& key) {
    if (!file_) return fault(ENOENT, "there is no vault");
    auto root = TRY(root_key(key));
    auto keys = TRY(keys_of(std::move(root), file_->id));
    const auto& sealed = file_->index;
    auto index = unseal(keys.index, head_of(*file_), sealed.nonce, sealed.tag, sealed.ciphertext);
    if (!index && index.error().code == EBADMSG)
        return fault(EBADMSG,
                     "the vault is damaged: somebody without its key has changed it; put a copy back");
    if (!index) return index.error();
    auto records = TRY(parse_index(index->bytes(), file_->values));
    if (records.size() != file_->secrets)
        return fault(EBADMSG, "the vault is damaged: it miscounts its secrets");
    records_ = std::move(records);
    keys_ = std::move(keys);
    return {};
}

void Vault::lock() {
    keys_.reset();
    records_.clear();
    records_.shrink_to_fit();
}

// The values' keys, under new wrapping keys.
static Result<std::vector<Record>> rewrap(const std::vector<Record>& records, const VaultId& id,
                                          const SecretBytes& from, const SecretBytes& to) {
    auto out = records;
    for (auto& record : out) {
        const auto& old = record.key;
        auto aad = associated_key(id, record);
        auto key = TRY(unseal(from, aad, old.nonce, old.tag, old.ciphertext));
        record.key = TRY(seal(to, aad, key.bytes()));
    }
    return out;
}

Result<> Vault::change_key(const SecretBytes& old_key, const KdfParameters& kdf, const SecretBytes& key) {
    TRY(check_unlocked());
    auto root = TRY(root_key(old_key)); // also to see that the old key is the right one
    VaultFile file = *file_;
    if (file.slots.size() == 1) root = TRY(random_key());
    auto keys = TRY(keys_of(std::move(root), file.id));
    *std::ranges::find_if(file.slots, is_passphrase) = TRY(make_slot(file.id, kdf, key, keys.root));
    auto records = TRY(rewrap(records_, file.id, keys_->wrapping, keys.wrapping));
    TRY(store(std::move(file), std::move(records), keys));
    keys_ = std::move(keys);
    return {};
}

// --- Writing

Result<> Vault::check_unlocked() const {
    if (keys_) return {};
    return fault(ENOKEY, file_ ? "the vault is locked" : "there is no vault");
}

Result<> Vault::store(VaultFile file, std::vector<Record> records, const Keys& keys) {
    file.generation++;
    file.secrets = static_cast<uint32_t>(records.size());
    file.values.clear();
    for (const auto& record : records)
        file.values.insert(file.values.end(), record.value.ciphertext.begin(), record.value.ciphertext.end());
    auto index = encode_index(records);
    file.index.ciphertext.resize(index.size()); // its length is in the head, which is sealed with it
    file.index = TRY(seal(keys.index, head_of(file), index));
    auto bytes = TRY(encode(file));
    if (bytes.size() > kMostVaultBytes)
        return fault(EDQUOT, cat("the vault would be ", bytes.size(), " bytes long; at most ",
                                 kMostVaultBytes, " are possible"));
    if (auto written = write_file_atomic(path_, as_text(bytes), 0600); !written)
        return fault(EIO, cat("nothing is changed, the vault cannot be written: ", written.error().message));
    file_ = std::move(file);
    records_ = std::move(records);
    return {};
}

Result<> Vault::store(std::vector<Record> records) { return store(*file_, std::move(records), *keys_); }

// --- Secrets

Result<const Record*> Vault::find(const std::string& name) const {
    TRY(check_unlocked());
    auto found = std::ranges::find(records_, name, &Record::name);
    if (found == records_.end())
        return fault(ENOKEY, cat("there is no secret \"", printable(name, kMostNameBytes), "\""));
    return &*found;
}

std::string wrong_in_header(std::string_view value) {
    if (value.size() > kMostHeaderValueBytes)
        return cat("it is ", value.size(), " bytes long, and a header holds at most ", kMostHeaderValueBytes);
    if (std::ranges::all_of(value, [](char c) { return c >= ' ' && c < 0x7f; })) return {};
    return "it holds a line break or another character that no header may hold; set it anew without";
}

Result<uint64_t> Vault::set(const std::string& name, const SecretBytes& value, int64_t now_ms) {
    TRY(check_unlocked());
    if (auto wrong = manifest::wrong_secret_name(name); !wrong.empty() || name.size() > kMostNameBytes)
        return fault(EINVAL, wrong.empty() ? "the secret's name is too long" : wrong);
    if (value.size() == 0 || value.size() > kMostSecretBytes)
        return fault(EINVAL, cat("a secret is 1 to ", kMostSecretBytes, " bytes long, not ", value.size()));
    auto records = records_;
    auto record = std::ranges::lower_bound(records, name, {}, &Record::name);
    if (record == records.end() || record->name != name) {
        if (records.size() >= kMostSecrets)
            return fault(EDQUOT, cat("the vault has ", kMostSecrets, " secrets, which is all it holds"));
        record = records.insert(record, Record{.name = name, .created_ms = now_ms});
    }
    bool in_header = std::ranges::any_of(record->grants, [](const Grant& grant) { return !grant.exposed; });
    if (auto wrong = wrong_in_header(value.text()); in_header && !wrong.empty())
        return fault(EINVAL, cat("the secret is granted for a header, but ", wrong));
    record->version++;
    record->updated_ms = now_ms;
    auto key = TRY(random_key());
    record->key = TRY(seal(keys_->wrapping, associated_key(file_->id, *record), key.bytes()));
    record->value = TRY(seal(key, associated_value(file_->id, *record), value.bytes()));
    auto version = record->version;
    TRY(store(std::move(records)));
    return version;
}

Result<> Vault::erase(const std::string& name) {
    TRY(find(name));
    auto records = records_;
    std::erase_if(records, [&](const Record& record) { return record.name == name; });
    return store(std::move(records));
}

static bool same_header(std::string_view a, std::string_view b) {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return std::ranges::equal(a, b, {}, lower, lower);
}

Result<> Vault::grant(const std::string& name, const Grant& grant) {
    auto* found = TRY(find(name));
    if (auto wrong = wrong_grant(grant); !wrong.empty()) return fault(EINVAL, wrong);
    if (!grant.exposed) {
        auto value = TRY(value_of(*found));
        auto wrong = wrong_in_header(value.text());
        if (wrong.empty() && value.size() + grant.format.size() > kMostHeaderValueBytes)
            wrong = "it is too long for a header";
        if (!wrong.empty()) return fault(EINVAL, cat("the secret ", name, " cannot be granted: ", wrong));
    }
    auto records = records_;
    auto& grants = records[static_cast<size_t>(found - records_.data())].grants;
    std::erase_if(grants, [&](const Grant& other) {
        return other.agent == grant.agent && other.exposed == grant.exposed && other.host == grant.host &&
               same_header(other.header, grant.header);
    });
    if (grants.size() >= kMostGrants)
        return fault(EDQUOT,
                     cat("the secret ", name, " has ", kMostGrants, " grants, which is all it may have"));
    grants.push_back(grant);
    return store(std::move(records));
}

Result<> Vault::revoke(const std::string& name, const std::string& agent) {
    auto* found = TRY(find(name));
    auto records = records_;
    auto& grants = records[static_cast<size_t>(found - records_.data())].grants;
    if (std::erase_if(grants, [&](const Grant& grant) { return grant.agent == agent; }) == 0)
        return fault(EACCES,
                     cat("the secret ", name, " is not granted to ", printable(agent, kMostAgentBytes)));
    return store(std::move(records));
}

// --- Using them

Result<SecretBytes> Vault::value_of(const Record& record) const {
    auto broken = [&](Error why) {
        return why.code == EBADMSG
                   ? fault(EBADMSG, cat("the secret ", record.name, " is damaged in the vault; set it anew"))
                   : why;
    };
    auto key = unseal(keys_->wrapping, associated_key(file_->id, record), record.key.nonce, record.key.tag,
                      record.key.ciphertext);
    if (!key) return broken(key.error());
    auto value = unseal(*key, associated_value(file_->id, record), record.value.nonce, record.value.tag,
                        record.value.ciphertext);
    if (!value) return broken(value.error());
    return value;
}

// The format with the value in place of its mark.
static Result<SecretBytes> put_in(std::string_view format, const SecretBytes& value) {
    size_t mark = format.find(manifest::kSecretMark);
    auto before = format.substr(0, mark), after = format.substr(mark + manifest::kSecretMark.size());
    auto out = TRY(SecretBytes::make(before.size() + value.size() + after.size()));
    auto* at = out.bytes().data();
    std::memcpy(at, before.data(), before.size());
    std::memcpy(at + before.size(), value.bytes().data(), value.size());
    std::memcpy(at + before.size() + value.size(), after.data(), after.size());
    return out;
}

Result<std::vector<Vault::Injected>> Vault::injection(std::string_view agent, std::string_view host) const {
    TRY(check_unlocked());
    std::vector<Injected> items;
    for (const auto& record : records_)
        for (const auto& grant : record.grants) {
            if (grant.exposed || grant.agent != agent || grant.host != host) continue;
            auto value = TRY(value_of(record));
            items.push_back(
                {.header = grant.header, .secret = record.name, .value = TRY(put_in(grant.format, value))});
        }
    if (items.empty())
        return fault(EACCES, cat("no secret is granted to ", printable(agent, kMostAgentBytes), " for ",
                                 printable(host, kMostHostBytes)));
    return items;
}

Result<SecretBytes> Vault::exposed(std::string_view agent, const std::string& name) const {
    auto* record = TRY(find(name));
    if (std::ranges::none_of(record->grants,
                             [&](const Grant& grant) { return grant.exposed && grant.agent == agent; }))
        return fault(EACCES, cat("the secret ", name, " is not granted to ",
                                 printable(agent, kMostAgentBytes), " as exposed; nullctl vault grant"));
    return value_of(*record);
}

} // namespace nullbox::warden
