// The kernel's log (/dev/kmsg), kept with the services' output as source "kernel": since 6.x audit records go
// there too, so a process that was killed for a forbidden system call is explained here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "nulld/log_book.h"

namespace nullbox::nulld {

struct KernelMessage {
    int level = 6; // syslog: 3 error, 4 warning
    int64_t uptime_ms = 0;
    std::string_view text;
};
// One record of /dev/kmsg: "priority,sequence,time,flags;text\n continuation".
std::optional<KernelMessage> parse_kernel_message(std::string_view record);

// "probe (pid 12) made the system call socket, which its seccomp filter does not allow", from an audit record
// of type 1326.
std::optional<std::string> explain_seccomp(std::string_view text);

class KernelLog {
public:
    KernelLog(Loop& loop, LogBook& log);

private:
    void read_some();
    LogBook& log_;
    Fd fd_;
    Watch watch_;
};

} // namespace nullbox::nulld
