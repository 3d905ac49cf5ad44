#include "nullctl/pack.h"

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "importer/blobs.h"
#include "importer/squashfs_writer.h"

namespace nullbox::nullctl {

namespace fs = std::filesystem;
using importer::Kind;
using importer::Node;

constexpr size_t kMostFiles = 100'000;
constexpr size_t kMostDepth = 256;
constexpr uint32_t kTime = 1'700'000'000; // of every file; a date would say nothing

bool left_out(std::string_view name) {
    return name == "AGENT.toml" || name == "CMakeLists.txt" || name == "README.md" || name == "__pycache__" ||
           name.starts_with("test_") || name.starts_with("make_") || name.starts_with('.');
}

namespace {

class Packer {
public:
    explicit Packer(importer::SquashfsWriter& writer) : writer_(writer) {}
    Result<> add_all(const fs::path& from, Node& to, size_t depth = 0);
    size_t files() const { return files_; }

private:
    Result<> add(const fs::path& path, Node& to, size_t depth);
    Result<> write(const fs::path& path, Node& file);

    importer::SquashfsWriter& writer_;
    size_t files_ = 0;
};

Result<std::vector<fs::path>> paths_in(const fs::path& folder) {
    std::vector<fs::path> paths;
    std::error_code failure;
    for (fs::directory_iterator at(folder, failure), end; !failure && at != end; at.increment(failure))
        if (!left_out(at->path().filename().string())) paths.push_back(at->path());
    if (failure) return error(cat("read ", folder.string(), ": ", failure.message()));
    std::ranges::sort(paths); // the same image whatever order the file system has
    return paths;
}

Result<> Packer::write(const fs::path& path, Node& file) {
    auto from = TRY(open_readonly(path.string()));
    struct stat facts{};
    if (::fstat(from.get(), &facts) < 0) return errno_error(cat("look at ", path.string()));
    if (!S_ISREG(facts.st_mode)) return error(cat(path.string(), ": changed while it was packed"));
    // The umask of whoever cloned is not in the image.
    file.mode = (facts.st_mode & S_IXUSR) != 0 ? 0755 : 0644;
    file.content.size = static_cast<uint64_t>(facts.st_size);
    if (file.content.size == 0) return {};
    importer::FileRange bytes(from.get(), 0, file.content.size);
    std::string piece(size_t{256} << 10, '\0');
    TRY(writer_.begin(file));
    while (auto count = TRY(bytes.read(std::as_writable_bytes(std::span(piece))).context(path.string())))
        TRY(writer_.append(std::as_bytes(std::span(piece).first(count))));
    return writer_.end();
}

Result<> Packer::add(const fs::path& path, Node& to, size_t depth) {
    std::error_code failure;
    auto status = fs::symlink_status(path, failure);
    if (failure) return error(cat("look at ", path.string(), ": ", failure.message()));
    auto node = std::make_shared<Node>(Node{.mtime = kTime});
    if (fs::is_symlink(status)) {
        node->kind = Kind::Symlink;
        node->mode = 0777;
        node->target = fs::read_symlink(path, failure).string();
        if (failure) return error(cat("read ", path.string(), ": ", failure.message()));
    } else if (fs::is_directory(status)) {
        TRY(add_all(path, *node, depth + 1));
    } else if (fs::is_regular_file(status)) {
        node->kind = Kind::File;
        TRY(write(path, *node));
    } else {
        return error(cat(path.string(), ": neither a file, a folder nor a symbolic link"));
    }
    to.children[path.filename().string()] = std::move(node);
    return {};
}

Result<> Packer::add_all(const fs::path& from, Node& to, size_t depth) {
    if (depth > kMostDepth) return error(cat(from.string(), ": more than ", kMostDepth, " folders deep"));
    auto paths = paths_in(from);
    if (!paths) return std::move(paths.error());
    for (const auto& path : *paths) {
        if (++files_ > kMostFiles) return error(cat(from.string(), ": more than ", kMostFiles, " files"));
        TRY(add(path, to, depth));
    }
    return {};
}

} // namespace

Result<Packed> pack_folder(const std::string& folder) {
    Packed packed{.image = TRY(importer::make_temporary_file())};
    auto writer = TRY(importer::SquashfsWriter::create(packed.image.get()));
    importer::Tree tree;
    tree.root().mtime = kTime;
    Packer packer(*writer);
    TRY(packer.add_all(folder, tree.root()));
    packed.files = packer.files();
    if (packed.files == 0) return Packed();
    (void)TRY(writer->finish(tree));
    return packed;
}

} // namespace nullbox::nullctl
