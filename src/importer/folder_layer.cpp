#include <algorithm>
#include <array>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "importer/layer.h"

namespace nullbox::importer {

namespace {

class FolderLayer : public Layer {
public:
    FolderLayer(Fd folder, std::string path)
        : folder_(std::move(folder)), name_(std::move(path)), keeps_owners_(::geteuid() == 0) {}
    const std::string& name() const override { return name_; }
    uint64_t packed_bytes() const override { return bytes_; }
    Result<std::vector<Entry>> entries(const Limits& limits, uint64_t& unpacked) override;
    Result<> contents(const Limits& limits, const ContentSink& sink) override;

private:
    Result<> walk(const Fd& folder, const std::string& path, size_t depth, const Limits& limits);
    Result<> add(const Fd& folder, const std::string& name, const std::string& path, size_t depth,
                 const Limits& limits);
    Result<> take_facts(Entry& entry, const struct stat& facts);
    Result<> read_file_into(const Entry& entry, const ContentSink& sink) const;

    Fd folder_;
    std::string name_;
    bool keeps_owners_;
    uint64_t bytes_ = 0;
    std::vector<Entry> entries_;
    std::map<std::pair<dev_t, ino_t>, std::string> linked_; // files with several names, the first of each
};

Result<std::vector<std::string>> names_in(const Fd& folder) {
    Fd again(::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!again) return errno_error("read the folder");
    std::unique_ptr<DIR, decltype([](DIR* stream) { ::closedir(stream); })> stream(::fdopendir(again.get()));
    if (!stream) return errno_error("read the folder");
    again.release();
    std::vector<std::string> names;
    for (errno = 0; const dirent* entry = ::readdir(stream.get()); errno = 0)
        if (std::string_view name = entry->d_name; name != "." && name != "..") names.emplace_back(name);
    if (errno != 0) return errno_error("read the folder");
    std::ranges::sort(names); // the same image whatever order the file system has
    return names;
}

Result<Kind> kind_of(mode_t mode) {
    if (S_ISREG(mode)) return Kind::File;
    if (S_ISDIR(mode)) return Kind::Folder;
    if (S_ISLNK(mode)) return Kind::Symlink;
    if (S_ISFIFO(mode)) return Kind::Fifo;
    if (S_ISCHR(mode) || S_ISBLK(mode)) return Kind::Device;
    return error("it is of a kind that an image cannot have");
}

// Through a descriptor, as all else here: the folder may change under our hands.
Result<std::vector<std::pair<std::string, std::string>>> xattrs_of(const Fd& fd) {
    std::vector<std::pair<std::string, std::string>> xattrs;
    std::string names(kMostXattrBytes, '\0');
    ssize_t length = ::flistxattr(fd.get(), names.data(), names.size());
    if (length < 0 && (errno == ENOTSUP || errno == EBADF)) return xattrs;
    if (length < 0) return errno_error("read its extended attributes");
    for (auto name : split(std::string_view(names).substr(0, static_cast<size_t>(length)), '\0')) {
        if (name.empty() || !keeps_xattr(name)) continue;
        std::string value(kMostXattrBytes, '\0');
        ssize_t size = ::fgetxattr(fd.get(), std::string(name).c_str(), value.data(), value.size());
        if (size < 0) return errno_error(cat("read its extended attribute ", printable(name, 64)));
        value.resize(static_cast<size_t>(size));
        xattrs.emplace_back(name, std::move(value));
    }
    std::ranges::sort(xattrs);
    return xattrs;
}

Result<std::string> target_of(const Fd& folder, const std::string& name) {
    std::array<char, kMostPathBytes + 1> target{};
    ssize_t size = ::readlinkat(folder.get(), name.c_str(), target.data(), target.size());
    if (size < 0) return errno_error("read the link");
    std::string text(target.data(), static_cast<size_t>(size));
    if (auto wrong = wrong_name_bytes(text); !wrong.empty())
        return error(cat("the target of its link: ", wrong));
    return text;
}

Result<> FolderLayer::take_facts(Entry& entry, const struct stat& facts) {
    entry.kind = TRY(kind_of(facts.st_mode));
    entry.mode = facts.st_mode & 07777;
    entry.uid = keeps_owners_ ? facts.st_uid : 0;
    entry.gid = keeps_owners_ ? facts.st_gid : 0;
    entry.mtime = static_cast<uint32_t>(std::clamp<int64_t>(facts.st_mtime, 0, UINT32_MAX));
    if (entry.kind == Kind::File) entry.size = static_cast<uint64_t>(facts.st_size);
    if (entry.kind != Kind::File || facts.st_nlink < 2) return {};
    auto [first, fresh] = linked_.emplace(std::pair(facts.st_dev, facts.st_ino), entry.path);
    if (fresh) return {};
    entry.kind = Kind::HardLink;
    entry.target = first->second;
    return {};
}

Result<> FolderLayer::add(const Fd& folder, const std::string& name, const std::string& path, size_t depth,
                          const Limits& limits) {
    if (auto wrong = wrong_name_bytes(name); !wrong.empty()) return error(wrong);
    if (name.starts_with(".wh.")) return error("its name begins with .wh., which means a whiteout in images");
    struct stat facts{};
    if (::fstatat(folder.get(), name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) < 0)
        return errno_error("look at it");
    if (S_ISSOCK(facts.st_mode)) {
        sockets_left_out++;
        return {};
    }
    if (entries_.size() == limits.entries)
        return error(cat("more than ", limits.entries, " entries, the limit: --max-entries raises it"));
    Entry entry{.path = path, .number = entries_.size()};
    TRY(take_facts(entry, facts));
    if (entry.kind == Kind::Symlink) entry.target = TRY(target_of(folder, name));
    Fd own;
    if (entry.kind == Kind::File || entry.kind == Kind::Folder) {
        own.reset(::openat(folder.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
        if (!own) return errno_error("open it");
        entry.xattrs = TRY(xattrs_of(own));
    }
    if (entry.size > limits.file_bytes)
        return error(cat("it has ", entry.size, " bytes, more than ", limits.file_bytes >> 20,
                         " MB, the limit: --max-file-mb raises it"));
    bytes_ += entry.kind == Kind::File ? entry.size : 0;
    bool is_folder = entry.kind == Kind::Folder;
    entries_.push_back(std::move(entry));
    return is_folder ? walk(own, path, depth + 1, limits) : Result<>();
}

Result<> FolderLayer::walk(const Fd& folder, const std::string& path, size_t depth, const Limits& limits) {
    if (depth > kMostDepth) return error(cat("it lies more than ", kMostDepth, " folders deep"));
    for (const auto& name : TRY(names_in(folder).context(path))) {
        auto below = path.empty() ? name : cat(path, "/", name);
        auto added = add(folder, name, below, depth, limits);
        // The innermost one that is wrong has said its path already.
        if (!added && added.error().message.starts_with('"')) return added;
        if (!added) return with_context(std::move(added.error()), cat("\"", printable(below, 256), "\""));
    }
    return {};
}

Result<std::vector<Entry>> FolderLayer::entries(const Limits& limits, uint64_t& unpacked) {
    entries_.clear();
    linked_.clear();
    bytes_ = 0;
    struct stat facts{};
    if (::fstat(folder_.get(), &facts) < 0) return errno_error("look at it");
    Entry root{.path = "."};
    TRY(take_facts(root, facts));
    entries_.push_back(std::move(root));
    TRY(walk(folder_, "", 0, limits));
    if (unpacked + bytes_ > limits.total_bytes)
        return error(cat("the files have more than ", limits.total_bytes >> 20,
                         " MB in all, the limit: --max-total-mb raises it"));
    unpacked += bytes_;
    return entries_;
}

Result<> FolderLayer::read_file_into(const Entry& entry, const ContentSink& sink) const {
    auto file = TRY(open_beneath(folder_.get(), entry.path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    struct stat facts{};
    if (::fstat(file.get(), &facts) < 0) return errno_error("look at it");
    if (!S_ISREG(facts.st_mode) || static_cast<uint64_t>(facts.st_size) != entry.size)
        return error("it changed while it was imported");
    FileRange bytes(file.get(), 0, entry.size);
    std::string piece(size_t{256} << 10, '\0');
    while (auto count = TRY(bytes.read(std::as_writable_bytes(std::span(piece)))))
        TRY(sink.take(std::as_bytes(std::span(piece).first(count))));
    return sink.end(entry.number);
}

Result<> FolderLayer::contents(const Limits&, const ContentSink& sink) {
    for (const auto& entry : entries_)
        if (entry.kind == Kind::File && entry.size > 0 && sink.wanted(entry.number))
            TRY(read_file_into(entry, sink).context(cat("\"", printable(entry.path, 256), "\"")));
    return {};
}

} // namespace

Result<std::unique_ptr<Layer>> folder_layer(const std::string& path) {
    Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return errno_error(cat("open ", path));
    return std::make_unique<FolderLayer>(std::move(folder), path);
}

} // namespace nullbox::importer
