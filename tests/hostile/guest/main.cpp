#include "cases.h"

namespace hostile {

void fail(Link& link, const char* what, uint64_t seen) {
    link.say(what, seen);
    link.end(1);
}
void wait_for_the_end(Link& link) {
    for (unsigned long round = 0; round < 200'000'000; ++round) pause();
    link.say("nobody has ended this machine");
    link.end(2);
}

void main_of_guest(unsigned which) {
    Link link;
    if (!link.open()) triple_fault();
    const Case* one =
        which < processor_case_count ? &processor_cases[which] : &device_cases[which - processor_case_count];
    if (which >= processor_case_count + device_case_count) fail(link, "no such case:", which);
    link.say(one->name);
    one->run(link);
    link.say("done");
    link.end(0);
}

} // namespace hostile
