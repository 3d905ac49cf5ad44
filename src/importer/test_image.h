// Sources for the tests, made byte by byte: a tar writer that also writes what no tar program would, and
// images of layers in the forms that people have.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define ZLIB_CONST
#include <zlib.h>

#include "base/file.h"
#include "base/text.h"
#include "importer/import.h"

namespace nullbox::importer {

namespace fs = std::filesystem;
namespace json = boost::json;

struct TarFields {
    uint64_t mode = 0644, uid = 0, gid = 0, mtime = 1'600'000'000;
};

class TestTar {
public:
    TestTar& file(const std::string& name, std::string_view content, TarFields fields = {}) {
        return entry('0', name, "", content, content.size(), fields);
    }
    TestTar& folder(const std::string& name, TarFields fields = {.mode = 0755}) {
        return entry('5', name, "", "", 0, fields);
    }
    TestTar& symlink(const std::string& name, const std::string& target) {
        return entry('2', name, target, "", 0, {.mode = 0777});
    }
    TestTar& link(const std::string& name, const std::string& target) {
        return entry('1', name, target, "", 0, {});
    }
    TestTar& fifo(const std::string& name) { return entry('6', name, "", "", 0, {}); }
    TestTar& device(const std::string& name) { return entry('3', name, "", "", 0, {}); }
    // For the entry that follows.
    TestTar& pax(const std::string& key, std::string_view value) {
        size_t length = key.size() + value.size() + 3;
        length += std::to_string(length).size();
        if (length < key.size() + value.size() + 3 + std::to_string(length).size()) length++;
        records_ += cat(length, " ", key, "=", value, "\n");
        return *this;
    }
    // Any entry, its size said to be another than it has if need be.
    TestTar& entry(char type, std::string name, const std::string& target, std::string_view content,
                   uint64_t size, TarFields fields) {
        if (name.size() > 100) pax("path", std::exchange(name, "long"));
        if (!records_.empty()) {
            auto records = std::exchange(records_, "");
            header('x', "pax", "", records.size(), {});
            body(records);
        }
        header(type, name, target, size, fields);
        body(content);
        return *this;
    }
    std::string end() const { return bytes_ + std::string(1024, '\0'); }
    std::string without_end() const { return bytes_; }

private:
    static void octal(std::string& block, size_t at, size_t width, uint64_t value) {
        for (size_t i = width - 1; i-- > 0; value >>= 3) block[at + i] = static_cast<char>('0' + (value & 7));
    }
    void header(char type, const std::string& name, const std::string& target, uint64_t size,
                TarFields fields) {
        std::string block(512, '\0');
        block.replace(0, std::min<size_t>(name.size(), 100), name, 0, 100);
        octal(block, 100, 8, fields.mode);
        octal(block, 108, 8, fields.uid);
        octal(block, 116, 8, fields.gid);
        octal(block, 124, 12, size);
        octal(block, 136, 12, fields.mtime);
        block.replace(148, 8, "        ");
        block[156] = type;
        block.replace(157, std::min<size_t>(target.size(), 100), target, 0, 100);
        block.replace(257, 8, std::string("ustar\00000", 8));
        unsigned sum = 0;
        for (char c : block) sum += static_cast<unsigned char>(c);
        octal(block, 148, 7, sum);
        bytes_ += block;
    }
    void body(std::string_view content) {
        bytes_ += content;
        bytes_.append((512 - content.size() % 512) % 512, '\0');
    }
    std::string bytes_, records_;
};

inline std::string gzip(std::string_view text) {
    z_stream stream{};
    EXPECT_EQ(::deflateInit2(&stream, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    std::string out(::deflateBound(&stream, text.size()) + 64, '\0');
    stream.next_in = reinterpret_cast<const Bytef*>(text.data());
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
    out.resize(stream.total_out);
    ::deflateEnd(&stream);
    return out;
}

inline std::string zstd(std::string_view text) {
    std::string out(::ZSTD_compressBound(text.size()), '\0');
    out.resize(::ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
}

// An image of layers, right until a test changes something of it.
struct TestImage {
    struct Layer {
        std::string blob, media_type, diff_id;
    };
    std::vector<Layer> layers;
    json::object config{{"Cmd", {"/bin/run"}}};
    std::string os = "linux", architecture = "amd64";
    std::map<std::string, std::string> files; // what is in the layout, by path

    static std::string digest(std::string_view text) { return "sha256:" + sha256_hex(text); }
    TestImage& layer(const TestTar& tar, std::string_view packing = "gzip") {
        return layer_of(tar.end(), packing);
    }
    TestImage& layer_of(const std::string& tar, std::string_view packing = "gzip") {
        std::string type = "application/vnd.oci.image.layer.v1.tar";
        layers.push_back({.blob = packing == "gzip"   ? gzip(tar)
                                  : packing == "zstd" ? zstd(tar)
                                                      : tar,
                          .media_type = packing == "none" ? type : cat(type, "+", packing),
                          .diff_id = digest(tar)});
        return *this;
    }
    std::string put(const std::string& content) {
        files["blobs/sha256/" + sha256_hex(content)] = content;
        return digest(content);
    }
    json::object descriptor(const std::string& type, const std::string& content) {
        return {{"mediaType", type}, {"digest", put(content)}, {"size", content.size()}};
    }
    std::string config_text() const {
        json::array diff_ids;
        for (const auto& one : layers) diff_ids.emplace_back(one.diff_id);
        return json::serialize(
            json::object{{"os", os},
                         {"architecture", architecture},
                         {"rootfs", {{"type", "layers"}, {"diff_ids", std::move(diff_ids)}}},
                         {"config", config}});
    }
    json::object manifest() {
        json::array list;
        for (const auto& one : layers) list.push_back(descriptor(one.media_type, one.blob));
        return {{"schemaVersion", 2},
                {"config", descriptor("application/vnd.oci.image.config.v1+json", config_text())},
                {"layers", std::move(list)}};
    }
    json::object manifest_descriptor(json::object manifest) {
        return descriptor("application/vnd.oci.image.manifest.v1+json", json::serialize(manifest));
    }
    TestImage& index(json::array manifests) {
        files["oci-layout"] = R"({"imageLayoutVersion":"1.0.0"})";
        files["index.json"] =
            json::serialize(json::object{{"schemaVersion", 2}, {"manifests", std::move(manifests)}});
        return *this;
    }
    TestImage& finish() { return index({manifest_descriptor(manifest())}); }
    // What docker save wrote before it wrote an OCI layout.
    TestImage& docker() {
        auto text = config_text();
        files[sha256_hex(text) + ".json"] = text;
        json::array paths;
        for (size_t i = 0; i < layers.size(); i++) {
            auto path = cat(sha256_hex(cat("layer", i)), "/layer.tar");
            files[path] = layers[i].blob;
            paths.emplace_back(path);
        }
        files["manifest.json"] =
            json::serialize(json::array{json::object{{"Config", sha256_hex(text) + ".json"},
                                                     {"RepoTags", {"test:latest"}},
                                                     {"Layers", std::move(paths)}}});
        return *this;
    }
    std::string archive() const {
        TestTar tar;
        for (const auto& [path, content] : files) tar.file(path, content);
        return tar.end();
    }
};

class ImporterTest : public testing::Test {
protected:
    void SetUp() override {
        char made[] = "/tmp/nullbox-importer-XXXXXX";
        ASSERT_NE(::mkdtemp(made), nullptr);
        root_ = made;
    }
    void TearDown() override { fs::remove_all(root_); }

    std::string write(const std::string& name, std::string_view content) {
        auto path = cat(root_, "/", name);
        fs::create_directories(fs::path(path).parent_path());
        std::ofstream(path, std::ios::binary) << content;
        return path;
    }
    std::string layout(const TestImage& image) {
        for (const auto& [path, content] : image.files) write("layout/" + path, content);
        return root_ + "/layout";
    }
    Result<Summary> import(const std::string& source) {
        request_.source = source;
        fs::remove(root_ + "/out.img");
        Fd out(::open((root_ + "/out.img").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
        return import_image(request_, out.get(), [](auto, auto, auto) {});
    }
    std::string refusal(const std::string& source) {
        auto done = import(source);
        return done ? "not refused" : done.error().message;
    }
    std::string refusal(const TestTar& tar) { return refusal(write("source.tar", tar.end())); }
    std::string refusal(const TestImage& image) { return refusal(write("source.tar", image.archive())); }
    // What a program of the field says of the image, line by line.
    std::string run(const std::string& command) {
        std::string out;
        std::unique_ptr<FILE, decltype([](FILE* pipe) { ::pclose(pipe); })> pipe(
            ::popen((command + " 2>&1").c_str(), "r"));
        char piece[4096];
        while (size_t count = std::fread(piece, 1, sizeof piece, pipe.get())) out.append(piece, count);
        return out;
    }
    // "drwxr-xr-x 0/0 3 2020-... /etc", without the root's name and with one blank between.
    std::string listing() {
        std::string lines;
        auto listed = run(cat("unsquashfs -d '' -lln ", root_, "/out.img | tr -s ' '"));
        for (auto line : split(listed, '\n'))
            if (line.size() > 10) lines += cat(line, "\n");
        return lines;
    }
    std::string content(const std::string& path) {
        return run(cat("unsquashfs -cat ", root_, "/out.img ", path));
    }
    bool has(std::string_view path) { return listing().contains(cat(" ", path, "\n")); }

    std::string root_;
    Request request_;
};

} // namespace nullbox::importer
