#include "importer/tar_reader.h"

#include <algorithm>
#include <archive.h>
#include <archive_entry.h>
#include <array>
#include <langinfo.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/text.h"
#include "manifest/forms.h"

// libarchive takes names from pax headers, which are UTF-8, to the charset that the C library names: ASCII in
// a program that sets no locale, and a locale is a file that a computer may not have. So UTF-8 it is,
// whatever the computer (linked with --wrap=nl_langinfo; nothing else here asks for it).
extern "C" char* __real_nl_langinfo(nl_item item);
extern "C" char* __wrap_nl_langinfo(nl_item item);
extern "C" char* __wrap_nl_langinfo(nl_item item) {
    static char utf8[] = "UTF-8";
    return item == CODESET ? utf8 : __real_nl_langinfo(item);
}

namespace nullbox::importer {

std::string wrong_name_bytes(std::string_view name) {
    if (name.empty()) return "has no name";
    if (name.size() > kMostPathBytes)
        return cat("its path has ", name.size(), " bytes, at most ", kMostPathBytes);
    // Printable, one line, valid UTF-8.
    return manifest::wrong_line(name).empty() ? ""
                                              : "its name has control characters or is not UTF-8: rename it";
}

bool keeps_xattr(std::string_view name) {
    return name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."));
}

Result<std::unique_ptr<TarReader>> TarReader::open(ByteSource& tar) {
    std::unique_ptr<TarReader> reader(new TarReader(tar));
    auto* archive = reader->archive_ = ::archive_read_new();
    CHECK(archive);
    ::archive_read_support_format_tar(archive);
    ::archive_read_support_format_empty(archive);
    TRY(open_archive(archive, reader->feed_));
    return reader;
}

TarReader::~TarReader() { ::archive_read_free(archive_); }

static std::string_view view(const char* text) { return text ? text : ""; }

static Result<std::vector<std::pair<std::string, std::string>>> xattrs_of(archive_entry* entry) {
    std::vector<std::pair<std::string, std::string>> xattrs;
    size_t bytes = 0;
    ::archive_entry_xattr_reset(entry);
    const char* name = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    while (::archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
        if (!keeps_xattr(view(name))) continue;
        bytes += view(name).size() + size;
        if (bytes > kMostXattrBytes || view(name).size() > kMostNameBytes)
            return error(cat("its extended attributes have more than ", kMostXattrBytes, " bytes"));
        xattrs.emplace_back(name, std::string(static_cast<const char*>(value), size));
    }
    std::ranges::sort(xattrs);
    return xattrs;
}

static Result<uint32_t> id_of(int64_t id, std::string_view what) {
    if (id < 0 || id >= UINT32_MAX) return error(cat("its ", what, " is ", id, ", no such number"));
    return static_cast<uint32_t>(id);
}

static Result<Kind> kind_of(archive_entry* entry) {
    if (::archive_entry_hardlink(entry)) return Kind::HardLink;
    switch (::archive_entry_filetype(entry)) {
    case AE_IFREG:
        return Kind::File;
    case AE_IFDIR:
        return Kind::Folder;
    case AE_IFLNK:
        return Kind::Symlink;
    case AE_IFIFO:
        return Kind::Fifo;
    case AE_IFCHR:
    case AE_IFBLK:
        return Kind::Device;
    default:
        return error("it is of a kind that no file system has");
    }
}

Result<Entry> TarReader::convert(archive_entry* entry) const {
    Entry out{.path = std::string(view(::archive_entry_pathname(entry)))};
    if (auto wrong = wrong_name_bytes(out.path); !wrong.empty()) return error(wrong);
    out.kind = TRY(kind_of(entry));
    if (out.kind == Kind::HardLink) out.target = view(::archive_entry_hardlink(entry));
    if (out.kind == Kind::Symlink) out.target = view(::archive_entry_symlink(entry));
    if (out.kind == Kind::HardLink || out.kind == Kind::Symlink)
        if (auto wrong = wrong_name_bytes(out.target); !wrong.empty())
            return error(cat("the target of its link: ", wrong));
    out.mode = static_cast<uint32_t>(::archive_entry_mode(entry)) & 07777;
    out.uid = TRY(id_of(::archive_entry_uid(entry), "owner"));
    out.gid = TRY(id_of(::archive_entry_gid(entry), "group"));
    out.mtime = static_cast<uint32_t>(std::clamp<int64_t>(::archive_entry_mtime(entry), 0, UINT32_MAX));
    if (out.kind == Kind::File) {
        auto size = ::archive_entry_size(entry);
        if (size < 0) return error(cat("its size is ", size));
        out.size = static_cast<uint64_t>(size);
    }
    out.xattrs = TRY(xattrs_of(entry));
    return out;
}

Result<std::optional<Entry>> TarReader::next() {
    int status = ::archive_read_next_header(archive_, &entry_);
    if (status == ARCHIVE_EOF) return std::optional<Entry>();
    auto where =
        entry_ && status == ARCHIVE_WARN ? printable(view(::archive_entry_pathname(entry_)), 256) : "";
    // A warning means that something of the entry is lost; half of a file is worse than none.
    if (status != ARCHIVE_OK)
        return with_context(archive_failure(archive_, feed_),
                            where.empty() ? cat("entry ", next_number_ + 1) : where);
    auto out = convert(entry_);
    if (!out)
        return with_context(std::move(out.error()), printable(view(::archive_entry_pathname(entry_)), 256));
    size_ = out->size;
    out->number = next_number_++;
    return std::optional(*std::move(out));
}

Result<> TarReader::content(const std::function<Result<>(std::span<const std::byte>)>& take) {
    static constexpr std::array<std::byte, 65536> kZeros{};
    uint64_t at = 0;
    auto zeros_until = [&](uint64_t end) -> Result<> {
        while (at < end) {
            auto count = std::min<uint64_t>(kZeros.size(), end - at);
            TRY(take(std::span(kZeros).first(static_cast<size_t>(count))));
            at += count;
        }
        return {};
    };
    for (;;) {
        const void* data = nullptr;
        size_t count = 0;
        la_int64_t offset = 0;
        int status = ::archive_read_data_block(archive_, &data, &count, &offset);
        if (status == ARCHIVE_EOF) break;
        if (status != ARCHIVE_OK) return archive_failure(archive_, feed_);
        auto begin = static_cast<uint64_t>(offset);
        if (offset < 0 || begin < at || begin > size_ || count > size_ - begin)
            return error("its pieces are out of order");
        TRY(zeros_until(begin));
        TRY(take({static_cast<const std::byte*>(data), count}));
        at += count;
    }
    return zeros_until(size_);
}

Result<uint64_t> TarReader::content_offset() const {
    if (::archive_entry_sparse_count(entry_) > 0) return error("it is a sparse file");
    auto at = ::archive_filter_bytes(archive_, 0);
    if (at < 0) return error("its place is unknown");
    return static_cast<uint64_t>(at);
}

} // namespace nullbox::importer
