// The status block on the console: the first thing a person sees, and with no shell the only one. Printed
// when the machine has settled, after changes (at a bounded rate), and when Enter is pressed. It does not
// clear the screen: on a serial line the log above it must stay readable.
#pragma once

#include <string>

#include "nulld/status.h"

namespace nullbox::nulld {

struct ScreenStyle {
    bool plain = false; // no colour, no line drawing
    size_t width = 80;
};
std::string render_status(const SystemStatus& status, const ScreenStyle& style);
// Two states with the same key need no second block: times and counters are not in it.
std::string status_key(const SystemStatus& status);

} // namespace nullbox::nulld
