// The vault: a file (vault_file.h) and, while it is unlocked, the root key. A secret's value is decrypted for
// the one answer that needs it and overwritten after; only the root key stays, in locked memory, until
// lock(). Deriving a key from the passphrase is the caller's work, because it is slow (kdf.h).
//
// Invariant: what is in memory is what is on the disk. A change is written first (a new file, atomically),
// then believed.
//
// Errors have a code: EKEYREJECTED the wrong passphrase, ENOKEY no such secret or locked, EACCES not granted,
// EBADMSG damage, EINVAL a value that does not fit, EDQUOT over a limit, EEXIST there is one already, EIO the
// disk's refusal; 0 is OpenSSL's or the kernel's.
#pragma once

#include "warden/vault_file.h"

namespace nullbox::warden {

class Vault {
public:
    enum class State { Absent, Locked, Unlocked, Damaged };
    // Never fails: a file that cannot be read is a Damaged vault, which is left as it is.
    explicit Vault(std::string path);

    State state() const;
    const std::string& problem() const { return problem_; } // of a Damaged one
    size_t secrets() const { return file_ ? file_->secrets : 0; }
    // How the passphrase becomes the key that the next three take.
    Result<KdfParameters> kdf() const;

    Result<> create(const KdfParameters& kdf, const SecretBytes& key); // and it is unlocked
    Result<> unlock(const SecretBytes& key);
    void lock();
    // With a new root key, if the passphrase is the only way to it: an old copy of the file and the old
    // passphrase then open nothing that is written from now on.
    Result<> change_key(const SecretBytes& old_key, const KdfParameters& kdf, const SecretBytes& key);

    // All that follow want it unlocked. Records are sorted by name.
    const std::vector<Record>& records() const { return records_; }
    Result<uint64_t> set(const std::string& name, const SecretBytes& value, int64_t now_ms); // the version
    Result<> erase(const std::string& name);
    // A grant of the same agent, host and header is replaced.
    Result<> grant(const std::string& name, const Grant& grant);
    Result<> revoke(const std::string& name, const std::string& agent); // all of its grants

    struct Injected {
        std::string header, secret;
        SecretBytes value; // the grant's format with the secret in it
    };
    Result<std::vector<Injected>> injection(std::string_view agent, std::string_view host) const;
    Result<SecretBytes> exposed(std::string_view agent, const std::string& name) const;

private:
    // Keys made of the root key.
    struct Keys {
        SecretBytes root, index, wrapping;
    };
    static Result<Keys> keys_of(SecretBytes root, const VaultId& id);
    Result<SecretBytes> root_key(const SecretBytes& key) const;
    Result<const Record*> find(const std::string& name) const;
    Result<SecretBytes> value_of(const Record& record) const;
    Result<> check_unlocked() const;
    Result<> store(VaultFile file, std::vector<Record> records, const Keys& keys);
    Result<> store(std::vector<Record> records);

    std::string path_;
    std::string problem_;
    std::optional<VaultFile> file_;
    std::optional<Keys> keys_;
    std::vector<Record> records_;
};

std::string_view state_name(Vault::State state); // "absent", "locked", "unlocked", "damaged"
// Why the bytes may not stand in a header; empty if they may. The bytes are in no message.
std::string wrong_in_header(std::string_view value);

} // namespace nullbox::warden
