#include "warden/warden.h"

#include <cerrno>

#include "base/log.h"
#include "base/text.h"

namespace nullbox::warden {

Warden::Warden(Loop& loop, Options options)
    : loop_(loop), options_(std::move(options)), vault_(options_.path), told_(vault_.state()) {}

Result<std::unique_ptr<Warden>> Warden::make(Loop& loop, Options options) {
    std::unique_ptr<Warden> warden(new Warden(loop, std::move(options)));
    warden->worker_ = TRY(KeyWorker::make(loop));
    if (!warden->vault_.problem().empty()) log_error(warden->vault_.problem());
    warden->changed();
    return warden;
}

std::string Warden::status_line() const {
    auto count = cat(vault_.secrets(), vault_.secrets() == 1 ? " secret" : " secrets");
    switch (vault_.state()) {
    case Vault::State::Absent:
        return "no vault";
    case Vault::State::Locked:
        return cat("vault locked, ", count);
    case Vault::State::Unlocked:
        return cat("vault unlocked, ", count);
    case Vault::State::Damaged:
        return cat("vault unusable: ", vault_.problem());
    }
    return "?";
}

uint64_t Warden::watch(std::function<void()> changed) {
    watchers_.emplace(next_watcher_, std::move(changed));
    return next_watcher_++;
}

void Warden::changed() {
    options_.status(status_line());
    if (told_ == vault_.state()) return;
    told_ = vault_.state();
    auto watchers = watchers_; // one may leave while it is told
    for (const auto& [id, tell] : watchers)
        if (watchers_.contains(id)) tell();
}

void Warden::clean_stack_soon() { cleaning_ = loop_.after(std::chrono::milliseconds(0), wipe_stack); }

// --- What takes a key

Result<> Warden::may_try() const {
    if (worker_->busy())
        return Error{.code = EAGAIN,
                     .message = "a passphrase is being tried just now; try again in a moment"};
    if (auto left = wait(); left.count() > 0)
        return Error{.code = EBUSY,
                     .message = cat("the last passphrases were wrong; the next may be tried in ",
                                    (left.count() + 999) / 1000, " s")};
    return {};
}

void Warden::derive(const KdfParameters& kdf, SecretBytes passphrase, const Done& done,
                    std::function<void(SecretBytes)> then) {
    worker_->start(kdf, std::move(passphrase), [this, done, then = std::move(then)](Result<SecretBytes> key) {
        clean_stack_soon();
        if (!key) return done(Result<>(key.error()));
        then(*std::move(key));
    });
}

// The end of an attempt.
void Warden::judge(const Result<>& result, const Done& done) {
    if (result)
        attempts_.succeeded();
    else if (result.error().code == EKEYREJECTED)
        attempts_.failed(Clock::now());
    if (result)
        log_info(status_line());
    else
        log_warning(result.error().message);
    done(result);
    changed();
}

void Warden::init(KdfParameters::Kind kind, SecretBytes passphrase, Done done) {
    auto kdf = make_kdf(kind);
    auto may = kdf ? may_try() : Result<>(kdf.error());
    if (!may) return done(may);
    derive(*kdf, std::move(passphrase), done,
           [this, kdf = *kdf, done](SecretBytes key) { judge(vault_.create(kdf, key), done); });
}

void Warden::unlock(SecretBytes passphrase, Done done) {
    auto kdf = vault_.kdf();
    auto may = kdf ? may_try() : Result<>(kdf.error());
    if (!may) return done(may);
    derive(*kdf, std::move(passphrase), done,
           [this, done](SecretBytes key) { judge(vault_.unlock(key), done); });
}

void Warden::change_passphrase(SecretBytes old_passphrase, SecretBytes passphrase, Done done) {
    auto old_kdf = vault_.kdf();
    auto kdf = old_kdf ? make_kdf(old_kdf->kind) : Result<KdfParameters>(old_kdf.error());
    auto may = kdf ? may_try() : Result<>(kdf.error());
    if (!may) return done(may);
    // Shared, because a std::function is copyable and what it holds is not.
    auto next = std::make_shared<SecretBytes>(std::move(passphrase));
    derive(*old_kdf, std::move(old_passphrase), done, [this, kdf = *kdf, next, done](SecretBytes key) {
        auto old_key = std::make_shared<SecretBytes>(std::move(key));
        derive(kdf, std::move(*next), done, [this, kdf, old_key, done](SecretBytes new_key) {
            judge(vault_.change_key(*old_key, kdf, new_key), done);
        });
    });
}

void Warden::lock() {
    if (vault_.state() != Vault::State::Unlocked) return;
    vault_.lock();
    clean_stack_soon();
    log_info(status_line());
    changed();
}

} // namespace nullbox::warden
