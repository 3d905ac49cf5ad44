#include "cage/vmm/vcpu_gate.h"

#include <sys/eventfd.h>
#include <unistd.h>

namespace nullbox::cage {

Result<std::unique_ptr<VcpuGate>> VcpuGate::make(uint32_t threads) {
    Fd all_wait(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!all_wait) return errno_error("make eventfd");
    return std::unique_ptr<VcpuGate>(new VcpuGate(threads, std::move(all_wait)));
}

void VcpuGate::say_if_all_wait() noexcept {
    uint64_t one = 1;
    if (closed_ && waiting_ == threads_) (void)!::write(all_wait_.get(), &one, sizeof one);
}

void VcpuGate::close() noexcept {
    std::lock_guard lock(mutex_);
    if (closed_.exchange(true)) return;
    say_if_all_wait(); // those that have not woken since it was open
}

void VcpuGate::open() noexcept {
    {
        std::lock_guard lock(mutex_);
        closed_ = false;
        uint64_t count = 0;
        (void)!::read(all_wait_.get(), &count, sizeof count); // a word that nobody has heard yet
    }
    opened_.notify_all();
}

bool VcpuGate::all_wait() noexcept {
    std::lock_guard lock(mutex_);
    return closed_ && waiting_ == threads_;
}

void VcpuGate::wait() noexcept {
    std::unique_lock lock(mutex_);
    if (!closed_) return;
    ++waiting_;
    say_if_all_wait();
    opened_.wait(lock, [this] { return !closed_; });
    --waiting_;
}

} // namespace nullbox::cage
