// Why an agent's run ended: a closed list of words for programs, the same as io.nullbox.cage's EndReason. The
// words for people are LifeCycle's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nullbox::cage {

enum class EndReason : uint8_t {
    Exited,           // the command, with a code
    Signal,           // the command, by a signal
    GuestOutOfMemory, // its VM's own memory (max_memory_mb) was used up
    HostOutOfMemory,  // its VM process passed the limit of its control group
    Health,           // too many failed checks in a row
    StartTimeout,     // the command did not run in time
    CannotStart,      // something that it is made of is missing or wrong
    GuestFailed,      // the guest broke off: set-up failed, nonsense on its link, a reset without a report
    GuestPanic,       // its kernel gave up
    VmFault,          // the guest did what its VM does not serve
    VmEnded,          // its VM process was killed or ended by itself
    HostFailure,      // KVM or the host's memory failed under it
    Stopped,          // somebody asked for it
    NeedLost,         // something that it needs ended under it
};

constexpr std::string_view end_reason_name(EndReason reason) {
    switch (reason) {
    case EndReason::Exited:
        return "exited";
    case EndReason::Signal:
        return "signal";
    case EndReason::GuestOutOfMemory:
        return "guest_out_of_memory";
    case EndReason::HostOutOfMemory:
        return "host_out_of_memory";
    case EndReason::Health:
        return "health";
    case EndReason::StartTimeout:
        return "start_timeout";
    case EndReason::CannotStart:
        return "cannot_start";
    case EndReason::GuestFailed:
        return "guest_failed";
    case EndReason::GuestPanic:
        return "guest_panic";
    case EndReason::VmFault:
        return "vm_fault";
    case EndReason::VmEnded:
        return "vm_ended";
    case EndReason::HostFailure:
        return "host_failure";
    case EndReason::Stopped:
        return "stopped";
    case EndReason::NeedLost:
        return "need_lost";
    }
    return "vm_ended";
}

struct EndCause {
    EndReason reason = EndReason::VmEnded;
    std::string text; // for a person; may hold what a guest wrote, made printable
};

} // namespace nullbox::cage
