// CHECK: an assertion that stays on in release builds. It guards our own invariants; what the world (a file,
// a guest, a peer) can cause is a Result instead. A failed CHECK prints the place and ends the
// process (SIGILL).
#pragma once

namespace nullbox {
[[noreturn]] void check_failed(const char* expression, const char* file, int line) noexcept;
}

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) [[unlikely]]                                                                       \
            ::nullbox::check_failed(#condition, __FILE__, __LINE__);                                         \
    } while (false)
