#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "guest_link/copy_tree.h"

namespace nullbox::guest_link {

constexpr size_t kMostName = 255;

std::string wrong_path(std::string_view path) {
    if (path.contains('\0')) return "has a NUL byte";
    if (path.size() > kMaxPath) return "is too long";
    auto parts = split(path, '/');
    if (parts.size() > kMaxDepth) return cat("is deeper than ", kMaxDepth, " folders");
    for (auto part : parts) {
        if (part.empty()) return "is absolute or has an empty part";
        if (part == "." || part == "..") return "has a part \".\" or \"..\"";
        if (part.size() > kMostName) return "has a name that is too long";
    }
    return "";
}

bool stays_inside(std::string_view path, std::string_view target) {
    if (target.empty() || target.front() == '/' || target.contains('\0')) return false;
    auto folders = static_cast<size_t>(std::ranges::count(path, '/')); // between the tree and the link
    bool going_down = false;
    for (auto part : split(target, '/')) {
        if (part == ".." && (going_down || folders-- == 0)) return false;
        if (part != ".." && part != "." && !part.empty()) going_down = true;
    }
    return true;
}

namespace {

class Receiver {
public:
    Receiver(const ReceiveBounds& bounds, CopyReport& report, const CopyWatch& watch)
        : bounds_(bounds), report_(report), watch_(watch) {}
    ~Receiver() { drop_unfinished(); }
    Result<> begin(const Destination& destination);
    Result<> take(const Entry& entry);
    Result<> take(const Data& data);
    Result<> finish();
    void drop_unfinished();
    void take(const Skipped& skipped);

private:
    void skip(std::string_view path, std::string_view why);
    Result<> place(const Entry& entry);
    Result<> make_folder(const Entry& entry);
    Result<> make_link(const Entry& entry);
    Result<> open_file(const Entry& entry);
    Result<> close_file();
    Result<Fd> open_below(const std::string& path, uint64_t flags) const;
    std::string below(std::string_view path) const;
    std::string temporary() { return cat(".nullbox-copy-", ::getpid(), "-", ++temporaries_); }

    const ReceiveBounds& bounds_;
    CopyReport& report_;
    const CopyWatch& watch_;
    Fd base_;          // everything is made below it
    std::string root_; // the name of what is copied in base_; empty: base_ is it
    int single_ = -1;
    bool started_ = false, tree_ = false; // a first entry came; it is a folder
    // Where the current entry goes.
    Fd parent_;
    std::string parent_path_ = "/", name_; // parent_path_ of parent_; "/": none yet
    Fd file_;
    std::string temporary_;
    Entry file_entry_;
    uint64_t temporaries_ = 0;
    std::vector<std::pair<std::string, uint16_t>> modes_; // of folders that would keep us out
};

} // namespace

Result<Fd> Receiver::open_below(const std::string& path, uint64_t flags) const {
    open_how how{};
    how.flags = flags | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const char* name = path.empty() ? "." : path.c_str();
    long fd = ::syscall(SYS_openat2, base_.get(), name, &how, sizeof how);
    if (fd < 0 && errno == ELOOP)
        return error(cat(path, ": there is a symbolic link in the way, which is not followed"));
    if (fd < 0) return errno_error(path.empty() ? "the folder" : path);
    return Fd(static_cast<int>(fd));
}

std::string Receiver::below(std::string_view path) const {
    if (root_.empty() || path.empty()) return cat(root_, path);
    return cat(root_, "/", path);
}

Result<> Receiver::begin(const Destination& destination) {
    single_ = destination.file;
    if (single_ >= 0) return {};
    auto path = destination.path;
    bool to_folder = path.ends_with('/');
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    struct stat info{};
    if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
        root_ = destination.name == "." ? "" : destination.name;
    } else {
        if (to_folder) return error(cat(destination.path, ": there is no such folder"));
        auto slash = path.rfind('/');
        root_ = path.substr(slash == std::string::npos ? 0 : slash + 1);
        path = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    }
    if (root_ == "." || root_ == ".." || root_.size() > kMostName || root_.contains('/'))
        return error(cat(destination.path, ": say what the copy is to be called"));
    base_ = Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!base_) return errno_error(path);
    return {};
}

void Receiver::skip(std::string_view path, std::string_view why) {
    report_.skipped++;
    if (watch_.skipped) watch_.skipped(path, why);
}

// It may be the file that is coming, which cannot be read any further.
void Receiver::take(const Skipped& skipped) {
    if (skipped.path == file_entry_.path) drop_unfinished();
    skip(skipped.path, skipped.why);
}

// Parent folder and name of what comes now.
Result<> Receiver::place(const Entry& entry) {
    auto whole = below(entry.path);
    auto slash = whole.rfind('/');
    auto folder = slash == std::string::npos ? "" : whole.substr(0, slash);
    name_ = slash == std::string::npos ? whole : whole.substr(slash + 1);
    if (folder == parent_path_) return {};
    parent_ = TRY(open_below(folder, O_RDONLY | O_DIRECTORY));
    parent_path_ = folder;
    return {};
}

Result<> Receiver::make_folder(const Entry& entry) {
    if (name_.empty()) return {}; // the content goes into a folder that is there
    if (::mkdirat(parent_.get(), name_.c_str(), 0700) < 0) {
        if (errno != EEXIST) return errno_error(cat("make the folder ", below(entry.path)));
        TRY(open_below(below(entry.path), O_PATH | O_DIRECTORY).context("what is there is no folder"));
        return {};
    }
    // Ours to write in while the copy goes on.
    auto mode = static_cast<mode_t>(entry.mode);
    if (::fchmodat(parent_.get(), name_.c_str(), mode | 0700, 0) < 0)
        return errno_error(cat("set the mode of ", below(entry.path)));
    if ((mode & 0700) != 0700) modes_.emplace_back(below(entry.path), entry.mode);
    return {};
}

