// The runtime images that are there, which agents name them, and taking one away. An image is only a file
// here: what is in it is read by the guest it belongs to and by nobody else.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"

namespace nullbox::cage {

class Agent;

struct ImageFolders {
    const std::vector<std::string>& all; // the first that has an image of a name wins
    const std::string& own;              // the one whose images may be removed
};

struct ImageSummary {
    std::string name, path;
    uint64_t bytes = 0;
    bool fixed = false;               // part of the system image
    std::vector<std::string> used_by; // agents whose manifests name it, whether they run or not
};

// By name.
std::vector<ImageSummary> list_images(const ImageFolders& folders,
                                      const std::vector<std::unique_ptr<Agent>>& agents);
// Refuses what is fixed or in use, and says by whom.
Result<> remove_image(const ImageSummary& image);

} // namespace nullbox::cage
