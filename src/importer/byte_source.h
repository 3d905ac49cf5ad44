// Bytes from front to back, from wherever they come: a part of a file, the same hashed on the way, the same
// unpacked. Pull only; nothing here knows what the bytes mean.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/fd.h"
#include "importer/limits.h"

struct archive;

namespace nullbox::importer {

class ByteSource {
public:
    virtual ~ByteSource() = default;
    // At least one byte, or 0 at the end.
    virtual Result<size_t> read(std::span<std::byte> into) = 0;
};

// Bytes [offset, offset + size) of a file, which must stay open. A file that ends earlier is an error.
class FileRange : public ByteSource {
public:
    FileRange(int fd, uint64_t offset, uint64_t size) : fd_(fd), at_(offset), left_(size) {}
    Result<size_t> read(std::span<std::byte> into) override;

private:
    int fd_;
    uint64_t at_, left_;
};

// Lower-case hexadecimal.
class Sha256Sum {
public:
    Sha256Sum();
    void update(std::span<const std::byte> bytes);
    std::string finish_hex(); // once

private:
    struct Free {
        void operator()(void* context) const;
    };
    std::unique_ptr<void, Free> context_;
};
std::string sha256_hex(std::string_view text);

class HashedSource : public ByteSource {
public:
    explicit HashedSource(ByteSource& below) : below_(below) {}
    Result<size_t> read(std::span<std::byte> into) override;
    Result<> drain(); // to the end
    uint64_t count() const { return count_; }
    std::string finish_hex() { return sum_.finish_hex(); } // after drain()

private:
    ByteSource& below_;
    Sha256Sum sum_;
    uint64_t count_ = 0;
};

// What libarchive reads from.
struct ArchiveFeed {
    ByteSource& source;
    std::string buffer = std::string(size_t{256} << 10, '\0');
    uint64_t count = 0;
    std::optional<Error> failed; // of the source, which is a better reason than libarchive's
};
Result<> open_archive(archive* reader, ArchiveFeed& feed);
Error archive_failure(archive* reader, const ArchiveFeed& feed);

enum class Packing { GzipOrZstd, Any }; // Any: xz as well; plain bytes are always right

// What was packed with gzip, zstd or xz, or not at all, by its first bytes. limits: of what comes out, with
// unpacked_before bytes unpacked already.
class UnpackedSource : public ByteSource {
public:
    static Result<std::unique_ptr<UnpackedSource>> open(ByteSource& packed, Packing packing,
                                                        const Limits& limits, uint64_t unpacked_before);
    ~UnpackedSource() override;
    Result<size_t> read(std::span<std::byte> into) override;
    bool was_packed() const { return was_packed_; }
    uint64_t count() const { return unpacked_; }

private:
    UnpackedSource(const Limits& limits, uint64_t before) : limits_(limits), before_(before) {}
    Result<> check() const;
    Limits limits_;
    uint64_t before_, unpacked_ = 0;
    std::unique_ptr<ArchiveFeed> feed_;
    archive* archive_ = nullptr;
    bool was_packed_ = false, ended_ = false;
};

} // namespace nullbox::importer
