#include "nulld/boot_options.h"

#include <sched.h>

#include "base/text.h"

namespace nullbox::nulld {

BootOptions parse_boot_options(std::string_view command_line) {
    BootOptions options;
    for (auto word : split(trim(command_line), ' ')) {
        if (word == "nulld.on_failure=poweroff") options.on_failure = OnFailure::PowerOff;
        if (word == "nulld.on_failure=reboot") options.on_failure = OnFailure::Reboot;
        if (word == "nulld.console=plain") options.plain_console = true;
        constexpr std::string_view kWait = "nulld.data_wait=", kCpus = "nulld.cpus=";
        if (word.starts_with(kCpus)) options.cpus = word.substr(kCpus.size());
        if (word.starts_with(kWait))
            options.wait_for_data_s =
                static_cast<uint32_t>(parse_number(word.substr(kWait.size()), 0, 300).value_or(0));
    }
    return options;
}

Result<> keep_to_cpus(std::string_view first_to_last) {
    auto dash = first_to_last.find('-');
    auto first = parse_number(first_to_last.substr(0, dash), 0, CPU_SETSIZE - 1);
    auto last = dash == first_to_last.npos
                    ? first
                    : parse_number(first_to_last.substr(dash + 1), first.value_or(0), CPU_SETSIZE - 1);
    if (!first || !last)
        return error(cat("nulld.cpus=", printable(first_to_last, 40), ": must be FIRST-LAST, as in 1-3"));
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (auto cpu = *first; cpu <= *last; cpu++) CPU_SET(static_cast<size_t>(cpu), &cpus);
    if (::sched_setaffinity(0, sizeof cpus, &cpus) < 0)
        return errno_error(cat("keep to CPUs ", first_to_last, " (nulld.cpus)"));
    return {};
}

} // namespace nullbox::nulld
