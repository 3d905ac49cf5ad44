#include "cage/uploads.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "cage/catalogue.h"
#include "cage/image_check.h"
#include "cage/sha256.h"

namespace nullbox::cage {

constexpr std::string_view kTemporary = ".upload-";
constexpr uint64_t kMostImageBytes = uint64_t{8} << 30;
constexpr uint64_t kMostAppBytes = uint64_t{2} << 30;
constexpr uint64_t kKeptFree = uint64_t{16} << 20; // the vault and the memory must be able to go on writing
constexpr size_t kPiece = size_t{64} << 10;
constexpr int kPiecesPerRound = 16;
// Written out while it comes in, so that the end does not hold cage up for the whole of it.
constexpr uint64_t kSyncEvery = uint64_t{8} << 20;

struct Uploads::Upload {
    UploadRequest request;
    std::string folder, temporary, target; // target: the file's name in the folder
    Fd file, pipe;
    Watch watch, timer;
    Sha256 digest;
    uint64_t received = 0, synced = 0;
    bool ended = false; // every byte there will be is there
    std::optional<Error> failed;
    std::function<void(Result<>)> done; // set by commit

    std::string path() const { return cat(folder, "/", temporary); }
    void take(std::span<const std::byte> bytes);
    Result<> check();
    Result<> put_in_place();
};

static std::string target_name(const UploadRequest& request) {
    switch (request.kind) {
    case UploadKind::Image:
        return cat(request.name, ".img");
    case UploadKind::App:
        return cat(request.name, ".app.img");
    case UploadKind::Manifest:
        return cat(request.name, ".toml");
    }
    return {};
}

static uint64_t most_bytes(UploadKind kind) {
    switch (kind) {
    case UploadKind::Image:
        return kMostImageBytes;
    case UploadKind::App:
        return kMostAppBytes;
    case UploadKind::Manifest:
        return kMaxManifestBytes;
    }
    return 0;
}

Uploads::Uploads(Loop& loop, UploadPlaces places) : loop_(loop), places_(std::move(places)) {}

Uploads::~Uploads() {
    for (const auto& [number, upload] : uploads_) ::unlink(upload->path().c_str());
}

const std::string& Uploads::folder_of(UploadKind kind) const {
    return kind == UploadKind::Image ? places_.image_folder : places_.agent_folder;
}

Result<> Uploads::clean_up() {
    for (const auto& folder : {places_.image_folder, places_.agent_folder}) {
        std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), &::closedir);
        if (!entries && errno != ENOENT) return errno_error(cat("read ", folder));
        std::vector<std::string> left;
        while (const dirent* entry = entries ? ::readdir(entries.get()) : nullptr)
            if (std::string_view(entry->d_name).starts_with(kTemporary)) left.emplace_back(entry->d_name);
        for (const auto& name : left) {
            if (::unlink(cat(folder, "/", name).c_str()) < 0)
                return errno_error(cat("remove ", folder, "/", name));
            log_info(cat("removed ", folder, "/", name, ", an upload that was cut off"));
        }
    }
    return {};
}

static Result<> check_space(const std::string& folder, uint64_t bytes) {
    struct statvfs info{};
    if (::statvfs(folder.c_str(), &info) < 0) return errno_error(cat("look at ", folder));
    uint64_t free = uint64_t{info.f_bavail} * info.f_frsize;
    if (bytes + kKeptFree <= free) return {};
    return error(cat("no room: needs ", bytes >> 20, " MB and ", kKeptFree >> 20, " MB to spare, ", folder,
                     " has ", free >> 20,
                     " MB free: remove an agent or an image, or use a larger data partition"));
}

Result<> Uploads::refuse_hidden(const UploadRequest& request) const {
    bool image = request.kind == UploadKind::Image;
    for (const auto& folder : image ? places_.fixed_image_folders : places_.fixed_agent_folders) {
        auto path = cat(folder, "/", request.name, image ? ".img" : ".toml");
        if (::access(path.c_str(), F_OK) == 0)
            return error(cat(image ? "image " : "agent ", request.name, " is part of the system image (",
                             path, ") and cannot be replaced: choose another name"));
    }
    return {};
}

