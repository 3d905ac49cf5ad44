// Where the machine configuration comes from, later over earlier: the image, the data partition, QEMU's
// fw_cfg, SMBIOS, the kernel command line. Reading the text is manifest's work (manifest/machine.h).
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "manifest/machine.h"

namespace nullbox::nulld {

struct MachineSources {
    std::string image = "/system/config/machine.toml";
    std::string data = "/var/config/machine.toml";
    std::string fw_cfg = "/sys/firmware/qemu_fw_cfg/by_name/opt/nullbox/machine/raw";
    std::string smbios = "/sys/firmware/dmi/entries/11-0/raw";
    std::string command_line = "/proc/cmdline";
};
// A source that is not there is no mistake.
manifest::MachineConfig load_machine_config(const MachineSources& sources = {});

// All sources laid together, for the services; not secret.
constexpr const char* kMachineFile = "/run/nulld/machine.toml";
Result<> publish_machine_config(const manifest::MachineConfig& config,
                                const std::string& path = kMachineFile);

// The "nullbox.KEY=VALUE" strings of an SMBIOS OEM Strings structure (type 11; DSP0134 7.12), as a command
// line.
std::string smbios_words(std::string_view structure);

} // namespace nullbox::nulld
