// Where an image's documents and layers lie: below a folder, or in a tar. Only regular files are ever found,
// and only below the folder; a name that is a link in a tar (docker save makes such) leads to another of its
// names.
#pragma once

#include <map>
#include <memory>

#include "importer/byte_source.h"

namespace nullbox::importer {

struct Blob {
    int fd = -1; // borrowed: it stays open as long as the store
    Fd own;      // or owned
    uint64_t offset = 0, size = 0;
    FileRange bytes() const { return {own ? own.get() : fd, offset, size}; }
};

class BlobStore {
public:
    virtual ~BlobStore() = default;
    virtual bool has(const std::string& path) const = 0;
    virtual Result<Blob> open(const std::string& path) const = 0;
    // The whole of a small one.
    Result<std::string> text(const std::string& path) const;
};

Result<std::unique_ptr<BlobStore>> open_folder(const std::string& path);
// A tar, packed or not. One that is packed is unpacked into a temporary file without a name first, because
// layers are read more than once.
Result<std::unique_ptr<BlobStore>> open_tar(Fd file, uint64_t size, const Limits& limits);

// A file without a name, in the folder for temporary files; gone when it is closed.
Result<Fd> make_temporary_file();

} // namespace nullbox::importer
