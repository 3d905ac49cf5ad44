// What the guest does, by number; tests/hostile/microvm.py has the same list, with what must come of it.
#pragma once

#include "link.h"

namespace hostile {

struct Case {
    const char* name;
    void (*run)(Link&);
};
extern const Case processor_cases[], device_cases[];
extern const unsigned processor_case_count, device_case_count;

// Says what was seen and ends with 1.
[[noreturn]] void fail(Link& link, const char* what, uint64_t seen);
inline void equal(Link& link, uint64_t seen, uint64_t wanted, const char* what) {
    if (seen != wanted) fail(link, what, seen);
}
// A device's fault ends the machine: this is what is left of it.
void wait_for_the_end(Link& link);

} // namespace hostile
