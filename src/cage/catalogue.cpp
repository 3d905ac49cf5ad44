#include "cage/catalogue.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "cage/shares.h"

namespace nullbox::cage {

constexpr std::string_view kSuffix = ".toml";

// The manifests' file names in a folder, sorted: the order must not depend on the file system.
static std::vector<std::string> manifest_files(const std::string& folder) {
    std::vector<std::string> names;
    std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), &::closedir);
    if (!entries) {
        if (errno != ENOENT) log_error(errno_error(cat("read agent folder ", folder)).message);
        return names;
    }
    while (const dirent* entry = ::readdir(entries.get())) {
        std::string_view name = entry->d_name;
        if (name.size() > kSuffix.size() && name.ends_with(kSuffix) && name[0] != '.')
            names.emplace_back(name);
    }
    std::ranges::sort(names);
    return names;
}

CatalogueEntry read_manifest(const std::string& name, std::string text) {
    CatalogueEntry entry{.name = printable(name, 64), .text = std::move(text)};
    auto parsed = manifest::parse_agent(entry.text, cat(name, kSuffix));
    if (auto* mistakes = std::get_if<std::vector<manifest::Diagnostic>>(&parsed)) {
        entry.diagnostics = trim(manifest::to_text(*mistakes));
        return entry;
    }
    entry.diagnostics = trim(wrong_shares(std::get<manifest::AgentManifest>(parsed)));
    if (entry.diagnostics.empty()) entry.manifest = std::get<manifest::AgentManifest>(std::move(parsed));
    return entry;
}

static FileStamp stamp_of(const std::string& path) {
    struct stat info{};
    if (::stat(path.c_str(), &info) < 0) return {};
    return {.inode = info.st_ino,
            .bytes = static_cast<uint64_t>(info.st_size),
            .modified_ns = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
}

static CatalogueEntry read_entry(const std::string& folder, const std::string& file) {
    auto stem = file.substr(0, file.size() - kSuffix.size());
    auto path = cat(folder, "/", file);
    auto text = read_file(path, kMaxManifestBytes);
    auto entry = read_manifest(stem, text.value_or(""));
    if (!text) entry.diagnostics = text.error().message;
    entry.manifest_path = std::move(path);
    if (auto app = cat(folder, "/", stem, ".app.img"); ::access(app.c_str(), F_OK) == 0) {
        entry.app_image_path = app;
        entry.app_image = stamp_of(app);
    }
    return entry;
}

std::vector<CatalogueEntry> read_catalogue(const std::vector<std::string>& folders) {
    std::vector<CatalogueEntry> entries;
    for (const auto& folder : folders) {
        for (const auto& file : manifest_files(folder)) {
            if (entries.size() == kMaxAgents) {
                log_error(cat("more than ", kMaxAgents, " agents: ", folder, "/", file,
                              " and what follows is left out"));
                return entries;
            }
            auto entry = read_entry(folder, file);
            auto same = std::ranges::find(entries, entry.name, &CatalogueEntry::name);
            if (same == entries.end()) {
                entries.push_back(std::move(entry));
                continue;
            }
            auto warning = cat("agent ", entry.name, " is defined twice: ", same->manifest_path, " counts, ",
                               entry.manifest_path, " does not: rename or remove one");
            same->diagnostics += cat(same->diagnostics.empty() ? "" : "\n", warning);
            log_warning(warning);
        }
    }
    return entries;
}

} // namespace nullbox::cage
