// Where vCPU threads wait while their VM is paused: closed by the device thread, which then kicks every vCPU
// out of KVM_RUN; a thread that finds the gate closed waits at it until it opens. Needs futex and write of a
// vCPU's thread and nothing more.
//
// The last thread to arrive makes all_wait_fd() readable. Opened and closed again before a thread woke, the
// gate still counts that thread as waiting, which it is.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "base/fd.h"

namespace nullbox::cage {

class VcpuGate {
public:
    static Result<std::unique_ptr<VcpuGate>> make(uint32_t threads);

    // The device thread's. The kick comes after close().
    void close() noexcept;
    void open() noexcept;
    int all_wait_fd() const { return all_wait_.get(); }
    bool all_wait() noexcept;

    // The vCPU threads'. What a kick sets is cleared before closed() is asked (vcpu.cpp).
    bool closed() const noexcept { return closed_.load(); }
    void wait() noexcept;

private:
    VcpuGate(uint32_t threads, Fd all_wait) : threads_(threads), all_wait_(std::move(all_wait)) {}
    void say_if_all_wait() noexcept;

    const uint32_t threads_;
    Fd all_wait_;
    std::atomic<bool> closed_ = false;
    std::mutex mutex_; // of what follows
    std::condition_variable opened_;
    uint32_t waiting_ = 0;
};

} // namespace nullbox::cage
