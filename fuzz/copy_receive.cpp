// What a guest may send when files are copied out of it, received into a real folder: nothing may appear or
// change beside that folder, and nothing in it may be more than a file, a folder or a link.
#include <filesystem>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "guest_link/copy_tree.h"

using namespace nullbox;
using namespace nullbox::guest_link;
namespace fs = std::filesystem;

static std::string make_place() {
    char made[] = "/tmp/nullbox-fuzz-copy-XXXXXX";
    CHECK(::mkdtemp(made) != nullptr);
    return made;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const std::string place = make_place();
    if (size == 0 || size > 100'000) return 0; // what a socket pair holds
    auto to = place + "/to";
    fs::create_directory(to);
    fs::create_directory(to + "/there");
    fs::create_directory_symlink(place, to + "/out");
    static const bool sings = write_file_atomic(place + "/canary", "sings", 0600).has_value();
    CHECK(sings);

    auto pair = *make_socket_pair(SOCK_STREAM);
    CHECK(write_all(pair.first.get(), std::as_bytes(std::span(data, size)).subspan(1)));
    pair.first.reset();
    CopyStream stream(pair.second.get());
    CopyReport report;
    Destination destination{.path = to, .name = data[0] & 1 ? "." : "copy"};
    (void)receive_tree(stream, destination, {.most_entries = 50, .most_bytes = 1 << 20}, report, {});

    CHECK(read_file(place + "/canary").value_or("") == "sings");
    CHECK(report.entries <= 50 && report.bytes <= 1 << 20);
    size_t beside = 0;
    for (const auto& entry : fs::directory_iterator(place)) beside += !entry.path().empty();
    CHECK(beside == 2);
    for (const auto& entry : fs::recursive_directory_iterator(to)) {
        struct stat info{};
        CHECK(::lstat(entry.path().c_str(), &info) == 0);
        CHECK(S_ISREG(info.st_mode) || S_ISDIR(info.st_mode) || S_ISLNK(info.st_mode));
        CHECK((info.st_mode & 07000) == 0);
        if (S_ISLNK(info.st_mode) && entry.path().filename() != "out")
            CHECK(stays_inside(entry.path().lexically_relative(to).string(),
                               fs::read_symlink(entry.path()).string()));
    }
    fs::permissions(to, fs::perms::owner_all);
    fs::remove_all(to);
    return 0;
}
