// The JSON documents of an image: index, manifest and configuration of the OCI image specification 1.1 (and
// Docker's of the same shape, schema 2), and the manifest.json of docker save. Text in, what we use of it
// out. Pure. Size and depth are bounded; unknown keys are ignored, as the specification asks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "guest_link/image_config.h"
#include "importer/limits.h"

namespace nullbox::importer {

struct Platform {
    std::string os, architecture, variant; // variant: of the architecture, may be empty
    bool operator==(const Platform&) const = default;
};
std::string to_text(const Platform& platform); // "linux/arm64/v8"
Result<Platform> parse_platform(std::string_view text);

struct Descriptor {
    std::string media_type;
    std::string digest; // "sha256:" and 64 digits
    uint64_t size = 0;
    std::optional<Platform> platform;
    std::string reference; // org.opencontainers.image.ref.name, or the last part of containerd's name
};

// "sha256:..." of what we can check, or what is wrong.
Result<> check_digest(std::string_view digest);
std::string blob_path(std::string_view digest); // "blobs/sha256/..."

struct Index {
    std::vector<Descriptor> manifests;
};
struct Manifest {
    Descriptor config;
    std::vector<Descriptor> layers; // lowest first
};
// What a blob that a descriptor names is.
enum class DocumentKind { Index, Manifest };
Result<DocumentKind> kind_of(const Descriptor& descriptor);

// The file oci-layout, which says that the rest is one.
Result<> check_layout(std::string_view text);
Result<Index> parse_index(std::string_view text);
Result<Manifest> parse_manifest(std::string_view text);

struct Config {
    Platform platform;
    std::vector<std::string> diff_ids; // digests of the unpacked layers, lowest first
    guest_link::ImageConfig run;       // command, user, environment, working directory
};
Result<Config> parse_config(std::string_view text);

struct SavedImage {     // of docker save
    std::string config; // a path in the archive
    std::vector<std::string> tags;
    std::vector<std::string> layers; // paths, lowest first
};
Result<std::vector<SavedImage>> parse_docker_manifest(std::string_view text);

// The one descriptor that is meant: for that platform, and with that tag if one is given. Only one, or an
// error that names what there is.
Result<Descriptor> choose(const Index& index, const Platform& wanted, std::string_view tag);

} // namespace nullbox::importer
