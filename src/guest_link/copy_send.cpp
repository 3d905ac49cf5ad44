#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "guest_link/copy_tree.h"

namespace nullbox::guest_link {

namespace {

// Files that say they are empty and are not (/proc): so much of them.
constexpr uint64_t kMostOfUnsized = uint64_t{16} << 20;

class Sender {
public:
    Sender(CopyStream& stream, CopyReport& report, const CopyWatch& watch)
        : stream_(stream), report_(report), watch_(watch) {}
    Result<> send(int folder, const std::string& name, const std::string& path, uint32_t depth, int follow);
    Result<> send_content(int file, uint64_t most);
    Result<> finish() { return stream_.send(Done{.entries = report_.entries, .bytes = report_.bytes}); }
    Result<> start(Entry entry);

private:
    Result<> send_folder(Fd folder, const std::string& path, uint32_t depth);
    Result<> send_link(int folder, const std::string& name, const std::string& path);
    Result<> skip(const std::string& path, std::string_view why);

    CopyStream& stream_;
    CopyReport& report_;
    const CopyWatch& watch_;
};

} // namespace

Result<> Sender::skip(const std::string& path, std::string_view why) {
    report_.skipped++;
    if (watch_.skipped) watch_.skipped(path, why);
    return stream_.send(Skipped{.path = path, .why = std::string(why.substr(0, kMaxMessageText))});
}

Result<> Sender::start(Entry entry) {
    TRY(stream_.send(std::move(entry)));
    report_.entries++;
    if (watch_.moved) watch_.moved(report_);
    return {};
}

// Not beyond the size that it had when it was opened: somebody may be writing to it, without end.
Result<> Sender::send_content(int file, uint64_t most) {
    std::string piece(kMaxPiece, '\0');
    for (uint64_t done = 0; done < most;) {
        ssize_t count = ::read(file, piece.data(), std::min<uint64_t>(piece.size(), most - done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno_error("read");
        if (count == 0) break;
        TRY(stream_.send(Data{.bytes = piece.substr(0, static_cast<size_t>(count))}));
        done += static_cast<uint64_t>(count);
        report_.bytes += static_cast<uint64_t>(count);
        if (watch_.moved) watch_.moved(report_);
    }
    return {};
}

Result<> Sender::send_link(int folder, const std::string& name, const std::string& path) {
    char target[kMaxPath];
    ssize_t count = ::readlinkat(folder, name.c_str(), target, sizeof target);
    if (count <= 0 || count == sizeof target) return skip(path, "a link that cannot be read");
    return start({.kind = EntryKind::Link,
                  .path = path,
                  .mode = 0777,
                  .target = std::string(target, static_cast<size_t>(count))});
}

Result<> Sender::send_folder(Fd folder, const std::string& path, uint32_t depth) {
    if (depth == kMaxDepth) return skip(path, cat("deeper than ", kMaxDepth, " folders"));
    std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(folder.get()), &::closedir);
    if (!entries) return skip(path, errno_error("read the folder").message);
    int directory = folder.release();
    for (;;) {
        errno = 0;
        const dirent* entry = ::readdir(entries.get());
        if (entry == nullptr && errno != 0) return skip(path, errno_error("read the folder").message);
        if (entry == nullptr) return {};
        std::string name = entry->d_name;
        if (name == "." || name == "..") continue;
        auto inner = path.empty() ? name : cat(path, "/", name);
        if (inner.size() > kMaxPath)
            TRY(skip(path, "a path in it is too long"));
        else
            TRY(send(directory, name, inner, depth + 1, O_NOFOLLOW));
    }
}

// O_NONBLOCK: a named pipe without a writer would hold us; it is left out a line later.
Result<> Sender::send(int folder, const std::string& name, const std::string& path, uint32_t depth,
                      int follow) {
    struct stat info{};
    if (::fstatat(folder, name.c_str(), &info, follow ? AT_SYMLINK_NOFOLLOW : 0) < 0)
        return depth == 0 ? Result<>(errno_error(name)) : skip(path, errno_error("look at it").message);
    if (S_ISLNK(info.st_mode)) return send_link(folder, name, path);
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
        if (depth == 0) return error(cat(name, ": neither a file nor a folder"));
        return skip(path, "neither a file nor a folder nor a link");
    }
    Fd opened(::openat(folder, name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | follow));
    if (!opened || ::fstat(opened.get(), &info) < 0)
        return depth == 0 ? Result<>(errno_error(cat("open ", name)))
                          : skip(path, errno_error("open").message);
    auto mode = static_cast<uint16_t>(info.st_mode & 0777);
    if (S_ISDIR(info.st_mode)) {
        TRY(start({.kind = EntryKind::Folder, .path = path, .mode = mode}));
        return send_folder(std::move(opened), path, depth);
    }
    if (!S_ISREG(info.st_mode)) return skip(path, "neither a file nor a folder nor a link");
    auto size = static_cast<uint64_t>(info.st_size);
    TRY(start({.path = path,
               .mode = mode,
               .modified_s = static_cast<uint64_t>(std::max<time_t>(info.st_mtim.tv_sec, 0)),
               .size_bytes = size}));
    auto sent = send_content(opened.get(), size == 0 ? kMostOfUnsized : size);
    if (sent || sent.error().code == ECANCELED) return sent;
    return skip(path, cat(sent.error().message, "; what came of it is not the whole"));
}

Result<> send_tree(CopyStream& stream, const std::string& path, CopyReport& report, const CopyWatch& watch) {
    Sender sender(stream, report, watch);
    TRY(sender.send(AT_FDCWD, path, "", 0, 0));
    return sender.finish();
}

Result<> send_file(CopyStream& stream, int file, uint16_t mode, CopyReport& report, const CopyWatch& watch) {
    Sender sender(stream, report, watch);
    TRY(sender.start({.mode = mode}));
    TRY(sender.send_content(file, UINT64_MAX));
    return sender.finish();
}

} // namespace nullbox::guest_link
