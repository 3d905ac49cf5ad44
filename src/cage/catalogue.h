// Which agents there are: every NAME.toml of the agent folders, in their order, first found wins. A manifest
// that is wrong is an entry with diagnostics, never a reason to leave out others.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manifest/agent.h"

namespace nullbox::cage {

constexpr size_t kMaxAgents = 1024;
constexpr size_t kMaxManifestBytes = size_t{256} << 10;

// Which file it is; a replaced one is another.
struct FileStamp {
    uint64_t inode = 0, bytes = 0;
    int64_t modified_ns = 0;
    bool operator==(const FileStamp&) const = default;
};

struct CatalogueEntry {
    std::string name;           // of the file, without .toml, made printable
    std::string manifest_path;  // "/agent/hello.toml"
    std::string app_image_path; // "/agent/hello.app.img"; empty when there is none
    std::string text;           // of the manifest
    FileStamp app_image;
    std::optional<manifest::AgentManifest> manifest;
    std::string diagnostics; // a line each; why there is no manifest, or a warning beside one
};

// One manifest that is not at its place yet: name, text, manifest and diagnostics. Besides its form it is
// checked for what this machine cannot give (wrong_shares()).
CatalogueEntry read_manifest(const std::string& name, std::string text);
// A folder that does not exist has no agents; one that cannot be read is logged.
std::vector<CatalogueEntry> read_catalogue(const std::vector<std::string>& folders);

} // namespace nullbox::cage
