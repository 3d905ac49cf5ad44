// One layer of files: its entries, and later the content of those that are still there when all layers are
// applied. Read twice, so that nothing is unpacked to the disk on the way; what changes between is an error.
#pragma once

#include <functional>
#include <memory>

#include "importer/blobs.h"
#include "importer/tar_reader.h"

namespace nullbox::importer {

using TakeBytes = std::function<Result<>(std::span<const std::byte>)>;
// Called with the number of each entry that has content: where it goes, or nothing if nobody wants it. The
// second is called after the last byte.
struct ContentSink {
    std::function<bool(uint64_t entry)> wanted;
    TakeBytes take;
    std::function<Result<>(uint64_t entry)> end;
};

class Layer {
public:
    virtual ~Layer() = default;
    virtual const std::string& name() const = 0; // for errors: "layer 2 of 5 (sha256:...)"
    virtual uint64_t packed_bytes() const = 0;   // for progress
    // The entries, of a layer that is right as a whole. unpacked: what it takes of limits is added.
    virtual Result<std::vector<Entry>> entries(const Limits& limits, uint64_t& unpacked) = 0;
    virtual Result<> contents(const Limits& limits, const ContentSink& sink) = 0;
    uint64_t sockets_left_out = 0;
};

struct TarLayer {
    std::string name;
    Blob blob;
    std::string digest;  // "sha256:..." of the blob; empty: nobody says
    std::string diff_id; // of what it unpacks to; empty: nobody says
    Packing packing = Packing::GzipOrZstd;
};
std::unique_ptr<Layer> tar_layer(TarLayer layer);

// A folder of this computer. Owners are kept if root imports it; else all is root's, because the owner is
// whoever unpacked it.
Result<std::unique_ptr<Layer>> folder_layer(const std::string& path);

} // namespace nullbox::importer
