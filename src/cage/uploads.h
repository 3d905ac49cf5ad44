// Images, agents' files and manifests on their way in. The bytes come through a pipe into a temporary file
// beside their place, are counted and hashed on the way, and are checked (the digest that was announced, an
// image's superblock, a manifest's every field) before a rename makes them count: whole and right, or not at
// all. The sender never holds the file itself.
//
// Bounded: kMostUploads at a time, sizes by kind, the data partition's free space, and the patience with a
// sender that sends nothing. What a crash leaves is removed at the next start.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/loop.h"

namespace nullbox::cage {

constexpr size_t kMostUploads = 4;

enum class UploadKind { Image, App, Manifest };

struct UploadRequest {
    UploadKind kind = UploadKind::Image;
    std::string name;
    uint64_t size_bytes = 0;
    std::string sha256; // hexadecimal, lower case
};

struct UploadPlaces {
    std::string image_folder = "/var/images"; // NAME.img
    std::string agent_folder = "/var/agents"; // NAME.app.img, NAME.toml
    // What is found here first would hide an upload of its name.
    std::vector<std::string> fixed_image_folders{"/agent/images"}, fixed_agent_folders{"/agent"};
    std::chrono::milliseconds patience{30'000};
};

class Uploads {
public:
    Uploads(Loop& loop, UploadPlaces places);
    ~Uploads();

    // Removes what an earlier cage left unfinished.
    Result<> clean_up();

    struct Begun {
        uint64_t number = 0;
        Fd write_end; // of a pipe; closing it ends the upload's bytes
    };
    Result<Begun> begin(const UploadRequest& request);
    // Waits for the bytes that are still in the pipe. done is called once; the upload is over then.
    void commit(uint64_t number, std::function<void(Result<>)> done);
    Result<> abort(uint64_t number);

private:
    struct Upload;
    Result<> refuse_hidden(const UploadRequest& request) const;
    void receive(uint64_t number);
    void finish(uint64_t number, Result<> result);
    void be_patient(uint64_t number);
    const std::string& folder_of(UploadKind kind) const;

    Loop& loop_;
    UploadPlaces places_;
    std::map<uint64_t, std::unique_ptr<Upload>> uploads_;
    uint64_t next_ = 1;
};

} // namespace nullbox::cage
