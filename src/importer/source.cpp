#include "importer/source.h"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::importer {

constexpr size_t kMostIndexes = 8; // one in another

std::string_view form_name(Form form) {
    switch (form) {
    case Form::OciLayout:
        return "an OCI image layout";
    case Form::OciArchive:
        return "an OCI archive";
    case Form::DockerSave:
        return "an archive of docker save";
    case Form::Tar:
        return "a tar of files";
    case Form::Folder:
        return "a folder of files";
    }
    return "?";
}

Result<bool> is_runtime_image(const std::string& path) {
    auto file = TRY(open_readonly(path));
    std::array<unsigned char, 1028> head{};
    ssize_t count = ::pread(file.get(), head.data(), head.size(), 0);
    if (count < 0) return errno_error(cat("read ", path));
    auto at = [&](size_t offset) {
        return std::string_view(reinterpret_cast<const char*>(head.data()) + offset, 4);
    };
    return at(0) == "hsqs" || at(1024) == "\xe2\xe1\xf5\xe0";
}

namespace {

// What a descriptor leads to: of that size and that digest, or an error.
Result<Blob> open_blob(const BlobStore& store, const Descriptor& descriptor) {
    auto path = blob_path(descriptor.digest);
    if (!store.has(path)) return error(cat(descriptor.digest, " is missing: there is no ", path));
    auto blob = TRY(store.open(path));
    if (blob.size != descriptor.size)
        return error(cat(descriptor.digest, " has ", blob.size, " bytes, announced are ", descriptor.size,
                         ": it is cut off or another"));
    return blob;
}

Result<std::string> read_document(const BlobStore& store, const Descriptor& descriptor) {
    (void)TRY(open_blob(store, descriptor));
    auto text = TRY(store.text(blob_path(descriptor.digest)));
    if (auto found = cat("sha256:", sha256_hex(text)); found != descriptor.digest)
        return error(cat(descriptor.digest, ": its digest is ", found, ": it is damaged or another"));
    return text;
}

Result<> check_platform(const Config& config, const Platform& wanted) {
    if (config.platform.os == wanted.os && config.platform.architecture == wanted.architecture) return {};
    return error(cat("the image is for ", to_text(config.platform), ", not for ", to_text(wanted)));
}

Result<> check_count(size_t layers, const Config& config) {
    if (layers == 0) return error("the image has no layers");
    if (layers == config.diff_ids.size()) return {};
    return error(
        cat("the manifest has ", layers, " layers, the configuration speaks of ", config.diff_ids.size()));
}

std::string layer_name(size_t number, size_t count, std::string_view which) {
    return cat("layer ", number + 1, " of ", count, " (", printable(which, 128), ")");
}

Result<Descriptor> find_manifest(const BlobStore& store, const Request& request) {
    auto text = TRY(store.text("index.json"));
    auto index = TRY(parse_index(text).context("index.json"));
    auto chosen = TRY(choose(index, request.platform, request.tag));
    std::set<std::string> seen;
    while (TRY(kind_of(chosen)) == DocumentKind::Index) {
        if (!seen.insert(chosen.digest).second || seen.size() > kMostIndexes)
            return error(cat(chosen.digest, ": more than ", kMostIndexes,
                             " indexes in each other; do they go in circles?"));
        auto inner_text = TRY(read_document(store, chosen));
        auto inner = TRY(parse_index(inner_text).context(chosen.digest));
        chosen = TRY(choose(inner, request.platform, "").context(chosen.digest));
    }
    return chosen;
}

Result<> load_oci(Source& source, const Request& request) {
    const auto& store = *source.store;
    auto layout =
        TRY(store.text("oci-layout").context("an OCI layout has a file oci-layout; is it cut off?"));
    TRY(check_layout(layout).context("oci-layout"));
    auto chosen = TRY(find_manifest(store, request));
    auto text = TRY(read_document(store, chosen));
    auto manifest = TRY(parse_manifest(text).context(cat("manifest ", chosen.digest)));
    auto where = cat("configuration ", manifest.config.digest);
    auto config_text = TRY(read_document(store, manifest.config));
    auto config = TRY(parse_config(config_text).context(where));
    TRY(check_platform(config, request.platform));
    TRY(check_count(manifest.layers.size(), config));
    for (size_t i = 0; i < manifest.layers.size(); i++) {
        const auto& layer = manifest.layers[i];
        auto name = layer_name(i, manifest.layers.size(), layer.digest);
        source.layers.push_back(tar_layer({.name = name,
                                           .blob = TRY(open_blob(store, layer).context(name)),
                                           .digest = layer.digest,
                                           .diff_id = config.diff_ids[i]}));
    }
    source.run = std::move(config.run);
    return {};
}

bool has_tag(const SavedImage& image, std::string_view tag) {
    return std::ranges::any_of(
        image.tags, [&](const std::string& name) { return name == tag || name.ends_with(cat(":", tag)); });
}

Result<SavedImage> choose_saved(const std::vector<SavedImage>& images, std::string_view tag) {
    std::string tags;
    std::vector<const SavedImage*> fit;
    for (const auto& image : images) {
        for (const auto& name : image.tags) tags += cat(tags.empty() ? "" : ", ", printable(name, 128));
        if (tag.empty() || has_tag(image, tag)) fit.push_back(&image);
    }
    if (fit.size() == 1) return *fit.front();
    if (fit.empty())
        return error(cat("no image in it has the tag \"", printable(tag, 128), "\"; it has ",
                         tags.empty() ? "none" : tags));
    return error(cat("it holds ", fit.size(), " images: choose one with --tag: ", tags));
}

// Docker names a configuration by its digest: "HEX.json", or as a blob.
Result<> check_config_name(const std::string& path, const std::string& text) {
    auto name = std::string_view(path).substr(path.find_last_of('/') + 1);
    if (name.ends_with(".json")) name.remove_suffix(5);
    if (!check_digest(cat("sha256:", name))) return {};
    if (auto found = sha256_hex(text); found != name)
        return error(cat("configuration ", printable(path, 128), ": its digest is ", found,
                         ": it is damaged or another"));
    return {};
}

Result<> load_docker(Source& source, const Request& request) {
    const auto& store = *source.store;
    auto list = TRY(store.text("manifest.json"));
    auto images = TRY(parse_docker_manifest(list).context("manifest.json"));
    auto image = TRY(choose_saved(images, request.tag));
    auto text = TRY(store.text(image.config));
    TRY(check_config_name(image.config, text));
    auto config = TRY(parse_config(text).context(cat("configuration ", printable(image.config, 128))));
    TRY(check_platform(config, request.platform));
    TRY(check_count(image.layers.size(), config));
    for (size_t i = 0; i < image.layers.size(); i++) {
        auto name = layer_name(i, image.layers.size(), image.layers[i]);
        source.layers.push_back(tar_layer({.name = name,
                                           .blob = TRY(store.open(image.layers[i]).context(name)),
                                           .digest = "",
                                           .diff_id = config.diff_ids[i]}));
    }
    source.run = std::move(config.run);
    return {};
}

Result<> load_layers(Source& source, const Request& request) {
    if (source.store->has("index.json")) return load_oci(source, request);
    if (!source.store->has("manifest.json"))
        return error(
            "it looks like an image of layers, but has neither index.json nor manifest.json: is it cut off?");
    source.form = Form::DockerSave;
    return load_docker(source, request);
}

bool is_hex(std::string_view text) {
    return text.size() == 64 &&
           std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// The names that archives of layers begin with; no root file system has one of them at its top.
bool is_of_layers(std::string_view path) {
    while (path.starts_with("./")) path.remove_prefix(2);
    auto first = path.substr(0, path.find('/'));
    return first == "blobs" || first == "oci-layout" || path == "index.json" || path == "manifest.json" ||
           path == "repositories" || is_hex(first.substr(0, first.find('.')));
}

// By the first of its entries that is no folder.
Result<bool> holds_layers(int file, uint64_t size, const Limits& limits) {
    FileRange bytes(file, 0, size);
    auto unpacked = TRY(UnpackedSource::open(bytes, Packing::Any, limits, 0));
    auto tar = TarReader::open(*unpacked);
    if (!tar)
        return with_context(std::move(tar.error()),
                            "it is no tar (plain, gzip, zstd or xz), and no SquashFS or EROFS image");
    for (uint64_t count = 0; count < limits.entries; count++) {
        auto entry = (*tar)->next();
        if (!entry && count == 0)
            return with_context(std::move(entry.error()),
                                "it is no tar (plain, gzip, zstd or xz), and no SquashFS or EROFS image");
        if (!entry) return std::move(entry.error());
        if (!*entry) {
            if (count == 0) return error("it is empty");
            return false;
        }
        if ((*entry)->kind != Kind::Folder) return is_of_layers((*entry)->path);
    }
    return false;
}

Result<Source> open_file(const Request& request, uint64_t size) {
    Source source;
    source.file = TRY(open_readonly(request.source));
    if (size == 0) return error("it is empty");
    if (TRY(holds_layers(source.file.get(), size, request.limits))) {
        source.form = Form::OciArchive;
        source.store = TRY(open_tar(std::move(source.file), size, request.limits));
        TRY(load_layers(source, request));
        return source;
    }
    source.form = Form::Tar;
    source.layers.push_back(
        tar_layer({.name = "files",
                   .blob = {.fd = source.file.get(), .own = {}, .offset = 0, .size = size},
                   .digest = "",
                   .diff_id = "",
                   .packing = Packing::Any}));
    return source;
}

Result<Source> open_directory(const Request& request) {
    Source source;
    source.store = TRY(open_folder(request.source));
    if (source.store->has("oci-layout") ||
        (source.store->has("index.json") && ::access(cat(request.source, "/blobs").c_str(), F_OK) == 0)) {
        source.form = Form::OciLayout;
        TRY(load_layers(source, request));
        return source;
    }
    source.form = Form::Folder;
    source.layers.push_back(TRY(folder_layer(request.source)));
    return source;
}

} // namespace

Result<Source> open_source(const Request& request) {
    struct stat facts{};
    if (::stat(request.source.c_str(), &facts) < 0) return errno_error(cat("open ", request.source));
    if (S_ISDIR(facts.st_mode)) return open_directory(request).context(request.source);
    if (S_ISREG(facts.st_mode))
        return open_file(request, static_cast<uint64_t>(facts.st_size)).context(request.source);
    return error(cat(request.source, " is neither a file nor a folder"));
}

} // namespace nullbox::importer
