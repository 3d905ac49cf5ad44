// AGENT.toml as an operator's machine, or somebody who took it over, might send it; the machine configuration
// and the kernel command line go the same way.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/text.h"
#include "manifest/agent.h"
#include "manifest/forms.h"
#include "manifest/machine.h"

using namespace nullbox;
using namespace nullbox::manifest;

static void check_agent(const AgentManifest& agent) {
    CHECK(wrong_name(agent.name).empty() && agent.name.size() <= 32);
    CHECK(!agent.command.empty() && agent.command.size() <= 64);
    CHECK(agent.max_memory_mb >= 64 && agent.max_memory_mb <= 65536);
    CHECK(agent.vcpus() >= 1 && agent.vcpus() <= 32);
    for (const auto& entry : agent.network_allow)
        CHECK(!entry.contains('\0') && !entry.contains('/') && printable(entry) == entry);
    for (const auto* paths : {&agent.read_paths, &agent.write_paths})
        for (const auto& path : *paths) CHECK(path.starts_with('/') && !path.contains("/.."));
    CHECK(agent.credentials.size() <= 32);
    for (const auto& credential : agent.credentials) {
        CHECK(wrong_secret_name(credential.name).empty() &&
              wrong_environment_name(credential.variable).empty());
        CHECK(!agent.environment.contains(credential.variable));
        CHECK(credential.inject.empty() || !credential.exposed);
        for (const auto& inject : credential.inject)
            CHECK(wrong_host_name(inject.host).empty() && wrong_secret_header(inject.header).empty() &&
                  wrong_secret_format(inject.format).empty());
    }
    for (const auto& [name, value] : agent.environment) CHECK(!name.contains('=') && !value.contains('\0'));
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    auto parsed = parse_agent(text, "/agent/hello.toml");
    if (auto* agent = std::get_if<AgentManifest>(&parsed))
        check_agent(*agent);
    else
        CHECK(!std::get<std::vector<Diagnostic>>(parsed).empty());
    MachineConfig config;
    apply_machine_document(config, text, "machine.toml");
    apply_kernel_command_line(config, text);
    for (const auto& diagnostic : config.diagnostics)
        CHECK(printable(to_text(diagnostic)) == to_text(diagnostic));
    MachineConfig again;
    auto written = to_toml(config);
    apply_machine_document(again, written, "written");
    CHECK(again.diagnostics.empty() && to_toml(again) == written);
    return 0;
}
