// PID 1's last resort. If it ended the kernel would panic on the spot; instead a crash says one line, writes
// out what is in memory, and starts the machine again.
#pragma once

#include <string_view>

namespace nullbox::nulld {

// Handlers for SIGSEGV, SIGILL (a failed CHECK) and the like, on a stack of their own.
void install_fatal_handlers();
// The same end for a failure that PID 1 cannot go on after.
[[noreturn]] void fatal(std::string_view why);

} // namespace nullbox::nulld
