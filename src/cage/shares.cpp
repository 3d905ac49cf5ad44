#include "cage/shares.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::cage {

// Growth through one VM, of one folder: what its manifest does not say, and an agent must not fill the data
// partition that the vault and the memory are on.
constexpr uint64_t kMostShareBytes = uint64_t{1} << 30;
constexpr uint64_t kMostShareFiles = 65'536;

// These and what is below them are the guest's system.
constexpr std::string_view kSystemTrees[] = {"/app",   "/bin",    "/boot", "/dev", "/etc",  "/lib", "/lib32",
                                             "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr"};
// These hold what the image has put there; a folder inside them is fine.
constexpr std::string_view kSystemFolders[] = {"/home", "/root", "/tmp", "/var"};

std::vector<DeclaredFolder> shared_folders(const manifest::AgentManifest& manifest) {
    std::map<std::string, bool> folders; // in order of their paths: outer ones first
    for (const auto& path : manifest.read_paths) folders.emplace(path, true);
    for (const auto& path : manifest.write_paths) folders[path] = false;
    std::vector<DeclaredFolder> list;
    for (const auto& [path, read_only] : folders) list.push_back({.path = path, .read_only = read_only});
    return list;
}

static bool hides_system(std::string_view path) {
    return std::ranges::any_of(kSystemTrees,
                               [&](std::string_view tree) {
                                   return path == tree ||
                                          (path.starts_with(tree) && path[tree.size()] == '/');
                               }) ||
           std::ranges::contains(kSystemFolders, path);
}

std::string wrong_shares(const manifest::AgentManifest& manifest) {
    std::string lines;
    auto folders = shared_folders(manifest);
    for (const auto& folder : folders)
        if (hides_system(folder.path))
            lines += cat("capabilities.filesystem: the folder ", folder.path,
                         " would hide part of the guest's system; use one like /data/NAME\n");
    if (folders.size() > kMaxShares)
        lines += cat("capabilities.filesystem: names ", folders.size(), " folders, a VM takes at most ",
                     kMaxShares, "\n");
    return lines;
}

static Result<Fd> enter_root(const std::string& root) {
    TRY(make_directories(root, 0700));
    Fd fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return errno_error(cat("open ", root));
    if (::fchmod(fd.get(), 0700) < 0) return errno_error(cat("close ", root, " to others"));
    return fd;
}

// One part of a path. Whoever may write to the folder it is in (an agent, through its own share) may have
// made it, as anything.
static Result<Fd> enter(const Fd& folder, const std::string& name) {
    if (::mkdirat(folder.get(), name.c_str(), 0755) < 0 && errno != EEXIST)
        return errno_error(cat("make folder ", name));
    return open_beneath(folder.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static Result<Fd> open_folder(const Fd& root, const std::string& path) {
    Fd folder = TRY(root.duplicate());
    for (auto part : split(std::string_view(path).substr(1), '/'))
        folder = TRY(enter(folder, std::string(part)));
    struct stat info{};
    if (::fstat(folder.get(), &info) < 0) return errno_error("look at it");
    // What an agent made is that VM's, and open to all already.
    if (info.st_uid == ::geteuid() && (info.st_mode & 07777) != 0777 && ::fchmod(folder.get(), 0777) < 0)
        return errno_error("open it to agents");
    return folder;
}

// Half of what is free now, so that agents that start together do not fill it between them.
static uint64_t growth_limit(const Fd& folder) {
    struct statvfs info{};
    if (::fstatvfs(folder.get(), &info) < 0) return kMostShareBytes;
    return std::clamp<uint64_t>(uint64_t{info.f_bavail} * info.f_frsize / 2, 1, kMostShareBytes);
}

Result<std::vector<OpenShare>> open_shares(const std::string& root, const manifest::AgentManifest& manifest) {
    std::vector<OpenShare> shares;
    auto folders = shared_folders(manifest);
    if (folders.empty()) return shares;
    Fd root_fd = TRY(enter_root(root).context("shared folders"));
    for (const auto& folder : folders) {
        OpenShare share{.guest = {.tag = cat("share", shares.size()),
                                  .path = folder.path,
                                  .read_only = folder.read_only}};
        share.folder = TRY(open_folder(root_fd, folder.path).context(cat("shared folder ", folder.path)));
        share.vm = {.read_only = folder.read_only ? 1U : 0U,
                    .guest_uid = manifest.uid,
                    .guest_gid = manifest.gid,
                    .most_bytes = growth_limit(share.folder),
                    .most_files = kMostShareFiles};
        std::strncpy(share.vm.tag, share.guest.tag.c_str(), sizeof share.vm.tag);
        shares.push_back(std::move(share));
    }
    return shares;
}

} // namespace nullbox::cage
