// What is wrong is refused with the reason and the place, one thing wrong at a time.
#include <fcntl.h>

#include "importer/test_image.h"

namespace nullbox::importer {
namespace {

using BadTar = ImporterTest;
using BadImage = ImporterTest;

TestTar good() { return TestTar().folder("etc").file("etc/passwd", "x"); }

#define EXPECT_SAYS(text, ...)                                                                               \
    do {                                                                                                     \
        auto said_ = (text);                                                                                 \
        for (std::string_view wanted_ : {__VA_ARGS__}) EXPECT_TRUE(said_.contains(wanted_)) << said_;        \
    } while (false)

TEST_F(BadTar, Paths) {
    EXPECT_SAYS(refusal(good().file("../escape", "x")), "files: ../escape: ", "leads out of the image");
    EXPECT_SAYS(refusal(good().file("etc/../../escape", "x")), "etc/../../escape: ", "\"..\"");
    EXPECT_SAYS(refusal(good().file("/../escape", "x")), "\"..\"");
    EXPECT_SAYS(refusal(good().file("etc/passwd/x", "x")),
                "etc/passwd/x: \"passwd\" on its path is not a folder");
    EXPECT_SAYS(refusal(good().file(std::string(256, 'n'), "x")), "its name has 256 bytes");
    EXPECT_SAYS(refusal(good().file(cat(std::string(200, 'a'), "/", std::string(300, 'n')), "x")),
                "its name has 300 bytes");
    std::string deep, longest;
    for (int i = 0; i < 300; i++) deep += "d/";
    for (int i = 0; i < 30; i++) longest += std::string(200, 'l') + "/";
    EXPECT_SAYS(refusal(good().file(deep + "x", "x")), "more than 256 folders deep");
    EXPECT_SAYS(refusal(good().file(longest + "x", "x")), "its path has 6031 bytes, at most 4096");
    EXPECT_SAYS(refusal(good().file("new\nline", "x")), "control characters or is not UTF-8");
    EXPECT_SAYS(refusal(good().file("esc\x1b[2J", "x")), "control characters or is not UTF-8");
    EXPECT_SAYS(refusal(good().file("latin\xe9", "x")), "not UTF-8");
    EXPECT_SAYS(refusal(good().pax("path", "pax\xe9").file("x", "x")), "UTF-8");
    EXPECT_SAYS(refusal(good().file(".", "x")), "it is the root of the image and must be a folder");
}

TEST_F(BadTar, AnAbsoluteNameIsBelowTheImagesRoot) {
    ASSERT_TRUE(import(write("a.tar", good().file("/etc/nullbox-test", "inside").end())));
    EXPECT_EQ(content("etc/nullbox-test"), "inside");
    EXPECT_FALSE(fs::exists("/etc/nullbox-test"));
}

TEST_F(BadTar, SymbolicLinks) {
    EXPECT_SAYS(refusal(good().symlink("out", "../../etc").file("out/x", "x")),
                "out/x: a symbolic link on its path leads out of the image");
    EXPECT_SAYS(refusal(good().symlink("etc/out", "../..").file("etc/out/x", "x")), "leads out of the image");
    EXPECT_SAYS(refusal(good().symlink("out", "/../..").file("out/x", "x")), "leads out of the image");
    EXPECT_SAYS(refusal(good().symlink("a", "b").symlink("b", "a").file("a/x", "x")),
                "a/x: more than 40 symbolic links on its path; do they go in circles?");
    EXPECT_SAYS(refusal(good().symlink("a", "etc/passwd").file("a/x", "x")),
                "\"passwd\" on its path is not a folder");
    EXPECT_SAYS(refusal(good().pax("linkpath", "a\nb").symlink("a", "b")), "the target of its link");
}

TEST_F(BadTar, HardLinks) {
    EXPECT_SAYS(refusal(good().link("a", "nothing")),
                "a: it is a hard link to \"nothing\", which is not there before it");
    EXPECT_SAYS(refusal(good().link("a", "../etc/passwd")), "which leads out of the image");
    EXPECT_SAYS(refusal(good().link("a", "/etc/shadow")), "which is not there before it");
    EXPECT_SAYS(refusal(good().link("a", "etc")), "which is a folder");
    EXPECT_SAYS(refusal(good().symlink("out", "..").link("a", "out/etc/passwd")), "leads out of the image");
    EXPECT_SAYS(refusal(good().link("a", "a")), "which is not there before it");
    EXPECT_SAYS(refusal(good().link("later", "z").file("z", "x")), "which is not there before it");
}

TEST_F(BadTar, DeviceNodes) {
    EXPECT_SAYS(refusal(good().device("disk")), "disk: it is a device node");
    EXPECT_SAYS(refusal(good().device("etc/mem")), "etc/mem: it is a device node");
    EXPECT_SAYS(refusal(good().device("dev")), "dev: it is a device node");
}

TEST_F(BadTar, Whiteouts) {
    EXPECT_SAYS(refusal(good().file("etc/.wh.", "")), "it is a whiteout that names nothing");
    EXPECT_SAYS(refusal(good().file("etc/.wh...", "")), "it is a whiteout that names nothing");
    EXPECT_SAYS(refusal(good().file(".wh.dir/file", "x")), "it lies in a whiteout, which is no folder");
}

TEST_F(BadTar, CutOffAndDamaged) {
    auto tar = good().file("large", std::string(5000, 'x'));
    EXPECT_SAYS(refusal(write("a.tar", tar.end().substr(0, 3000))), "files", "runcated");
    EXPECT_SAYS(refusal(write("a.tar", tar.without_end())),
                "cut off: it ends without the mark that a tar ends with");
    auto packed = gzip(tar.end());
    EXPECT_SAYS(refusal(write("a.tar.gz", packed.substr(0, packed.size() / 2))), "runcated");
    auto with_zstd = zstd(tar.end());
    EXPECT_SAYS(refusal(write("a.tar.zst", with_zstd.substr(0, with_zstd.size() - 20))), "zstd");
    packed[packed.size() / 2] = static_cast<char>(packed[packed.size() / 2] ^ 0x55);
    EXPECT_NE(refusal(write("a.tar.gz", packed)), "not refused");
    auto checksum = tar.end();
    checksum[700] ^= 1;
    EXPECT_NE(refusal(write("a.tar", checksum)), "not refused");
    EXPECT_SAYS(refusal(write("a.tar", "")), "it is empty");
    EXPECT_SAYS(refusal(write("a.tar", std::string(10240, '\0'))), "it is empty");
    EXPECT_SAYS(refusal(write("a.txt", "this is a letter\n")),
                "it is no tar (plain, gzip, zstd or xz), and no SquashFS");
    EXPECT_SAYS(refusal(root_ + "/nothing"), "No such file");
    EXPECT_SAYS(refusal("/dev/null"), "neither a file nor a folder");
    EXPECT_SAYS(refusal(write("a.tar", TestTar().entry('0', "huge", "", "", uint64_t{7} << 30, {}).end())),
                "runcated");
}

TEST_F(BadTar, Limits) {
    request_.limits.file_bytes = 1 << 20;
    EXPECT_SAYS(refusal(good().file("large", std::string((1 << 20) + 1, 'x'))),
                "large: it has 1048577 bytes, more than 1 MB, the limit", "--max-file-mb");
    fs::create_directories(root_ + "/tree");
    write("tree/hole", "");
    fs::resize_file(root_ + "/tree/hole", uint64_t{100} << 30); // a huge sparse file, in a tar of a few bytes
    run(cat("tar -C ", root_, "/tree --sparse -cf ", root_, "/sparse.tar hole"));
    EXPECT_SAYS(refusal(root_ + "/sparse.tar"), "hole: it has 107374182400 bytes, more than 1 MB, the limit");
    EXPECT_SAYS(refusal(root_ + "/tree"), "hole", "it has 107374182400 bytes");
    request_.limits = {};
    request_.limits.entries = 3;
    EXPECT_SAYS(refusal(good().file("c", "").file("d", "")), "more than 3 entries, the limit",
                "--max-entries");
    request_.limits = {};
    request_.limits.total_bytes = 1 << 20;
    TestTar many;
    for (int i = 0; i < 5; i++) many.file(cat("f", i), std::string(300'000, 'x'));
    EXPECT_SAYS(refusal(many), "more than 1 MB in all, the limit", "--max-total-mb");
}

TEST_F(BadTar, ADecompressionBomb) {
    TestTar bomb;
    bomb.file("zeros", std::string(100 << 20, '\0'));
    EXPECT_SAYS(refusal(write("bomb.tar.gz", gzip(bomb.end()))), "unpacks to more than 250 times its size",
                "--max-ratio");
    EXPECT_SAYS(refusal(write("bomb.tar.zst", zstd(bomb.end()))), "as a decompression bomb does");
    TestImage image;
    image.layer(bomb);
    EXPECT_SAYS(refusal(image.finish()), "layer 1 of 1 (sha256:", "as a decompression bomb does");
    EXPECT_SAYS(refusal(write("outer.tar.zst", zstd(bomb.file("index.json", "{}").end()))), "bomb");
    request_.limits.ratio = 100'000;
    EXPECT_TRUE(import(root_ + "/bomb.tar.gz"));
}

TEST_F(BadTar, OddNumbers) {
    EXPECT_SAYS(refusal(good().pax("uid", "4294967295").file("x", "")),
                "x: its owner is 4294967295, no such number");
    EXPECT_SAYS(refusal(good().pax("gid", "99999999999").file("x", "")), "its group is 99999999999");
    auto text = refusal(good().pax("size", "99999999999999999999").file("x", "y"));
    EXPECT_NE(text, "not refused");
    TestTar large;
    large.pax("SCHILY.xattr.user.large", std::string(70'000, 'x')).file("x", "");
    EXPECT_SAYS(refusal(large), "its extended attributes have more than 65536 bytes");
}

TestImage two_layers() {
    TestImage image;
    image.layer(good()).layer(TestTar().file("second", "2"));
    return image;
}

TEST_F(BadImage, LayersMixedUpMissingOrOther) {
    auto image = two_layers();
    std::swap(image.layers[0].blob,
              image.layers[1].blob); // the blobs out of order, each with its right digest
    EXPECT_SAYS(refusal(image.finish()), "layer 1 of 2 (sha256:", "the configuration says",
                "the layers are mixed up");
    image = two_layers();
    std::swap(image.layers[0].blob, image.layers[1].blob);
    EXPECT_SAYS(refusal(image.docker()), "layer 1 of 2", "the layers are mixed up");
    image = two_layers().finish();
    image.files.erase("blobs/" + cat("sha256/", sha256_hex(image.layers[1].blob)));
    EXPECT_SAYS(refusal(image), "layer 2 of 2", "is missing: there is no blobs/sha256/");
    image = two_layers().docker();
    std::erase_if(image.files, [](const auto& one) { return one.first.ends_with("layer.tar"); });
    EXPECT_SAYS(refusal(image), "layer 1 of 2", "is not in the archive");
    image = two_layers();
    auto manifest = image.manifest();
    manifest["layers"].as_array().pop_back();
    EXPECT_SAYS(refusal(image.index({image.manifest_descriptor(manifest)})),
                "the manifest has 1 layers, the configuration speaks of 2");
    image = TestImage();
    EXPECT_SAYS(refusal(image.finish()), "the image has no layers");
}

TEST_F(BadImage, Digests) {
    auto image = two_layers().finish();
    auto blob = "blobs/sha256/" + sha256_hex(image.layers[0].blob);
    image.files[blob].back() = static_cast<char>(image.files[blob].back() ^ 1);
    EXPECT_SAYS(refusal(image), "layer 1 of 2", "its digest is sha256:", "damaged or another");
    image = two_layers().finish();
    image.files["blobs/sha256/" + sha256_hex(image.layers[0].blob)] += "x";
    EXPECT_SAYS(refusal(image), "layer 1 of 2", "announced are");
    image = two_layers().finish();
    auto& config = image.files["blobs/sha256/" + sha256_hex(image.config_text())];
    config.replace(config.find("/bin/run"), 8, "/bin/bad");
    EXPECT_SAYS(refusal(image), "its digest is sha256:");
    image = two_layers().docker();
    for (auto& [path, content] : image.files)
        if (path.ends_with(".json") && path != "manifest.json") content += " ";
    EXPECT_SAYS(refusal(image), "configuration ", "its digest is ");
    for (const char* digest : {"sha256:abc", "md5:0123", "", "sha256:../../../../../../etc/passwd",
                               "sha256:ABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCD"}) {
        image = two_layers();
        auto descriptor = image.manifest_descriptor(image.manifest());
        descriptor["digest"] = digest;
        EXPECT_SAYS(refusal(image.index({descriptor})), "index.json", "digest \"");
    }
}

TEST_F(BadImage, Documents) {
    auto with_index = [&](std::string text) {
        auto image = two_layers().finish();
        image.files["index.json"] = std::move(text);
        return refusal(image);
    };
    EXPECT_SAYS(with_index("{"), "index.json: it is not JSON");
    auto layout = two_layers().finish();
    layout.files["oci-layout"] = R"({"imageLayoutVersion":"2.0.0"})";
    EXPECT_SAYS(refusal(layout), "oci-layout: \"imageLayoutVersion\" is \"2.0.0\", must be 1.0.0");
    EXPECT_SAYS(with_index("\xff\xfe garbage"), "it is not JSON");
    EXPECT_SAYS(with_index("[]"), "index.json: it is JSON, and no object");
    EXPECT_SAYS(with_index("{}"), "\"schemaVersion\" is not 2");
    EXPECT_SAYS(with_index(R"({"schemaVersion":2})"), "\"manifests\" is empty");
    EXPECT_SAYS(with_index(R"({"schemaVersion":2,"manifests":5})"), "\"manifests\" is not a list");
    EXPECT_SAYS(with_index(R"({"schemaVersion":2,"manifests":[5]})"), "is not an object");
    EXPECT_SAYS(with_index(R"({"schemaVersion":2,"manifests":[{"digest":5}]})"), "\"digest\" is not a text");
    EXPECT_SAYS(with_index(cat(std::string(100'000, '['), std::string(100'000, ']'))), "it is not JSON",
                "deep");
    EXPECT_SAYS(with_index(cat("{\"x\":\"", std::string(5 << 20, 'x'), "\"}")), "a document at most 4194304");
    auto image = two_layers().docker();
    image.files["manifest.json"] = R"([{"Config":5}])";
    EXPECT_SAYS(refusal(image), "manifest.json: \"Config\" is not a text");
    image.files["manifest.json"] = "[]";
    EXPECT_SAYS(refusal(image), "manifest.json: there is no image in it");
    image.files["manifest.json"] = R"([{"Config":"../../etc/passwd","Layers":["x"]}])";
    EXPECT_SAYS(refusal(image), "is not in the archive");
}

TEST_F(BadImage, MediaTypes) {
    auto image = two_layers();
    auto descriptor = image.manifest_descriptor(image.manifest());
    descriptor["mediaType"] = "application/x-other";
    EXPECT_SAYS(refusal(image.index({descriptor})),
                "media type \"application/x-other\" is neither an index nor a manifest");
    image = two_layers();
    image.layers[1].media_type = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    EXPECT_SAYS(refusal(image.finish()), "manifest sha256:", "is no layer of files");
    image = two_layers();
    image.layers[1].media_type = "application/vnd.oci.image.layer.v1.tar+encrypted";
    EXPECT_SAYS(refusal(image.finish()), "is no layer of files");
    image = two_layers();
    auto manifest = image.manifest();
    manifest["config"].as_object()["mediaType"] = "application/vnd.oci.empty.v1+json";
    EXPECT_SAYS(refusal(image.index({image.manifest_descriptor(manifest)})),
                "this is another kind of artifact");
}

TEST_F(BadImage, IndexesInIndexes) {
    auto image = two_layers();
    auto inner = image.manifest_descriptor(image.manifest());
    for (int i = 0; i < 12; i++)
        inner = image.descriptor("application/vnd.oci.image.index.v1+json",
                                 json::serialize(json::object{{"schemaVersion", 2}, {"manifests", {inner}}}));
    EXPECT_SAYS(refusal(image.index({inner})), "more than 8 indexes in each other");
    // A circle cannot have right digests: it ends at the first that is wrong.
    std::string own =
        R"({"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:)" +
        std::string(64, 'a') + "\",\"size\":";
    own += std::to_string(own.size() + 7) + "}]}  ";
    image = TestImage();
    image.files["index.json"] = own;
    image.files["oci-layout"] = R"({"imageLayoutVersion":"1.0.0"})";
    image.files["blobs/sha256/" + std::string(64, 'a')] = own;
    EXPECT_NE(refusal(image), "not refused");
}

TEST_F(BadImage, Configurations) {
    auto with = [&](json::object config) {
        auto image = two_layers();
        image.config = std::move(config);
        return refusal(image.finish());
    };
    EXPECT_SAYS(with({{"Env", {"NOVALUE"}}}),
                "configuration sha256:", "config: \"Env\" has \"NOVALUE\", which is not NAME=VALUE");
    EXPECT_SAYS(with({{"Env", {"=x"}}}), "not NAME=VALUE");
    EXPECT_SAYS(with({{"Cmd", "text"}}), "\"Cmd\" is not a list");
    EXPECT_SAYS(with({{"Cmd", {5}}}), "\"Cmd\" is not a list of texts");
    EXPECT_SAYS(with({{"Cmd", {std::string("a\0b", 3)}}}), "has a NUL in it");
    EXPECT_SAYS(with({{"WorkingDir", "relative"}}), "\"WorkingDir\" is \"relative\", must begin with /");
    EXPECT_SAYS(with({{"User", "two\nlines"}}), "\"User\"");
    auto image = two_layers();
    image.architecture = "arm64";
    EXPECT_SAYS(refusal(image.finish()), "the image is for linux/arm64, not for linux/amd64");
    image = two_layers();
    image.os = "windows";
    EXPECT_SAYS(refusal(image.docker()), "the image is for windows/amd64");
}

TEST_F(BadImage, WhiteoutsOfNothing) {
    auto image = two_layers().layer(TestTar().file("etc/.wh.nothing", ""));
    EXPECT_SAYS(refusal(image.finish()),
                "layer 3 of 3 (sha256:", "): etc/.wh.nothing: it is a whiteout of nothing",
                "--allow-stray-whiteouts");
    TestImage first;
    first.layer(good().file("etc/.wh.passwd", ""));
    EXPECT_SAYS(refusal(first.finish()), "layer 1 of 1", "it is a whiteout of nothing");
}

TEST_F(BadImage, ALinkInALowerLayerLeadsNoUpperOneOut) {
    TestImage image;
    image.layer(good().symlink("out", "../../../../tmp")).layer(TestTar().file("out/nullbox-escape", "x"));
    EXPECT_SAYS(refusal(image.finish()), "layer 2 of 2",
                "out/nullbox-escape: a symbolic link on its path leads out");
}

TEST_F(BadImage, AnArchiveThatIsCutOff) {
    auto whole = two_layers().finish().archive();
    size_t refused = 0, tried = 0;
    for (size_t length = 512; length + 1024 < whole.size(); length += 512, tried++)
        refused += import(write("cut.tar", whole.substr(0, length))) ? 0 : 1;
    EXPECT_EQ(refused, tried);
    auto image = two_layers().finish();
    image.files.erase("index.json");
    EXPECT_SAYS(refusal(image), "neither index.json nor manifest.json: is it cut off?");
}

TEST_F(BadImage, LinksOfAnArchiveStayInIt) {
    TestTar tar;
    tar.symlink("manifest.json", "/etc/passwd");
    EXPECT_SAYS(refusal(tar), "neither index.json nor manifest.json");
    tar = TestTar().symlink("index.json", "oci-layout").symlink("oci-layout", "index.json");
    EXPECT_SAYS(refusal(tar), "neither index.json nor manifest.json");
}

TEST_F(BadImage, LinksOfALayoutStayInIt) {
    auto source = layout(two_layers().finish());
    write("secret.json", R"({"schemaVersion":2})");
    fs::remove(source + "/index.json");
    fs::create_symlink("../secret.json", source + "/index.json");
    EXPECT_NE(refusal(source), "not refused");
    fs::remove(source + "/index.json");
    ::mkfifo((source + "/index.json").c_str(), 0600); // and does not hold us
    EXPECT_SAYS(refusal(source), "neither index.json nor manifest.json");
}

TEST_F(BadTar, Folders) {
    write("tree/.wh.x", "");
    EXPECT_SAYS(refusal(root_ + "/tree"), "\".wh.x\": its name begins with .wh.");
    fs::remove(root_ + "/tree/.wh.x");
    EXPECT_SAYS(refusal(root_ + "/tree"), "there is no file in it");
    write("tree/a\nb", "");
    EXPECT_SAYS(refusal(root_ + "/tree"), "control characters");
}

} // namespace
} // namespace nullbox::importer
