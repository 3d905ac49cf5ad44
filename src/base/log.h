// One line a message, to stderr by default. nulld captures every service's stderr, stamps the time and keeps
// it, so a service prints only level and text. Text from outside (a guest, a peer) goes through printable()
// (text.h) first.
#pragma once

#include <functional>
#include <string_view>

namespace nullbox {

enum class LogLevel { Debug, Info, Warning, Error };

void log(LogLevel level, std::string_view text);
inline void log_info(std::string_view text) { log(LogLevel::Info, text); }
inline void log_warning(std::string_view text) { log(LogLevel::Warning, text); }
inline void log_error(std::string_view text) { log(LogLevel::Error, text); }

// Where lines go instead of stderr; PID 1 keeps its own ring. Not thread-safe: set it before threads start.
void set_log_sink(std::function<void(LogLevel, std::string_view)> sink);
std::string_view log_level_name(LogLevel level);

} // namespace nullbox
