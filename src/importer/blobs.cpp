#include "importer/blobs.h"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "importer/tar_reader.h"

namespace nullbox::importer {

constexpr size_t kMostNames = 100'000; // of blobs in one archive

Result<std::string> BlobStore::text(const std::string& path) const {
    auto blob = TRY(open(path));
    if (blob.size > kMostDocumentBytes)
        return error(cat(path, " has ", blob.size, " bytes, a document at most ", kMostDocumentBytes));
    std::string text(static_cast<size_t>(blob.size), '\0');
    auto bytes = blob.bytes();
    for (size_t at = 0; at < text.size();)
        at += TRY(bytes.read(std::as_writable_bytes(std::span(text).subspan(at))).context(path));
    return text;
}

namespace {

class FolderStore : public BlobStore {
public:
    explicit FolderStore(Fd folder) : folder_(std::move(folder)) {}
    bool has(const std::string& path) const override { return open(path).has_value(); }
    Result<Blob> open(const std::string& path) const override {
        // Nonblocking: a FIFO in its place must not hold us.
        auto fd = TRY(open_beneath(folder_.get(), path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        struct stat facts{};
        if (::fstat(fd.get(), &facts) < 0) return errno_error(cat("look at ", path));
        if (!S_ISREG(facts.st_mode)) return error(cat(path, " is not a regular file"));
        return Blob{.own = std::move(fd), .size = static_cast<uint64_t>(facts.st_size)};
    }

private:
    Fd folder_;
};

struct Range {
    uint64_t offset = 0, size = 0;
};

class TarStore : public BlobStore {
public:
    explicit TarStore(Fd file) : file_(std::move(file)) {}
    Result<> read_names(uint64_t size);
    bool has(const std::string& path) const override { return find(path) != nullptr; }
    Result<Blob> open(const std::string& path) const override {
        const auto* range = find(path);
        if (!range) return error(cat(printable(path, 256), " is not in the archive"));
        return Blob{.fd = file_.get(), .offset = range->offset, .size = range->size};
    }

private:
    const Range* find(std::string path) const;
    Fd file_;
    std::map<std::string, Range> ranges_;
    std::map<std::string, std::string> links_;
};

std::string plain(const std::string& path) {
    auto text = std::filesystem::path(path).lexically_normal().string();
    return text.starts_with("./") ? text.substr(2) : text;
}

const Range* TarStore::find(std::string path) const {
    for (size_t links = 0; links < kMostSymlinks; links++) {
        if (auto found = ranges_.find(path); found != ranges_.end()) return &found->second;
        auto link = links_.find(path);
        if (link == links_.end()) return nullptr;
        path = link->second;
    }
    return nullptr;
}

Result<> TarStore::read_names(uint64_t size) {
    FileRange bytes(file_.get(), 0, size);
    auto tar = TRY(TarReader::open(bytes));
    for (;;) {
        auto entry = TRY(tar->next());
        if (!entry) return {};
        if (ranges_.size() + links_.size() >= kMostNames)
            return error(cat("more than ", kMostNames, " files: an archive of layers has few"));
        auto path = plain(entry->path);
        if (entry->kind == Kind::File) {
            auto offset = TRY(tar->content_offset().context(printable(path, 256)));
            if (offset > size || entry->size > size - offset)
                return error(cat(printable(path, 256), ": cut off, the archive ends in the middle of it"));
            links_.erase(path);
            ranges_[path] = {.offset = offset, .size = entry->size};
        } else if (entry->kind == Kind::Symlink) {
            links_[path] = plain((std::filesystem::path(path).parent_path() / entry->target).string());
        } else if (entry->kind == Kind::HardLink) {
            links_[path] = plain(entry->target);
        }
    }
}

} // namespace

Result<std::unique_ptr<BlobStore>> open_folder(const std::string& path) {
    Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return errno_error(cat("open ", path));
    return std::make_unique<FolderStore>(std::move(folder));
}

Result<Fd> make_temporary_file() {
    std::error_code failure;
    auto folder = std::filesystem::temp_directory_path(failure).string();
    if (failure) folder = "/tmp";
    Fd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (fd) return fd;
    auto pattern = cat(folder, "/nullctl-XXXXXX"); // not every file system has O_TMPFILE
    fd.reset(::mkostemp(pattern.data(), O_CLOEXEC));
    if (!fd) return errno_error(cat("make a temporary file in ", folder));
    ::unlink(pattern.c_str());
    return fd;
}

Result<std::unique_ptr<BlobStore>> open_tar(Fd file, uint64_t size, const Limits& limits) {
    FileRange bytes(file.get(), 0, size);
    auto unpacked = TRY(UnpackedSource::open(bytes, Packing::Any, limits, 0));
    if (unpacked->was_packed()) {
        auto plain_file = TRY(make_temporary_file());
        std::string piece(size_t{256} << 10, '\0');
        while (auto count = TRY(unpacked->read(std::as_writable_bytes(std::span(piece)))))
            TRY(write_all(plain_file.get(), std::string_view(piece).substr(0, count))
                    .context("unpack the archive into a temporary file"));
        size = unpacked->count();
        unpacked.reset();
        file = std::move(plain_file);
    }
    auto store = std::make_unique<TarStore>(std::move(file));
    TRY(store->read_names(size));
    return store;
}

} // namespace nullbox::importer
