#include "base/log.h"

#include <string>
#include <unistd.h>

namespace nullbox {

// Not inside a function: the guard of its first use makes a system call (gettid), which a filter may forbid.
static std::function<void(LogLevel, std::string_view)> g_sink;

std::string_view log_level_name(LogLevel level) {
    switch (level) {
    case LogLevel::Debug:
        return "debug";
    case LogLevel::Info:
        return "info";
    case LogLevel::Warning:
        return "warning";
    case LogLevel::Error:
        return "error";
    }
    return "?";
}

void log(LogLevel level, std::string_view text) {
    if (g_sink) return g_sink(level, text);
    std::string line(log_level_name(level));
    line += ": ";
    line += text;
    line += '\n';
    // One write, so that lines of several threads do not mix. Nowhere to report a failure to write a log.
    (void)!::write(STDERR_FILENO, line.data(), line.size());
}

void set_log_sink(std::function<void(LogLevel, std::string_view)> wanted) { g_sink = std::move(wanted); }

} // namespace nullbox
