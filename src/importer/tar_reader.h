// A tar (ustar, pax, GNU) entry by entry, read by libarchive. What comes out is checked for its form only:
// names that are UTF-8 without control characters, numbers that fit. Where a name leads is the tree's
// business.
#pragma once

#include <functional>
#include <vector>

#include "importer/byte_source.h"

struct archive_entry;

namespace nullbox::importer {

enum class Kind { File, Folder, Symlink, HardLink, Fifo, Device };

struct Entry { // everything here is what a stranger wrote
    std::string path;
    Kind kind = Kind::File;
    std::string target; // of a symbolic or hard link
    uint32_t mode = 0;  // 07777
    uint32_t uid = 0, gid = 0;
    uint32_t mtime = 0;
    uint64_t size = 0;                                       // of a file
    std::vector<std::pair<std::string, std::string>> xattrs; // user.* and security.capability
    uint64_t number = 0;                                     // by which its content is found again
};

// Empty if the name is right, else what is wrong with it.
std::string wrong_name_bytes(std::string_view name);
// Whether an image keeps the extended attribute: the others belong to the machine that it was made on.
bool keeps_xattr(std::string_view name);

class TarReader {
public:
    static Result<std::unique_ptr<TarReader>> open(ByteSource& tar);
    ~TarReader();
    // The next entry, or nothing at the end.
    Result<std::optional<Entry>> next();
    // Of the entry that next() brought: pieces in order, holes as zeros.
    Result<> content(const std::function<Result<>(std::span<const std::byte>)>& take);
    // Where the content of that entry begins in the tar, if it stands there in one piece.
    Result<uint64_t> content_offset() const;

private:
    explicit TarReader(ByteSource& tar) : feed_{.source = tar} {}
    Result<Entry> convert(archive_entry* entry) const;
    ArchiveFeed feed_;
    archive* archive_ = nullptr;
    archive_entry* entry_ = nullptr;
    uint64_t size_ = 0, next_number_ = 0;
};

} // namespace nullbox::importer
