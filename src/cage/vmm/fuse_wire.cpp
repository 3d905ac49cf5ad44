#include "cage/vmm/fuse_wire.h"

namespace nullbox::cage {

std::string FuseArguments::name() {
    if (error_) return {};
    std::string_view text(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
    size_t end = text.find('\0');
    if (end == text.npos) return fail(EINVAL), std::string();
    text = text.substr(0, end);
    bytes_ = bytes_.subspan(end + 1);
    if (text.size() > kMostNameBytes) return fail(ENAMETOOLONG), std::string();
    if (text.empty() || text.contains('/') || text == "." || text == "..") return fail(EINVAL), std::string();
    return std::string(text);
}

fuse_attr attributes_of(const struct stat& status, const FuseView& view) {
    uint32_t may = status.st_mode & (view.writable ? 7 : 5);
    fuse_attr attributes{};
    attributes.ino = status.st_ino;
    attributes.size = static_cast<uint64_t>(status.st_size);
    attributes.blocks = static_cast<uint64_t>(status.st_blocks);
    attributes.atime = static_cast<uint64_t>(status.st_atim.tv_sec);
    attributes.mtime = static_cast<uint64_t>(status.st_mtim.tv_sec);
    attributes.ctime = static_cast<uint64_t>(status.st_ctim.tv_sec);
    attributes.atimensec = static_cast<uint32_t>(status.st_atim.tv_nsec);
    attributes.mtimensec = static_cast<uint32_t>(status.st_mtim.tv_nsec);
    attributes.ctimensec = static_cast<uint32_t>(status.st_ctim.tv_nsec);
    attributes.mode = (status.st_mode & S_IFMT) | may << 6 | may << 3 | may;
    attributes.nlink = static_cast<uint32_t>(status.st_nlink);
    attributes.uid = view.uid;
    attributes.gid = view.gid;
    attributes.blksize = static_cast<uint32_t>(status.st_blksize);
    return attributes;
}

size_t directory_entry_bytes(const DirectoryEntry& entry, bool with_attributes) {
    size_t before = with_attributes ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
    return FUSE_REC_ALIGN(before + entry.name.size());
}

void append_directory_entry(std::string& out, const DirectoryEntry& entry, const fuse_entry_out* attributes) {
    size_t end = out.size() + directory_entry_bytes(entry, attributes != nullptr);
    auto append = [&](const void* bytes, size_t count) {
        out.append(static_cast<const char*>(bytes), count);
    };
    if (attributes) append(attributes, sizeof *attributes);
    const fuse_dirent header{.ino = entry.number,
                             .off = entry.next,
                             .namelen = static_cast<uint32_t>(entry.name.size()),
                             .type = entry.type};
    append(&header, FUSE_NAME_OFFSET);
    out += entry.name;
    out.resize(end, '\0');
}

} // namespace nullbox::cage
