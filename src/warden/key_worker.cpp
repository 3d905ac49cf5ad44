#include "warden/key_worker.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include "base/check.h"
#include "base/text.h"

namespace nullbox::warden {

struct KeyWorker::Job {
    KdfParameters kdf;
    SecretBytes passphrase;
    Done done;
    Result<SecretBytes> result = error("not run"); // the thread's until it has been joined
    std::thread thread;
};

Result<std::unique_ptr<KeyWorker>> KeyWorker::make(Loop& loop) {
    std::unique_ptr<KeyWorker> worker(new KeyWorker);
    worker->event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!worker->event_) return errno_error("make an eventfd");
    worker->watch_ = TRY(loop.watch(worker->event_.get(), EPOLLIN, [self = worker.get()](uint32_t) {
        uint64_t count = 0;
        if (::read(self->event_.get(), &count, sizeof count) == sizeof count) self->finish();
    }));
    return worker;
}

KeyWorker::~KeyWorker() {
    if (job_ && job_->thread.joinable()) job_->thread.join();
}

void KeyWorker::run(Job& job) {
    job.result = derive_key(job.kdf, job.passphrase);
    job.passphrase.clear();
    wipe_stack();
    const uint64_t one = 1;
    (void)!::write(event_.get(), &one, sizeof one);
}

void KeyWorker::start(const KdfParameters& kdf, SecretBytes passphrase, Done done) {
    CHECK(!busy());
    job_ = std::make_unique<Job>();
    job_->kdf = kdf;
    job_->passphrase = std::move(passphrase);
    job_->done = std::move(done);
    try {
        job_->thread = std::thread([this, job = job_.get()] { run(*job); });
    } catch (const std::system_error& failure) {
        job_->result = error(cat("start a thread: ", failure.what()));
        const uint64_t one = 1;
        (void)!::write(event_.get(), &one, sizeof one);
    }
}

void KeyWorker::finish() {
    auto job = std::move(job_);
    if (job->thread.joinable()) job->thread.join();
    job->done(std::move(job->result));
}

} // namespace nullbox::warden