Result<> Receiver::make_link(const Entry& entry) {
    if (bounds_.confine_links && !stays_inside(entry.path, entry.target)) {
        skip(entry.path, cat("a link that leads out of the copy, to ", entry.target));
        report_.entries--;
        return {};
    }
    auto made = temporary();
    if (::symlinkat(entry.target.c_str(), parent_.get(), made.c_str()) < 0)
        return errno_error(cat("make the link ", below(entry.path)));
    if (::renameat(parent_.get(), made.c_str(), parent_.get(), name_.c_str()) == 0) return {};
    auto why = errno_error(cat("make the link ", below(entry.path)));
    ::unlinkat(parent_.get(), made.c_str(), 0);
    return why;
}

Result<> Receiver::open_file(const Entry& entry) {
    file_entry_ = entry;
    if (single_ >= 0) return {};
    if (name_.empty()) return error("a file, where the content of a folder was to come");
    temporary_ = temporary();
    file_ = Fd(::openat(parent_.get(), temporary_.c_str(),
                        O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (file_) return {};
    temporary_.clear();
    return errno_error(cat("make ", below(entry.path)));
}

Result<> Receiver::close_file() {
    if (!file_) return {};
    timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, {.tv_sec = 0, .tv_nsec = 0}};
    times[1].tv_sec = static_cast<time_t>(std::min<uint64_t>(file_entry_.modified_s, UINT32_MAX));
    if (file_entry_.modified_s > 0) (void)::futimens(file_.get(), times);
    auto path = below(file_entry_.path);
    if (::fchmod(file_.get(), file_entry_.mode & 0777) < 0) return errno_error(cat("set the mode of ", path));
    if (::close(file_.release()) < 0) return errno_error(cat("write ", path));
    if (::renameat(parent_.get(), temporary_.c_str(), parent_.get(), name_.c_str()) < 0) {
        auto why = errno_error(cat("put ", path, " in its place"));
        ::unlinkat(parent_.get(), temporary_.c_str(), 0);
        temporary_.clear();
        report_.entries--;
        return why;
    }
    temporary_.clear();
    return {};
}

void Receiver::drop_unfinished() {
    if (!temporary_.empty()) {
        ::unlinkat(parent_.get(), temporary_.c_str(), 0);
        report_.entries--;
    }
    temporary_.clear();
    file_.reset();
}

Result<> Receiver::take(const Entry& entry) {
    if (started_ == entry.path.empty()) return error("the first entry, and only that, has no path");
    if (started_ && !tree_) return error("an entry inside what is no folder");
    if (auto wrong = entry.path.empty() ? "" : wrong_path(entry.path); !wrong.empty())
        return error(cat("the path \"", printable(entry.path, 200), "\" ", wrong));
    TRY(close_file());
    if (report_.entries == bounds_.most_entries)
        return error(cat("more than ", bounds_.most_entries, " files: copy it in parts"));
    if (!started_) tree_ = entry.kind == EntryKind::Folder;
    started_ = true;
    if (single_ >= 0 && entry.kind != EntryKind::File) return error("it is no single file");
    if (single_ < 0) TRY(place(entry));
    report_.entries++;
    Result<> made = entry.kind == EntryKind::Folder ? make_folder(entry)
                    : entry.kind == EntryKind::Link ? make_link(entry)
                                                    : open_file(entry);
    if (!made) report_.entries--;
    if (made && watch_.moved) watch_.moved(report_);
    return made;
}

Result<> Receiver::take(const Data& data) {
    if (!file_ && (single_ < 0 || !started_)) return error("bytes that belong to no file");
    if (data.bytes.size() > bounds_.most_bytes - report_.bytes)
        return error(cat("more than ", bounds_.most_bytes, " bytes: copy it in parts"));
    TRY(write_all(single_ >= 0 ? single_ : file_.get(), data.bytes)
            .context(cat("write ", single_ >= 0 ? std::string("it") : below(file_entry_.path))));
    report_.bytes += data.bytes.size();
    if (watch_.moved) watch_.moved(report_);
    return {};
}

Result<> Receiver::finish() {
    if (!started_) return error("nothing came");
    TRY(close_file());
    std::ranges::reverse(modes_); // what is inside first
    for (const auto& [path, mode] : modes_) {
        auto folder = TRY(open_below(path, O_RDONLY | O_DIRECTORY));
        if (::fchmod(folder.get(), mode) < 0) return errno_error(cat("set the mode of ", path));
    }
    return {};
}

Result<> receive_tree(CopyStream& stream, const Destination& destination, const ReceiveBounds& bounds,
                      CopyReport& report, const CopyWatch& watch) {
    Receiver receiver(bounds, report, watch);
    TRY(receiver.begin(destination));
    for (;;) {
        auto frame = TRY(stream.receive());
        if (!frame) return error("the connection ended before the copy was complete");
        if (const auto* entry = std::get_if<Entry>(&*frame)) {
            TRY(receiver.take(*entry));
        } else if (const auto* data = std::get_if<Data>(&*frame)) {
            TRY(receiver.take(*data));
        } else if (const auto* skipped = std::get_if<Skipped>(&*frame)) {
            receiver.take(*skipped);
        } else if (const auto* failed = std::get_if<Failed>(&*frame)) {
            return error(printable(failed->message));
        } else {
            return receiver.finish();
        }
    }
}

} // namespace nullbox::guest_link