Result<Uploads::Begun> Uploads::begin(const UploadRequest& request) {
    if (uploads_.size() == kMostUploads)
        return error(cat(kMostUploads, " uploads are under way, the most at a time: try again"));
    if (request.size_bytes == 0) return error("it is empty");
    if (request.size_bytes > most_bytes(request.kind))
        return error(cat("it has ", request.size_bytes, " bytes, at most ", most_bytes(request.kind)));
    TRY(refuse_hidden(request));
    auto upload = std::make_unique<Upload>();
    uint64_t number = next_++;
    upload->request = request;
    upload->folder = folder_of(request.kind);
    upload->temporary = cat(kTemporary, number);
    upload->target = target_name(request);
    TRY(check_space(upload->folder, request.size_bytes));
    auto pipe = TRY(make_pipe());
    TRY(set_nonblocking(pipe.read.get()));
    upload->file =
        Fd(::open(upload->path().c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!upload->file) return errno_error(cat("make ", upload->path()));
    upload->pipe = std::move(pipe.read);
    auto watch = loop_.watch(upload->pipe.get(), EPOLLIN, [this, number](uint32_t) { receive(number); });
    if (!watch) {
        ::unlink(upload->path().c_str());
        return watch.error();
    }
    upload->watch = *std::move(watch);
    uploads_.emplace(number, std::move(upload));
    be_patient(number);
    return Begun{.number = number, .write_end = std::move(pipe.write)};
}

void Uploads::be_patient(uint64_t number) {
    uploads_.at(number)->timer = loop_.after(places_.patience, [this, number] {
        finish(number, error("nothing came for too long: the upload is given up"));
    });
}

void Uploads::Upload::take(std::span<const std::byte> bytes) {
    if (failed) return; // drained, so that the sender is not left hanging
    if (bytes.size() > request.size_bytes - received) {
        failed = error(cat("more than the ", request.size_bytes, " bytes that were announced"));
        return;
    }
    digest.update(bytes);
    received += bytes.size();
    if (auto written = write_all(file.get(), bytes); !written) {
        failed = with_context(written.error(), cat("write ", path()));
        return;
    }
    if (received - synced < kSyncEvery) return;
    synced = received;
    if (::fdatasync(file.get()) < 0) failed = errno_error(cat("write ", path()));
}

void Uploads::receive(uint64_t number) {
    auto& upload = *uploads_.at(number);
    std::byte piece[kPiece];
    for (int i = 0; i < kPiecesPerRound && !upload.ended; i++) {
        ssize_t count = ::read(upload.pipe.get(), piece, sizeof piece);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) break;
        if (count <= 0) {
            upload.ended = true;
            upload.watch.drop();
        } else {
            upload.take(std::span(piece).first(static_cast<size_t>(count)));
        }
    }
    if (upload.ended && upload.received < upload.request.size_bytes && !upload.failed)
        upload.failed = error(
            cat("ended after ", upload.received, " of ", upload.request.size_bytes, " bytes: send it again"));
    // All that was announced is enough to go on; its sender may keep the pipe open.
    if (upload.done && (upload.ended || upload.received == upload.request.size_bytes || upload.failed)) {
        auto result = upload.failed ? Result<>(*upload.failed) : upload.check();
        return finish(number, result ? upload.put_in_place() : std::move(result));
    }
    // Cut off before anybody commits: nothing of it is kept, not even until the patience ends.
    if (upload.ended && upload.failed) ::unlink(upload.path().c_str());
    be_patient(number);
}

Result<> Uploads::Upload::check() {
    if (auto found = digest.finish_hex(); found != request.sha256)
        return error(cat("its SHA-256 is ", found, ", announced was ", request.sha256, ": send it again"));
    if (request.kind == UploadKind::Manifest) {
        std::string text(received, '\0');
        if (::pread(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
            return errno_error(cat("read ", path()));
        auto entry = read_manifest(request.name, text);
        if (!entry.manifest) return error(entry.diagnostics);
        return {};
    }
    std::byte head[kImageHeadBytes];
    ssize_t count = ::pread(file.get(), head, sizeof head, 0);
    if (count < 0) return errno_error(cat("read ", path()));
    TRY(check_image(std::span(head).first(static_cast<size_t>(count)), received));
    return {};
}

// Byte for byte. A large one is not worth the time: it is replaced.
static bool same_content(int one, const std::string& path, uint64_t size) {
    constexpr uint64_t kMostCompared = uint64_t{64} << 20;
    Fd other(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    struct stat facts{};
    if (!other || size > kMostCompared || ::fstat(other.get(), &facts) < 0 || !S_ISREG(facts.st_mode) ||
        static_cast<uint64_t>(facts.st_size) != size)
        return false;
    std::array<char, size_t{64} << 10> left, right;
    for (uint64_t at = 0; at < size;) {
        auto count = ::pread(one, left.data(), left.size(), static_cast<off_t>(at));
        if (count <= 0 ||
            ::pread(other.get(), right.data(), static_cast<size_t>(count), static_cast<off_t>(at)) != count ||
            std::memcmp(left.data(), right.data(), static_cast<size_t>(count)) != 0)
            return false;
        at += static_cast<uint64_t>(count);
    }
    return true;
}

Result<> Uploads::Upload::put_in_place() {
    if (::fsync(file.get()) < 0) return errno_error(cat("write ", path()));
    auto to = cat(folder, "/", target);
    // An agent's files that are as they were stay the file they are: nothing of the agent has changed then.
    if (request.kind == UploadKind::App && same_content(file.get(), to, received)) {
        if (::unlink(path().c_str()) < 0) return errno_error(cat("remove ", path()));
        log_info(cat("uploaded ", to, " again, which is as it was"));
        return {};
    }
    if (::rename(path().c_str(), to.c_str()) < 0) return errno_error(cat("put it at ", to));
    Fd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || ::fsync(directory.get()) < 0) return errno_error(cat("write ", folder));
    log_info(cat("uploaded ", to, ", ", received, " bytes, sha256 ", request.sha256));
    return {};
}

void Uploads::finish(uint64_t number, Result<> result) {
    auto node = uploads_.extract(number); // it may be what calls us: gone only when we return
    auto& upload = *node.mapped();
    if (!result) {
        ::unlink(upload.path().c_str());
        log_warning(cat("upload of ", upload.target, ": ", printable(result.error().message)));
    }
    upload.watch.drop();
    upload.timer.drop();
    if (upload.done) upload.done(std::move(result));
}

static Error no_such(uint64_t number) {
    return error(cat("there is no upload ", number, ": it was given up, or another cage began it"));
}

void Uploads::commit(uint64_t number, std::function<void(Result<>)> done) {
    auto found = uploads_.find(number);
    if (found == uploads_.end()) return done(no_such(number));
    if (found->second->done) return done(error(cat("upload ", number, " is being committed already")));
    found->second->done = std::move(done);
    receive(number);
}

Result<> Uploads::abort(uint64_t number) {
    if (!uploads_.contains(number)) return no_such(number);
    finish(number, error("aborted by its sender"));
    return {};
}

} // namespace nullbox::cage
