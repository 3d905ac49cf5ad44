// Sources in every form, imported, and the image read back by unsquashfs.
#include <algorithm>
#include <fcntl.h>
#include <sys/xattr.h>

#include "importer/test_image.h"

namespace nullbox::importer {
namespace {

TestTar base() {
    TestTar tar;
    return tar.folder("./")
        .folder("./bin")
        .file("./bin/run", "#!/bin/sh\n", {.mode = 0755})
        .folder("./etc")
        .file("./etc/passwd", "root:x:0:0:root:/:/bin/sh\n")
        .file("./etc/gone", "x")
        .folder("./old")
        .file("./old/a", "1")
        .file("./old/b", "2");
}

TEST_F(ImporterTest, ATarKeepsWhatAnOrdinaryUserCouldNotMake) {
    TestTar tar;
    tar.folder("usr").file("usr/sudo", std::string(300'000, 'x'), {.mode = 04755, .uid = 0, .gid = 7});
    tar.file("usr/odd", "mine", {.mode = 0640, .uid = 4'000'000 & 07777777, .gid = 65'534});
    tar.symlink("usr/lib", "../lib64").link("usr/again", "usr/sudo").fifo("usr/pipe");
    tar.pax("uid", "4294967294").file("usr/far", "", {});
    auto done = import(write("rootfs.tar", tar.end()));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->form, "a tar of files");
    EXPECT_FALSE(done->run);
    EXPECT_EQ(done->files, 3U); // the hard link is the same file
    auto lines = listing();
    EXPECT_TRUE(lines.contains("-rwsr-xr-x 0/7 300000 2020-09-13 12:26 /usr/sudo\n")) << lines;
    EXPECT_TRUE(lines.contains("-rw-r----- 1902848/65534 4 2020-09-13 12:26 /usr/odd\n")) << lines;
    EXPECT_TRUE(lines.contains(" /usr/lib -> ../lib64\n")) << lines;
    EXPECT_TRUE(lines.contains("prw-r--r-- 0/0 0 2020-09-13 12:26 /usr/pipe\n")) << lines;
    EXPECT_TRUE(lines.contains(" 4294967294/0 0 ")) << lines;
    EXPECT_EQ(content("usr/again"), std::string(300'000, 'x'));
}

TEST_F(ImporterTest, EveryPackingOfATar) {
    auto tar = base().end();
    for (const auto& [name, bytes] :
         {std::pair("a.tar", tar), std::pair("a.tar.gz", gzip(tar)), std::pair("a.tar.zst", zstd(tar))}) {
        auto done = import(write(name, bytes));
        ASSERT_TRUE(done) << name << done.error().message;
        EXPECT_EQ(content("old/b"), "2") << name;
    }
    run(cat("xz -k ", write("b.tar", tar)));
    ASSERT_TRUE(import(root_ + "/b.tar.xz"));
    EXPECT_EQ(content("old/b"), "2");
}

TEST_F(ImporterTest, LayersAndWhiteoutsInOrder) {
    TestImage image;
    image.layer(base(), "gzip");
    image.layer(
        TestTar().file("etc/.wh.gone", "").file("new", "n").file("old/c", "3").file("old/.wh..wh..opq", ""),
        "zstd");
    image.layer(TestTar().file("new", "newer", {.mode = 0600}).folder("etc/gone").file("etc/gone/in", "i"),
                "none");
    image.finish();
    auto done = import(layout(image));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->form, "an OCI image layout");
    EXPECT_EQ(done->layers, 3U);
    EXPECT_EQ(content("new"), "newer");
    EXPECT_EQ(content("old/c"), "3"); // of the layer of the opaque whiteout, and before it
    EXPECT_EQ(content("etc/gone/in"), "i");
    EXPECT_FALSE(has("/old/a") || has("/old/b"));
    EXPECT_FALSE(listing().contains(".wh.")) << listing();
    EXPECT_TRUE(has("/old") && has("/etc/passwd"));
}

TEST_F(ImporterTest, AWhiteoutHidesOnlyLayersBelow) {
    TestImage image;
    image.layer(base());
    image.layer(
        TestTar().file("old/a", "again").file("old/.wh.a", "").file("old/.wh.b", "").file(".wh.old", ""));
    auto done = import(layout(image.finish()));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(content("old/a"), "again");
    EXPECT_FALSE(has("/old/b"));
}

TEST_F(ImporterTest, AllFormsGiveTheSameBytes) {
    TestImage image;
    image.layer(base()).layer(TestTar().file("x", "y"));
    auto bytes = [&](const std::string& source, std::string_view form) {
        auto done = import(source);
        EXPECT_TRUE(done) << done.error().message;
        if (done) EXPECT_EQ(done->form, form);
        return *read_file(root_ + "/out.img");
    };
    auto docker = image;
    image.finish();
    auto first = bytes(layout(image), "an OCI image layout");
    EXPECT_EQ(bytes(write("oci.tar", image.archive()), "an OCI archive"), first);
    EXPECT_EQ(bytes(write("oci.tar.gz", gzip(image.archive())), "an OCI archive"), first);
    EXPECT_EQ(bytes(write("docker.tar", docker.docker().archive()), "an archive of docker save"), first);
    image.docker(); // what it writes since 25: both in one
    EXPECT_EQ(bytes(write("both.tar", image.archive()), "an OCI archive"), first);
}

TEST_F(ImporterTest, TheConfigurationIsInTheImage) {
    TestImage image;
    image.config = {{"Entrypoint", {"/bin/run", "--x"}},
                    {"Cmd", {"two\nlines"}},
                    {"Env", {"PATH=/a:/b", "E="}},
                    {"User", "www:staff"},
                    {"WorkingDir", "/srv"},
                    {"Labels", {{"a", "b"}}}};
    // A layer's own is not what counts.
    image.layer(base().folder(".nullbox").file(".nullbox/image", "hostile"));
    auto done = import(layout(image.finish()));
    ASSERT_TRUE(done) << done.error().message;
    auto said = guest_link::parse_image_config(content(".nullbox/image"));
    ASSERT_TRUE(said) << said.error().message;
    EXPECT_EQ(said->command, (std::vector<std::string>{"/bin/run", "--x", "two\nlines"}));
    EXPECT_EQ(said->environment, (std::vector<std::string>{"PATH=/a:/b", "E="}));
    EXPECT_EQ(said->user, "www:staff");
    EXPECT_EQ(said->working_directory, "/srv");
    EXPECT_EQ(done->run, *said);
    image = {};
    image.layer(base());
    ASSERT_TRUE(import(layout(image.finish())));
    EXPECT_EQ(guest_link::parse_image_config(content(".nullbox/image"))->user, "0"); // as Docker runs it
}

TEST_F(ImporterTest, ThePlatformThatIsAskedFor) {
    TestImage image;
    image.layer(base());
    auto amd = image.manifest_descriptor(image.manifest());
    amd["platform"] = {{"os", "linux"}, {"architecture", "amd64"}};
    TestImage other = image;
    other.architecture = "arm64";
    auto arm = other.manifest_descriptor(other.manifest());
    arm["platform"] = {{"os", "linux"}, {"architecture", "arm64"}, {"variant", "v8"}};
    image.files.merge(other.files);
    auto attestation = amd;
    attestation["digest"] = TestImage::digest("nothing");
    attestation["platform"] = {{"os", "unknown"}, {"architecture", "unknown"}};
    auto inner = image.descriptor(
        "application/vnd.oci.image.index.v1+json",
        json::serialize(json::object{{"schemaVersion", 2}, {"manifests", {arm, amd, attestation}}}));
    auto source = layout(image.index({inner}));
    ASSERT_TRUE(import(source)) << refusal(source);
    request_.platform = *parse_platform("linux/riscv64");
    EXPECT_TRUE(
        refusal(source).ends_with("no image in it is for linux/riscv64; it has linux/arm64/v8, linux/amd64"))
        << refusal(source);
    request_.platform = *parse_platform("linux/arm64");
    EXPECT_TRUE(import(source)) << refusal(source);
}

TEST_F(ImporterTest, OneOfSeveralByItsTag) {
    TestImage image;
    image.layer(base());
    auto one = image.manifest_descriptor(image.manifest());
    one["annotations"] = {{"org.opencontainers.image.ref.name", "one"}};
    image.layer(TestTar().file("second", "2"));
    auto two = image.manifest_descriptor(image.manifest());
    two["annotations"] = {{"io.containerd.image.name", "docker.io/library/test:two"}};
    auto source = layout(image.index({one, two}));
    EXPECT_TRUE(refusal(source).ends_with("it holds 2 images: choose one with --tag: one, two"))
        << refusal(source);
    request_.tag = "two";
    ASSERT_TRUE(import(source)) << refusal(source);
    EXPECT_EQ(content("second"), "2");
    request_.tag = "three";
    EXPECT_TRUE(refusal(source).ends_with("no image in it has the tag \"three\"; it has one, two"))
        << refusal(source);
}

TEST_F(ImporterTest, AFolderAsItIs) {
    auto folder = root_ + "/tree";
    write("tree/bin/run", "program");
    ::chmod((folder + "/bin/run").c_str(), 06755);
    fs::create_symlink("/nowhere/at/all", folder + "/link");
    fs::create_hard_link(folder + "/bin/run", folder + "/bin/same");
    ::mkfifo((folder + "/pipe").c_str(), 0600);
    ::setxattr((folder + "/bin/run").c_str(), "user.colour", "blue", 4, 0);
    auto done = import(folder);
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->form, "a folder of files");
    EXPECT_EQ(done->files, 1U);
    EXPECT_EQ(content("bin/same"), "program");
    EXPECT_TRUE(listing().contains("-rwsr-sr-x ")) << listing();
    EXPECT_TRUE(listing().contains(" /link -> /nowhere/at/all\n")) << listing();
    auto first = *read_file(root_ + "/out.img");
    ASSERT_TRUE(import(folder));
    EXPECT_EQ(*read_file(root_ + "/out.img"), first);
}

TEST_F(ImporterTest, ThroughALinkThatStaysInside) {
    TestImage image;
    image.layer(TestTar()
                    .folder("usr/lib")
                    .symlink("lib", "usr/lib")
                    .folder("var")
                    .symlink("var/run", "/run")
                    .symlink("up", "./usr/../usr"));
    image.layer(
        TestTar().file("lib/x", "1").file("var/run/pid", "2").file("up/y", "3").link("lib/z", "lib/x"));
    ASSERT_TRUE(import(layout(image.finish()))) << refusal(root_ + "/layout");
    EXPECT_EQ(content("usr/lib/x"), "1");
    EXPECT_EQ(content("usr/lib/z"), "1");
    EXPECT_EQ(content("run/pid"), "2"); // the image's own /run, whatever there is here
    EXPECT_EQ(content("usr/y"), "3");
    EXPECT_FALSE(fs::exists("/run/pid"));
}

TEST_F(ImporterTest, TheLastOfANameCounts) {
    TestTar tar;
    tar.file("a", "first")
        .file("a", "second")
        .folder("d", {.mode = 0700})
        .file("d/x", "1")
        .folder("d", {.mode = 0711});
    tar.symlink("l", "d").folder("l").file("l/y", "2").folder("f").file("f/z", "3").file("f", "a file now");
    ASSERT_TRUE(import(write("a.tar", tar.end()))) << refusal(tar);
    EXPECT_EQ(content("a"), "second");
    EXPECT_TRUE(listing().contains("drwx--x--x")) << listing();
    EXPECT_EQ(content("d/x"), "1");
    EXPECT_EQ(content("l/y"), "2");
    EXPECT_FALSE(has("/d/y"));
    EXPECT_EQ(content("f"), "a file now");
}

TEST_F(ImporterTest, NamesAreBytesOfUtf8OfAnyLength) {
    std::string deep = "ä/" + std::string(200, 'n') + "/" + std::string(255, 'm');
    TestTar tar;
    tar.file("Főtanúsítvány.crt", "1").file(deep, "2").pax("path", "pax-é").file("short", "3");
    ASSERT_TRUE(import(write("a.tar", tar.end()))) << refusal(tar);
    EXPECT_EQ(content(deep), "2");
    EXPECT_EQ(content("'pax-é'"), "3");
    EXPECT_EQ(content("'Főtanúsítvány.crt'"), "1");
}

TEST_F(ImporterTest, ExtendedAttributesThatMeanSomethingInAGuest) {
    TestTar tar;
    std::string capability("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    tar.pax("SCHILY.xattr.security.capability", capability).pax("SCHILY.xattr.user.colour", "blue");
    tar.pax("SCHILY.xattr.trusted.overlay.opaque", "y")
        .pax("SCHILY.xattr.security.selinux", "s")
        .file("ping", "x", {.mode = 0755});
    ASSERT_TRUE(import(write("a.tar", tar.end()))) << refusal(tar);
    if (::geteuid() != 0) return; // unsquashfs needs root to write them
    run(cat("unsquashfs -d ", root_, "/read ", root_, "/out.img"));
    char value[64];
    auto size = ::getxattr((root_ + "/read/ping").c_str(), "security.capability", value, sizeof value);
    ASSERT_EQ(size, 20);
    EXPECT_EQ(std::string(value, 20), capability);
    EXPECT_EQ(::getxattr((root_ + "/read/ping").c_str(), "trusted.overlay.opaque", value, sizeof value), -1);
    EXPECT_EQ(::getxattr((root_ + "/read/ping").c_str(), "security.selinux", value, sizeof value), -1);
}

TEST_F(ImporterTest, DeviceNodesOfDevAreLeftOut) {
    TestTar tar;
    tar.folder("dev").device("dev/null").device("dev/console").file("x", "1");
    auto done = import(write("a.tar", tar.end()));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->devices, 2U);
    EXPECT_FALSE(has("/dev/null"));
}

TEST_F(ImporterTest, ManyFilesInManyFolders) {
    TestTar tar;
    for (int folder = 0; folder < 40; folder++)
        for (int file = 0; file < 100; file++)
            tar.file(cat("d", folder, "/f", file), cat(folder, " ", file),
                     {.uid = static_cast<uint64_t>(folder)});
    auto done = import(write("a.tar", tar.end()));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->files, 4000U);
    EXPECT_EQ(done->folders, 40U);
    EXPECT_EQ(content("d39/f99"), "39 99");
    EXPECT_EQ(content("d0/f0"), "0 0");
    EXPECT_EQ(std::ranges::count(listing(), '\n'), 4041);
}

TEST_F(ImporterTest, ASparseFileIsWholeAndSmall) {
    auto path = root_ + "/tree/hole";
    write("tree/hole", "begin");
    fs::resize_file(path, 20 << 20);
    run(cat("tar -C ", root_, "/tree --sparse -cf ", root_, "/sparse.tar hole"));
    ASSERT_LT(fs::file_size(root_ + "/sparse.tar"), 1U << 20);
    auto done = import(root_ + "/sparse.tar");
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(content("hole").size(), 20U << 20);
    EXPECT_LT(done->image_bytes, 100'000U);
}

TEST_F(ImporterTest, AStrayWhiteoutIfItIsMeant) {
    TestImage image;
    image.layer(base()).layer(TestTar().file("etc/.wh.nothing", ""));
    request_.limits.allow_stray_whiteouts = true;
    auto done = import(layout(image.finish()));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->stray_whiteouts, 1U);
}

TEST_F(ImporterTest, OpaqueFoldersThatAreNewAreRight) {
    TestImage image; // as Docker's overlay writes them
    image.layer(base()).layer(TestTar()
                                  .folder("fresh")
                                  .file("fresh/.wh..wh..opq", "")
                                  .file("fresh/x", "1")
                                  .file(".wh..wh.plnk", ""));
    ASSERT_TRUE(import(layout(image.finish()))) << refusal(root_ + "/layout");
    EXPECT_EQ(content("fresh/x"), "1");
    EXPECT_FALSE(listing().contains(".wh.")) << listing();
}

} // namespace
} // namespace nullbox::importer
