#include "importer/documents.h"

#include <algorithm>
#include <boost/json/parse.hpp>

#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::importer {

namespace json = boost::json;

constexpr size_t kMostManifests = 1024;
constexpr size_t kMostTextBytes = 4096;

static Result<json::object> parse(std::string_view text) {
    if (text.size() > kMostDocumentBytes)
        return error(cat("it has ", text.size(), " bytes, at most ", kMostDocumentBytes));
    json::parse_options options;
    options.max_depth = 32;
    boost::system::error_code failure;
    auto value = json::parse(text, failure, {}, options);
    if (failure) return error(cat("it is not JSON: ", failure.message()));
    if (!value.is_object()) return error("it is JSON, and no object");
    return std::move(value.get_object());
}

// A field that may be missing or null; of another type is an error.
static Result<std::string> text_in(const json::object& object, std::string_view name) {
    const auto* value = object.if_contains(name);
    if (!value || value->is_null()) return std::string();
    if (!value->is_string()) return error(cat("\"", name, "\" is not a text"));
    const auto& text = value->get_string();
    if (text.size() > kMostTextBytes)
        return error(cat("\"", name, "\" has ", text.size(), " bytes, at most ", kMostTextBytes));
    if (std::string_view(text).contains('\0')) return error(cat("\"", name, "\" has a NUL in it"));
    return std::string(text);
}

static Result<json::array> list_in(const json::object& object, std::string_view name, size_t most) {
    const auto* value = object.if_contains(name);
    if (!value || value->is_null()) return json::array();
    if (!value->is_array()) return error(cat("\"", name, "\" is not a list"));
    if (value->get_array().size() > most)
        return error(cat("\"", name, "\" has ", value->get_array().size(), " entries, at most ", most));
    return value->get_array();
}

static Result<std::vector<std::string>> texts_in(const json::object& object, std::string_view name,
                                                 size_t most) {
    std::vector<std::string> texts;
    for (const auto& value : TRY(list_in(object, name, most))) {
        if (!value.is_string()) return error(cat("\"", name, "\" is not a list of texts"));
        if (value.get_string().size() > kMostTextBytes || std::string_view(value.get_string()).contains('\0'))
            return error(
                cat("an entry of \"", name, "\" has a NUL in it, or more than ", kMostTextBytes, " bytes"));
        texts.emplace_back(value.get_string());
    }
    return texts;
}

static Result<json::object> object_in(const json::object& object, std::string_view name) {
    const auto* value = object.if_contains(name);
    if (!value || value->is_null()) return json::object();
    if (!value->is_object()) return error(cat("\"", name, "\" is not an object"));
    return value->get_object();
}

std::string to_text(const Platform& platform) {
    return cat(printable(platform.os, 64), "/", printable(platform.architecture, 64),
               platform.variant.empty() ? "" : "/", printable(platform.variant, 64));
}

Result<Platform> parse_platform(std::string_view text) {
    auto parts = split(text, '/');
    bool right = (parts.size() == 2 || parts.size() == 3) &&
                 std::ranges::none_of(parts, [](auto part) { return part.empty() || part.size() > 32; });
    if (!right)
        return error(cat("platform \"", printable(text, 64), "\" must be OS/ARCHITECTURE, like linux/amd64"));
    return Platform{.os = std::string(parts[0]),
                    .architecture = std::string(parts[1]),
                    .variant = std::string(parts.size() == 3 ? parts[2] : "")};
}

Result<> check_digest(std::string_view digest) {
    constexpr std::string_view kPrefix = "sha256:";
    if (!digest.starts_with(kPrefix))
        return error(cat("digest \"", printable(digest, 128),
                         "\" is not of SHA-256, which is all that is checked here"));
    digest.remove_prefix(kPrefix.size());
    bool right = digest.size() == 64 && std::ranges::all_of(digest, [](char c) {
                     return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                 });
    if (!right)
        return error(
            cat("digest \"sha256:", printable(digest, 128), "\" is not 64 hexadecimal digits in lower case"));
    return {};
}

std::string blob_path(std::string_view digest) {
    return cat("blobs/sha256/", digest.substr(digest.find(':') + 1));
}

static Result<Platform> platform_in(const json::object& object) {
    return Platform{.os = TRY(text_in(object, "os")),
                    .architecture = TRY(text_in(object, "architecture")),
                    .variant = TRY(text_in(object, "variant"))};
}

