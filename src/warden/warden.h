// The service behind the interface: the vault, the thread that derives keys, the wait after wrong
// passphrases, and who watches. Everything happens on the loop; what takes long answers later.
#pragma once

#include <functional>
#include <map>

#include "base/loop.h"
#include "warden/attempts.h"
#include "warden/key_worker.h"
#include "warden/uses.h"
#include "warden/vault.h"

namespace nullbox::warden {

class Warden {
public:
    struct Options {
        std::string path = "/var/warden/vault";
        std::function<void(const std::string&)> status = [](const std::string&) {}; // for the console
    };
    static Result<std::unique_ptr<Warden>> make(Loop& loop, Options options);

    // Besides the vault's errors: EAGAIN a passphrase is being tried just now, EBUSY too soon after wrong
    // ones. done is called once, from the loop.
    using Done = std::function<void(const Result<>&)>;
    void init(KdfParameters::Kind kind, SecretBytes passphrase, Done done);
    void unlock(SecretBytes passphrase, Done done);
    void change_passphrase(SecretBytes old_passphrase, SecretBytes passphrase, Done done);
    void lock();

    Vault& vault() { return vault_; }
    Uses& uses() { return uses_; }
    bool trying() const { return worker_->busy(); } // a passphrase
    std::chrono::milliseconds wait() const { return attempts_.wait(Clock::now()); }
    std::string status_line() const; // "vault locked, 3 secrets"

    // Called after each change of the vault's state, until unwatch(); may unwatch itself.
    uint64_t watch(std::function<void()> changed);
    void unwatch(uint64_t id) { watchers_.erase(id); }
    // After a change of the vault by other than the functions above.
    void changed();
    // Once the call on the stack has returned, what it left there is overwritten.
    void clean_stack_soon();

private:
    Warden(Loop& loop, Options options);
    Result<> may_try() const;
    void derive(const KdfParameters& kdf, SecretBytes passphrase, const Done& done,
                std::function<void(SecretBytes)> then);
    void judge(const Result<>& result, const Done& done);

    Loop& loop_;
    Options options_;
    Vault vault_;
    Uses uses_;
    Attempts attempts_;
    std::unique_ptr<KeyWorker> worker_;
    std::map<uint64_t, std::function<void()>> watchers_;
    uint64_t next_watcher_ = 1;
    Vault::State told_;
    Watch cleaning_;
};

} // namespace nullbox::warden
