// Derives keys from passphrases in a thread of its own, one at a time, so that the service answers others
// meanwhile. All calls are from the loop's thread; so is the answer.
#pragma once

#include <functional>
#include <memory>

#include "base/loop.h"
#include "warden/kdf.h"

namespace nullbox::warden {

class KeyWorker {
public:
    using Done = std::function<void(Result<SecretBytes>)>;
    static Result<std::unique_ptr<KeyWorker>> make(Loop& loop);
    // Waits for a derivation that runs; nobody is told its end.
    ~KeyWorker();

    bool busy() const { return job_ != nullptr; }
    // Must not be busy. done may start the next one.
    void start(const KdfParameters& kdf, SecretBytes passphrase, Done done);

private:
    struct Job;
    KeyWorker() = default;
    void run(Job& job);
    void finish();

    Fd event_;
    Watch watch_; // after what it watches: dropped first
    std::unique_ptr<Job> job_;
};

} // namespace nullbox::warden
