#include "base/file.h"

#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"

namespace nullbox {

Result<Fd> open_readonly(const std::string& path) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return errno_error(cat("open ", path));
    return fd;
}

Result<Fd> open_beneath(int directory_fd, const std::string& path, int flags, mode_t mode) {
    open_how how{};
    how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
    how.mode = mode;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    long fd = ::syscall(SYS_openat2, directory_fd, path.c_str(), &how, sizeof how);
    if (fd < 0) return errno_error(cat("open ", path));
    return Fd(static_cast<int>(fd));
}

Result<std::string> read_fd(int fd, size_t limit_bytes) {
    std::string content;
    char chunk[4096];
    for (;;) {
        ssize_t count = ::read(fd, chunk, sizeof chunk);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno_error("read");
        if (count == 0) return content;
        if (content.size() + static_cast<size_t>(count) > limit_bytes)
            return errno_error(EFBIG, cat("read: more than ", limit_bytes, " bytes"));
        content.append(chunk, static_cast<size_t>(count));
    }
}

Result<std::string> read_file(const std::string& path, size_t limit_bytes) {
    Fd fd = TRY(open_readonly(path));
    return read_fd(fd.get(), limit_bytes).context(path);
}

Result<> write_existing(const std::string& path, std::string_view text) {
    Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd) return errno_error(cat("open ", path, " for writing"));
    // The kernel's files want the whole value in one call.
    ssize_t count = ::write(fd.get(), text.data(), text.size());
    if (count < 0) return errno_error(cat("write \"", text, "\" to ", path));
    if (static_cast<size_t>(count) != text.size())
        return error(cat("write to ", path, ": taken only in part"));
    return {};
}

static Result<> fsync_parent(const std::string& path) {
    size_t slash = path.rfind('/');
    std::string parent = slash == std::string::npos ? "." : path.substr(0, slash ? slash : 1);
    Fd fd(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) < 0) return errno_error(cat("sync folder ", parent));
    return {};
}

Result<> write_file_atomic(const std::string& path, std::string_view content, mode_t mode) {
    std::string temporary = path + ".new";
    Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode));
    if (!fd) return errno_error(cat("create ", temporary));
    auto written = write_all(fd.get(), content);
    if (written && ::fsync(fd.get()) < 0) written = errno_error("sync");
    if (written && ::rename(temporary.c_str(), path.c_str()) < 0) written = errno_error("rename");
    if (!written) {
        ::unlink(temporary.c_str());
        return std::move(written).context(cat("write ", path));
    }
    return fsync_parent(path);
}

Result<> write_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        ssize_t count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno_error("write");
        bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return {};
}

Result<> write_all(int fd, std::string_view text) { return write_all(fd, std::as_bytes(std::span(text))); }

Result<> read_exact(int fd, std::span<std::byte> bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
        ssize_t count = ::read(fd, bytes.data() + done, bytes.size() - done);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno_error("read");
        if (count == 0) return error(cat("read: ended after ", done, " of ", bytes.size(), " bytes"));
        done += static_cast<size_t>(count);
    }
    return {};
}

Result<> make_directories(const std::string& path, mode_t mode) {
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
        std::string part = path.substr(0, end);
        if (::mkdir(part.c_str(), mode) < 0 && errno != EEXIST) return errno_error(cat("make folder ", part));
        if (end == std::string::npos) return {};
    }
}

} // namespace nullbox