// "docker.io/library/python:3.12" is 3.12 to whoever asks for a tag.
static std::string tag_of(std::string_view name) {
    auto last = name.substr(name.find_last_of('/') + 1);
    auto colon = last.find(':');
    return std::string(colon == std::string_view::npos ? last : last.substr(colon + 1));
}

static Result<Descriptor> descriptor_in(const json::object& object) {
    Descriptor out{.media_type = TRY(text_in(object, "mediaType")), .digest = TRY(text_in(object, "digest"))};
    TRY(check_digest(out.digest));
    const auto* size = object.if_contains("size");
    if (!size || !size->is_int64() || size->get_int64() < 0)
        return error(cat(out.digest, ": \"size\" is not a number of bytes"));
    out.size = static_cast<uint64_t>(size->get_int64());
    if (object.contains("platform")) {
        auto platform = TRY(object_in(object, "platform"));
        out.platform = TRY(platform_in(platform));
    }
    auto annotations = TRY(object_in(object, "annotations"));
    out.reference = TRY(text_in(annotations, "org.opencontainers.image.ref.name"));
    if (out.reference.empty()) out.reference = tag_of(TRY(text_in(annotations, "io.containerd.image.name")));
    return out;
}

static Result<> check_schema(const json::object& document) {
    const auto* version = document.if_contains("schemaVersion");
    if (version && version->is_int64() && version->get_int64() == 2) return {};
    return error("\"schemaVersion\" is not 2: this is no image document of OCI or of Docker since 2016");
}

Result<DocumentKind> kind_of(const Descriptor& descriptor) {
    const auto& type = descriptor.media_type;
    if (type == "application/vnd.oci.image.index.v1+json" ||
        type == "application/vnd.docker.distribution.manifest.list.v2+json")
        return DocumentKind::Index;
    if (type == "application/vnd.oci.image.manifest.v1+json" ||
        type == "application/vnd.docker.distribution.manifest.v2+json")
        return DocumentKind::Manifest;
    return error(cat(descriptor.digest, ": media type \"", printable(type, 128),
                     "\" is neither an index nor a manifest of an image"));
}

Result<> check_layout(std::string_view text) {
    auto document = TRY(parse(text));
    auto version = TRY(text_in(document, "imageLayoutVersion"));
    if (version == "1.0.0") return {};
    return error(cat("\"imageLayoutVersion\" is \"", printable(version, 32), "\", must be 1.0.0"));
}

Result<Index> parse_index(std::string_view text) {
    auto document = TRY(parse(text));
    TRY(check_schema(document));
    Index index;
    for (const auto& value : TRY(list_in(document, "manifests", kMostManifests))) {
        if (!value.is_object()) return error("an entry of \"manifests\" is not an object");
        index.manifests.push_back(TRY(descriptor_in(value.get_object())));
    }
    if (index.manifests.empty()) return error("\"manifests\" is empty: there is no image in it");
    return index;
}

static Result<> check_layer_type(const Descriptor& layer) {
    static constexpr std::string_view kTypes[] = {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    };
    if (std::ranges::contains(kTypes, layer.media_type)) return {};
    return error(cat("layer ", layer.digest, ": media type \"", printable(layer.media_type, 128),
                     "\" is no layer of files (tar, tar+gzip or tar+zstd)"));
}

Result<Manifest> parse_manifest(std::string_view text) {
    auto document = TRY(parse(text));
    TRY(check_schema(document));
    auto config = TRY(object_in(document, "config"));
    Manifest manifest{.config = TRY(descriptor_in(config).context("config"))};
    if (manifest.config.media_type != "application/vnd.oci.image.config.v1+json" &&
        manifest.config.media_type != "application/vnd.docker.container.image.v1+json")
        return error(cat("config: media type \"", printable(manifest.config.media_type, 128),
                         "\" is no configuration of an image: this is another kind of artifact"));
    for (const auto& value : TRY(list_in(document, "layers", kMostLayers))) {
        if (!value.is_object()) return error("an entry of \"layers\" is not an object");
        manifest.layers.push_back(TRY(descriptor_in(value.get_object())));
        TRY(check_layer_type(manifest.layers.back()));
    }
    return manifest;
}

