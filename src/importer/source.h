// What a SOURCE is, and its layers: an OCI image layout (folder or tar), what docker save writes (the old
// form and the new one, which is an OCI layout as well), a tar of a root file system, or a folder.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "importer/documents.h"
#include "importer/layer.h"

namespace nullbox::importer {

enum class Form { OciLayout, OciArchive, DockerSave, Tar, Folder };
std::string_view form_name(Form form); // "an OCI archive"

struct Source {
    Form form = Form::Tar;
    std::unique_ptr<BlobStore> store;           // the layers refer to it
    Fd file;                                    // or to this
    std::vector<std::unique_ptr<Layer>> layers; // lowest first
    std::optional<guest_link::ImageConfig> run; // nothing: the form has no place for it
};

struct Request {
    std::string source;
    Platform platform{.os = "linux", .architecture = "amd64", .variant = ""};
    std::string tag; // empty: the only one
    Limits limits;
};

// Every document is checked against the digest that leads to it. Layers are not read yet.
Result<Source> open_source(const Request& request);
// Whether the file is a SquashFS or EROFS image already.
Result<bool> is_runtime_image(const std::string& path);

} // namespace nullbox::importer
