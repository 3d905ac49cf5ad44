#include "base/log.h"

#include <string>
#include <unistd.h>

namespace nullbox {

static std::function<void(LogLevel, std::string_view)>& sink() {
    static std::function<void(LogLevel, std::string_view)> instance;
    return instance;
}

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
    if (sink()) return sink()(level, text);
    std::string line(log_level_name(level));
    line += ": ";
    line += text;
    line += '\n';
    // One write, so that lines of several threads do not mix. Nowhere to report a failure to write a log.
    (void)!::write(STDERR_FILENO, line.data(), line.size());
}

void set_log_sink(std::function<void(LogLevel, std::string_view)> wanted) { sink() = std::move(wanted); }

} // namespace nullbox
