#include "nulld/boot_options.h"

#include "base/text.h"

namespace nullbox::nulld {

BootOptions parse_boot_options(std::string_view command_line) {
    BootOptions options;
    for (auto word : split(trim(command_line), ' ')) {
        if (word == "nulld.on_failure=poweroff") options.on_failure = OnFailure::PowerOff;
        if (word == "nulld.on_failure=reboot") options.on_failure = OnFailure::Reboot;
        if (word == "nulld.console=plain") options.plain_console = true;
        constexpr std::string_view kWait = "nulld.data_wait=";
        if (word.starts_with(kWait))
            options.wait_for_data_s =
                static_cast<uint32_t>(parse_number(word.substr(kWait.size()), 0, 300).value_or(0));
    }
    return options;
}

} // namespace nullbox::nulld
