// A tree as a SquashFS image (zstd, the one compression the guest's kernel has), written by libsquashfs. The
// content comes first, file by file in any order, then finish() writes the tree itself. The same tree and
// content give the same bytes. What is written where is libsquashfs's business; how a tree becomes its inodes
// is here.
#pragma once

#include <memory>
#include <span>

#include "importer/tree.h"

namespace nullbox::importer {

class SquashfsWriter {
public:
    // fd: of an empty file, open for reading and writing, which must stay open.
    static Result<std::unique_ptr<SquashfsWriter>> create(int fd);
    ~SquashfsWriter();

    // One file at a time; a node's content is written once.
    Result<> begin(const Node& file);
    Result<> append(std::span<const std::byte> bytes);
    Result<> end();
    // Files without content written are empty. The size of the image in bytes.
    Result<uint64_t> finish(const Tree& tree);

private:
    struct Impl;
    explicit SquashfsWriter(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace nullbox::importer
