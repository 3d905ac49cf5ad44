#include "nulld/machine_sources.h"

#include <cerrno>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::nulld {

constexpr size_t kMostBytes = size_t{64} << 10;

static void apply_file(manifest::MachineConfig& config, const std::string& path) {
    auto text = read_file(path, kMostBytes);
    if (text)
        manifest::apply_machine_document(config, *text, path);
    else if (text.error().code != ENOENT)
        config.diagnostics.push_back(
            {.file = path, .message = cat("cannot be read: ", text.error().message)});
}

std::string smbios_words(std::string_view structure) {
    std::string words;
    // The formatted part has its length in byte 1; then come strings, each ended by NUL, the last by two.
    if (structure.size() < 5 || structure[0] != 11) return words;
    size_t formatted = static_cast<unsigned char>(structure[1]);
    if (formatted >= structure.size()) return words;
    for (auto text : split(structure.substr(formatted), '\0'))
        if (text.starts_with("nullbox.") && !text.contains(' ')) words += cat(words.empty() ? "" : " ", text);
    return words;
}

manifest::MachineConfig load_machine_config(const MachineSources& sources) {
    manifest::MachineConfig config;
    apply_file(config, sources.image);
    apply_file(config, sources.data);
    apply_file(config, sources.fw_cfg);
    if (auto structure = read_file(sources.smbios, kMostBytes))
        manifest::apply_kernel_command_line(config, smbios_words(*structure), "SMBIOS");
    if (auto words = read_file(sources.command_line, kMostBytes))
        manifest::apply_kernel_command_line(config, *words);
    return config;
}

Result<> publish_machine_config(const manifest::MachineConfig& config, const std::string& path) {
    TRY(make_directories(path.substr(0, path.rfind('/')), 0711));
    return write_file_atomic(path, manifest::to_toml(config), 0644);
}

} // namespace nullbox::nulld
