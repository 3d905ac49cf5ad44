#include "base/check.h"

#include <cstdio>
#include <unistd.h>

namespace nullbox {

void check_failed(const char* expression, const char* file, int line) noexcept {
    char text[512];
    int length = std::snprintf(text, sizeof text, "fatal: %s:%d: CHECK(%s) failed\n", file, line, expression);
    if (length > 0)
        (void)!write(STDERR_FILENO, text,
                     static_cast<size_t>(length) < sizeof text ? static_cast<size_t>(length) : sizeof text);
    // Not abort(), which makes four system calls before it ends: a program under a short filter ends by this.
    __builtin_trap();
}

} // namespace nullbox
