// From what people have to a runtime image: opens the source, applies its layers, writes one SquashFS. Needs
// no privileges, runs no program, and unpacks nothing to the disk: owners, modes and device nodes of an image
// are never those of a file here.
#pragma once

#include "importer/source.h"

namespace nullbox::importer {

struct Summary {
    std::string_view form;
    size_t layers = 0;
    uint64_t files = 0, folders = 0, symlinks = 0;
    uint64_t unpacked_bytes = 0, image_bytes = 0;
    std::optional<guest_link::ImageConfig> run;
    // Left out, because a guest would not use it or it means nothing here.
    uint64_t devices = 0, sockets = 0, stray_whiteouts = 0;
};

// done of total, in bytes of what is read.
using Progress = std::function<void(std::string_view what, uint64_t done, uint64_t total)>;

// Into an empty file that is open for reading and writing. After an error its content is of no use.
Result<Summary> import_image(const Request& request, int to, const Progress& progress);

} // namespace nullbox::importer
