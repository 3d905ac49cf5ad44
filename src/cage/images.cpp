#include "cage/images.h"

#include <algorithm>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "cage/agent.h"
#include "manifest/forms.h"

namespace nullbox::cage {

constexpr std::string_view kSuffix = ".img";
constexpr size_t kMostImages = 4096;

static std::vector<std::string> image_names(const std::string& folder) {
    std::vector<std::string> names;
    std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), &::closedir);
    while (const dirent* entry = entries ? ::readdir(entries.get()) : nullptr) {
        std::string_view name = entry->d_name;
        if (!name.ends_with(kSuffix) || names.size() == kMostImages) continue;
        name.remove_suffix(kSuffix.size());
        // What no manifest can name is none: an upload under way, for one.
        if (manifest::wrong_name(name).empty()) names.emplace_back(name);
    }
    return names;
}

// Of the manifest that it runs with and of the one that its next start takes.
static bool uses(const Agent& agent, std::string_view image) {
    const auto* next = agent.next_entry();
    return (agent.entry().manifest && agent.entry().manifest->image == image) ||
           (next && next->manifest && next->manifest->image == image);
}

std::vector<ImageSummary> list_images(const ImageFolders& folders,
                                      const std::vector<std::unique_ptr<Agent>>& agents) {
    std::vector<ImageSummary> images;
    for (const auto& folder : folders.all) {
        for (auto& name : image_names(folder)) {
            if (std::ranges::contains(images, name, &ImageSummary::name)) continue;
            ImageSummary image{.name = std::move(name), .fixed = folder != folders.own};
            image.path = cat(folder, "/", image.name, kSuffix);
            struct stat facts{};
            if (::stat(image.path.c_str(), &facts) < 0 || !S_ISREG(facts.st_mode)) continue;
            image.bytes = static_cast<uint64_t>(facts.st_size);
            for (const auto& agent : agents)
                if (uses(*agent, image.name)) image.used_by.push_back(agent->entry().name);
            images.push_back(std::move(image));
        }
    }
    std::ranges::sort(images, {}, &ImageSummary::name);
    return images;
}

Result<> remove_image(const ImageSummary& image) {
    if (image.fixed)
        return error(cat("image ", image.name, " is part of the system image (", image.path, ")"));
    if (!image.used_by.empty()) {
        std::string names;
        for (const auto& name : image.used_by) names += cat(names.empty() ? "" : ", ", name);
        return error(cat("image ", image.name, " is in use by ", names, ": remove ",
                         image.used_by.size() == 1 ? "that agent" : "those agents", " first"));
    }
    if (::unlink(image.path.c_str()) < 0) return errno_error(cat("remove ", image.path));
    auto folder_path = image.path.substr(0, image.path.find_last_of('/'));
    Fd folder(::open(folder_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) < 0) return errno_error(cat("write ", folder_path));
    log_info(cat("image ", image.name, " removed"));
    return {};
}

} // namespace nullbox::cage
