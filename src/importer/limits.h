// How much an image may be, so that a small hostile file cannot fill the disk of whoever imports it or keep
// the computer busy for days. Each limit is an option of nullctl image import, and the refusal names it.
#pragma once

#include <cstdint>

#include "base/error.h"

namespace nullbox::importer {

struct Limits {
    uint64_t entries = 1'000'000;                              // in all layers together
    uint64_t file_bytes = uint64_t{8} << 30;                   // of one file; holes count
    uint64_t total_bytes = uint64_t{16} << 30;                 // unpacked, all layers together
    uint64_t ratio = 250;                                      // unpacked to packed, beyond kRatioFrom
    static constexpr uint64_t kRatioFrom = uint64_t{64} << 20; // a small thing may be all zeros
    bool allow_stray_whiteouts = false;
};

constexpr size_t kMostNameBytes = 255;
constexpr size_t kMostPathBytes = 4096;
constexpr size_t kMostDepth = 256;
constexpr size_t kMostSymlinks = 40; // followed on the way to one entry, as the kernel does
constexpr size_t kMostLayers = 256;
constexpr size_t kMostDocumentBytes = size_t{4} << 20; // of an index, a manifest, a configuration
constexpr size_t kMostXattrBytes = size_t{64} << 10;   // of one entry

} // namespace nullbox::importer
