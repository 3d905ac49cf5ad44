// How a VM ends: the first reason given, by any thread, is the one that counts. Reporting allocates nothing
// and needs one system call, so that vCPU threads can do it under their filter; the device thread watches
// wake_fd() and does the rest.
#pragma once

#include <atomic>
#include <string_view>

#include "base/fd.h"
#include "cage/vmm_channel.h"

namespace nullbox::cage {

class VmEndReport {
public:
    static Result<VmEndReport> make();
    VmEndReport(VmEndReport&& other) noexcept : wake_(std::move(other.wake_)) {} // before anybody reports

    // text: part one and part two, cut to what EndedMessage holds.
    void report(VmEnd reason, std::string_view text, std::string_view detail = {}) noexcept;
    int wake_fd() const { return wake_.get(); }
    // After wake_fd() became readable.
    const EndedMessage& message() const { return message_; }

private:
    explicit VmEndReport(Fd wake) : wake_(std::move(wake)) {}
    Fd wake_;
    std::atomic<bool> taken_ = false;
    EndedMessage message_;
};

} // namespace nullbox::cage
