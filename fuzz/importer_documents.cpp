// Index, manifest, configuration and docker save's manifest.json, as whoever makes an image writes them. What
// is accepted keeps its bounds; a configuration that is accepted can be written into an image and read back
// by a guest.
#include "importer/documents.h"

#include "base/check.h"

using namespace nullbox;
using namespace nullbox::importer;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)check_layout(text);
    if (auto index = parse_index(text)) {
        for (const auto& one : index->manifests)
            CHECK(check_digest(one.digest) && blob_path(one.digest).size() == 77);
        (void)choose(*index, {.os = "linux", .architecture = "amd64", .variant = ""}, "");
        (void)choose(*index, {.os = "linux", .architecture = "amd64", .variant = ""}, "latest");
    }
    if (auto manifest = parse_manifest(text)) CHECK(manifest->layers.size() <= kMostLayers);
    if (auto config = parse_config(text)) {
        CHECK(config->diff_ids.size() <= kMostLayers);
        auto written = guest_link::write_image_config(config->run);
        if (written.size() <= guest_link::kMostImageConfigBytes) {
            auto read = guest_link::parse_image_config(written);
            CHECK(read && *read == config->run);
        }
    }
    (void)parse_docker_manifest(text);
    (void)parse_platform(text);
    return 0;
}