// Docker takes a command as Entrypoint and Cmd one after the other.
static Result<guest_link::ImageConfig> run_in(const json::object& config) {
    guest_link::ImageConfig run;
    run.command = TRY(texts_in(config, "Entrypoint", guest_link::kMostImageCommand));
    for (auto& word : TRY(texts_in(config, "Cmd", guest_link::kMostImageCommand)))
        run.command.push_back(std::move(word));
    if (run.command.size() > guest_link::kMostImageCommand)
        return error(cat("\"Entrypoint\" and \"Cmd\" have ", run.command.size(), " words, at most ",
                         guest_link::kMostImageCommand));
    for (auto& variable : TRY(texts_in(config, "Env", guest_link::kMostImageEnvironment))) {
        auto name = std::string_view(variable).substr(0, variable.find('='));
        if (name.empty() || !variable.contains('='))
            return error(cat("\"Env\" has \"", printable(variable, 64), "\", which is not NAME=VALUE"));
        run.environment.push_back(std::move(variable));
    }
    run.user = TRY(text_in(config, "User"));
    if (run.user.empty()) run.user = "0"; // an image that names none expects root
    if (auto wrong = manifest::wrong_line(run.user); !wrong.empty()) return error(cat("\"User\" ", wrong));
    run.working_directory = TRY(text_in(config, "WorkingDir"));
    if (!run.working_directory.empty() && !run.working_directory.starts_with('/'))
        return error(
            cat("\"WorkingDir\" is \"", printable(run.working_directory, 128), "\", must begin with /"));
    return run;
}

Result<Config> parse_config(std::string_view text) {
    auto document = TRY(parse(text));
    Config config{.platform = TRY(platform_in(document))};
    auto rootfs = TRY(object_in(document, "rootfs"));
    config.diff_ids = TRY(texts_in(rootfs, "diff_ids", kMostLayers));
    for (const auto& digest : config.diff_ids) TRY(check_digest(digest).context("diff_ids"));
    auto run = TRY(object_in(document, "config"));
    config.run = TRY(run_in(run).context("config"));
    return config;
}

Result<std::vector<SavedImage>> parse_docker_manifest(std::string_view text) {
    if (text.size() > kMostDocumentBytes)
        return error(cat("it has more than ", kMostDocumentBytes, " bytes"));
    // A list at its top: as the one field of an object it is read like the rest.
    auto document = TRY(parse(cat("{\"images\":", text, "}")));
    std::vector<SavedImage> images;
    for (const auto& value : TRY(list_in(document, "images", kMostManifests))) {
        if (!value.is_object()) return error("an entry is not an object");
        const auto& object = value.get_object();
        images.push_back({.config = TRY(text_in(object, "Config")),
                          .tags = TRY(texts_in(object, "RepoTags", kMostManifests)),
                          .layers = TRY(texts_in(object, "Layers", kMostLayers))});
        if (images.back().config.empty()) return error("an entry has no \"Config\"");
    }
    if (images.empty()) return error("there is no image in it");
    return images;
}

static bool fits(const Descriptor& one, const Platform& wanted) {
    if (!one.platform) return true; // its configuration says it
    return one.platform->os == wanted.os && one.platform->architecture == wanted.architecture &&
           (wanted.variant.empty() || one.platform->variant == wanted.variant);
}

static void add_name(std::string& names, const std::string& name) {
    if (!name.empty() && !cat(", ", names, ",").contains(cat(", ", name, ",")))
        names += cat(names.empty() ? "" : ", ", name);
}

Result<Descriptor> choose(const Index& index, const Platform& wanted, std::string_view tag) {
    std::vector<Descriptor> fit;
    std::string platforms, tags;
    for (const auto& one : index.manifests) {
        add_name(tags, printable(one.reference, 128));
        // Attestations lie beside what they speak of, with a platform of their own.
        if (one.platform && one.platform->os != "unknown") add_name(platforms, to_text(*one.platform));
        if (!tag.empty() && one.reference != tag) continue;
        bool known = std::ranges::contains(fit, one.digest, &Descriptor::digest);
        if (fits(one, wanted) && !known) fit.push_back(one);
    }
    if (fit.size() == 1) return fit.front();
    if (fit.size() > 1)
        return error(cat("it holds ", fit.size(), " images: choose one with --tag",
                         tags.empty() ? ", but they have no names" : ": ", tags));
    if (!tag.empty() && !std::ranges::contains(index.manifests, tag, &Descriptor::reference))
        return error(cat("no image in it has the tag \"", printable(tag, 128), "\"; it has ",
                         tags.empty() ? "none" : tags));
    return error(
        cat("no image in it is for ", to_text(wanted), "; it has ", platforms.empty() ? "none" : platforms));
}

} // namespace nullbox::importer
