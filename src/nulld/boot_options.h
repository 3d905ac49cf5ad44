// The kernel command line's words for PID 1 itself, "nulld.KEY=VALUE": what must be known before any
// configuration is read, or when none can be.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nullbox::nulld {

enum class OnFailure { Stay, PowerOff, Reboot };

struct BootOptions {
    OnFailure on_failure = OnFailure::Stay; // nulld.on_failure=stay|poweroff|reboot: when there is no root
    bool plain_console = false;             // nulld.console=plain: no colour, no line drawing
    uint32_t wait_for_data_s = 0;           // nulld.data_wait=SECONDS: for disks that appear late
    std::string cpus; // nulld.cpus=FIRST-LAST: the only CPUs that programs run on, VMs included; empty: all
};
BootOptions parse_boot_options(std::string_view command_line);

// Of the calling thread, and so of all that it starts. Fails where none of the CPUs is there.
Result<> keep_to_cpus(std::string_view first_to_last);

} // namespace nullbox::nulld
