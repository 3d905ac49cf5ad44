#include "nullctl/pack.h"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::nullctl {

namespace fs = std::filesystem;

constexpr size_t kMostFiles = 100'000;
constexpr std::string_view kTime = "1700000000"; // of every file; a date would say nothing

bool left_out(std::string_view name) {
    return name == "AGENT.toml" || name == "CMakeLists.txt" || name == "README.md" || name == "__pycache__" ||
           name.starts_with("test_") || name.starts_with("make_") || name.starts_with('.');
}

namespace {

// A folder of ours that goes with us.
struct Scratch {
    std::string path;
    ~Scratch() {
        std::error_code ignored;
        if (!path.empty()) fs::remove_all(path, ignored);
    }
};

Result<std::string> make_scratch() {
    std::error_code failure;
    auto pattern = (fs::temp_directory_path(failure) / "nullctl-XXXXXX").string();
    if (failure || !::mkdtemp(pattern.data())) return errno_error(cat("make a folder ", pattern));
    return pattern;
}

// Copies with modes 0755 and 0644, so that the umask of whoever cloned is not in the image.
Result<size_t> copy_tree(const fs::path& from, const fs::path& to, size_t files) {
    std::error_code failure;
    for (fs::directory_iterator at(from, failure), end; !failure && at != end; at.increment(failure)) {
        auto name = at->path().filename();
        if (left_out(name.string())) continue;
        if (++files > kMostFiles) return error(cat(from.string(), ": more than ", kMostFiles, " files"));
        auto status = at->symlink_status(failure);
        if (failure) break;
        auto target = to / name;
        if (fs::is_symlink(status)) {
            fs::copy_symlink(at->path(), target, failure);
        } else if (fs::is_directory(status)) {
            if (::mkdir(target.c_str(), 0755) < 0) return errno_error(cat("make ", target.string()));
            files = TRY(copy_tree(at->path(), target, files));
        } else if (fs::is_regular_file(status)) {
            fs::copy_file(at->path(), target, failure);
            bool runs = (status.permissions() & fs::perms::owner_exec) != fs::perms::none;
            if (!failure && ::chmod(target.c_str(), runs ? 0755 : 0644) < 0)
                return errno_error(cat("set the mode of ", target.string()));
        } else {
            return error(cat(at->path().string(), ": neither a file, a folder nor a symbolic link"));
        }
        if (failure) break;
    }
    if (failure) return error(cat("copy ", from.string(), ": ", failure.message()));
    return files;
}

Result<> run_mksquashfs(const std::string& stage, const std::string& target, const std::string& log) {
    std::string words[] = {
        "mksquashfs",       stage,         target, "-noappend",  "-all-root",        "-no-xattrs",
        "-no-progress",     "-comp",       "zstd", "-mkfs-time", std::string(kTime), "-all-time",
        std::string(kTime), "-processors", "1"};
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                       0600);
    ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    ::unsetenv("SOURCE_DATE_EPOCH"); // mksquashfs refuses it together with our times
    pid_t child = -1;
    int failure = ::posix_spawnp(&child, "mksquashfs", &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failure == ENOENT)
        return error(
            "mksquashfs is not installed; it packs an agent's files. Debian: apt-get install squashfs-tools");
    if (failure != 0) return errno_error(failure, "start mksquashfs");
    int status = 0;
    while (::waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return errno_error("wait for mksquashfs");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    auto said = read_file(log).value_or("");
    return error(cat("mksquashfs failed: ", printable(trim(said).substr(trim(said).rfind('\n') + 1), 500)));
}

} // namespace

Result<Packed> pack_folder(const std::string& folder) {
    Scratch scratch{TRY(make_scratch())};
    auto stage = scratch.path + "/stage", image = scratch.path + "/app.img";
    if (::mkdir(stage.c_str(), 0755) < 0 || ::chmod(stage.c_str(), 0755) < 0)
        return errno_error(cat("make ", stage));
    Packed packed;
    packed.files = TRY(copy_tree(folder, stage, 0));
    if (packed.files == 0) return packed;
    TRY(run_mksquashfs(stage, image, scratch.path + "/log"));
    packed.image = TRY(open_readonly(image));
    return packed;
}

} // namespace nullbox::nullctl
