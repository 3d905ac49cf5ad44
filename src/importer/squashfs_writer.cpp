#include "importer/squashfs_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sqfs/block_processor.h>
#include <sqfs/block_writer.h>
#include <sqfs/compressor.h>
#include <sqfs/dir_writer.h>
#include <sqfs/error.h>
#include <sqfs/frag_table.h>
#include <sqfs/id_table.h>
#include <sqfs/inode.h>
#include <sqfs/io.h>
#include <sqfs/meta_writer.h>
#include <sqfs/super.h>
#include <sqfs/xattr_writer.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <thread>
#include <unistd.h>
#include <unordered_map>

#include "base/check.h"
#include "base/text.h"

namespace nullbox::importer {

constexpr size_t kBlockBytes = size_t{128} << 10;
constexpr size_t kDeviceBlockBytes = 4096;
constexpr uint32_t kNoXattr = 0xffffffff;
constexpr uint32_t kTime = 1'700'000'000; // of the image itself; a date would say nothing
constexpr uint32_t kMostWorkers = 8;

namespace {

// A call through a pointer that libsquashfs put into its object, of which CFI does not know. Not
// sqfs_destroy(), which is compiled here as well, with the check.
[[clang::no_sanitize("cfi-icall")]] void destroy(void* object) {
    auto* base = static_cast<sqfs_object_t*>(object);
    if (base) base->destroy(base);
}

struct Destroy {
    void operator()(void* object) const { destroy(object); }
};
template <typename T>
using Object = std::unique_ptr<T, Destroy>;
struct FreeInode {
    void operator()(sqfs_inode_generic_t* inode) const { std::free(inode); }
};
using Inode = std::unique_ptr<sqfs_inode_generic_t, FreeInode>;

// A file of ours as libsquashfs wants it.
struct OutputFile : sqfs_file_t {
    int fd;
    uint64_t size = 0;
    int failure = 0; // the errno value of the first call that failed
};

OutputFile& of(const sqfs_file_t* file) {
    return *const_cast<OutputFile*>(static_cast<const OutputFile*>(file));
}

int read_at(sqfs_file_t* file, sqfs_u64 offset, void* buffer, size_t size) {
    auto* out = static_cast<std::byte*>(buffer);
    while (size > 0) {
        ssize_t count = ::pread(of(file).fd, out, size, static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return count < 0 ? SQFS_ERROR_IO : SQFS_ERROR_OUT_OF_BOUNDS;
        out += count;
        offset += static_cast<uint64_t>(count);
        size -= static_cast<size_t>(count);
    }
    return 0;
}

int write_at(sqfs_file_t* file, sqfs_u64 offset, const void* buffer, size_t size) {
    const auto* from = static_cast<const std::byte*>(buffer);
    while (size > 0) {
        ssize_t count = ::pwrite(of(file).fd, from, size, static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
            of(file).failure = errno;
            return SQFS_ERROR_IO;
        }
        from += count;
        offset += static_cast<uint64_t>(count);
        size -= static_cast<size_t>(count);
    }
    of(file).size = std::max(of(file).size, uint64_t{offset});
    return 0;
}

sqfs_u64 size_of(const sqfs_file_t* file) { return of(file).size; }

int truncate(sqfs_file_t* file, sqfs_u64 size) {
    if (::ftruncate(of(file).fd, static_cast<off_t>(size)) < 0) {
        of(file).failure = errno;
        return SQFS_ERROR_IO;
    }
    of(file).size = size;
    return 0;
}

std::string_view reason(int status) {
    switch (status) {
    case SQFS_ERROR_ALLOC:
        return "out of memory";
    case SQFS_ERROR_IO:
        return "the file cannot be read or written";
    case SQFS_ERROR_OVERFLOW:
        return "a number is too large for SquashFS";
    case SQFS_ERROR_COMPRESSOR:
        return "zstd failed";
    default:
        return "libsquashfs failed";
    }
}

uint32_t file_type(Kind kind) {
    switch (kind) {
    case Kind::Folder:
        return S_IFDIR;
    case Kind::Symlink:
        return S_IFLNK;
    case Kind::Fifo:
        return S_IFIFO;
    case Kind::File:
    case Kind::HardLink: // not in a tree
    case Kind::Device:
        break;
    }
    return S_IFREG;
}

struct Place { // of an inode
    uint32_t number = 0;
    uint32_t links = 0;
    uint64_t reference = 0;
    bool written = false;
};

} // namespace

struct SquashfsWriter::Impl {
    OutputFile file{};
    sqfs_super_t super{};
    Object<sqfs_compressor_t> compressor, decompressor;
    Object<sqfs_id_table_t> ids;
    Object<sqfs_frag_table_t> fragments;
    Object<sqfs_block_writer_t> blocks;
    Object<sqfs_block_processor_t> processor;
    Object<sqfs_xattr_writer_t> xattrs;
    Object<sqfs_meta_writer_t> inode_blocks, folder_blocks;
    Object<sqfs_dir_writer_t> folders;
    // The processor fills these until it is told to finish. Elements of the map stay where they are.
    std::unordered_map<const Node*, sqfs_inode_generic_t*> contents;
    std::unordered_map<const Node*, Place> places;
    uint32_t next_number = 1;

    ~Impl() {
        processor.reset(); // its workers may still write to the inodes
        for (auto& [node, inode] : contents) std::free(inode);
    }
    Result<> check(int status, std::string_view doing) const;
    Result<> open(int fd);
    Result<> open_tables();
    void number(const Node& folder);
    Result<Inode> inode_of(const Node& node);
    Result<> fill(sqfs_inode_generic_t& inode, const Node& node);
    Result<uint32_t> xattrs_of(const Node& node);
    Result<> put(const Node& node, Inode inode);
    Result<> put_folder(const Node& folder, uint32_t parent);
    Result<> write_tables();
};

Result<> SquashfsWriter::Impl::check(int status, std::string_view doing) const {
    if (status >= 0) return {};
    if (file.failure != 0) return errno_error(file.failure, "write the image");
    return error(cat(doing, ": ", reason(status)));
}

static Result<Object<sqfs_compressor_t>> make_compressor(uint16_t flags) {
    sqfs_compressor_config_t config{};
    sqfs_compressor_t* made = nullptr;
    if (::sqfs_compressor_config_init(&config, SQFS_COMP_ZSTD, kBlockBytes, flags) != 0 ||
        ::sqfs_compressor_create(&config, &made) != 0)
        return error("make a zstd compressor: libsquashfs has none");
    return Object<sqfs_compressor_t>(made);
}

Result<> SquashfsWriter::Impl::open(int fd) {
    file.base.destroy = [](sqfs_object_t*) {}; // it is ours
    file.read_at = read_at;
    file.write_at = write_at;
    file.get_size = size_of;
    file.truncate = truncate;
    file.fd = fd;
    TRY(check(::sqfs_super_init(&super, kBlockBytes, kTime, SQFS_COMP_ZSTD), "begin the image"));
    TRY(check(::sqfs_super_write(&super, &file), "begin the image"));
    compressor = TRY(make_compressor(0));
    decompressor = TRY(make_compressor(SQFS_COMP_FLAG_UNCOMPRESS));
    return open_tables();
}

Result<> SquashfsWriter::Impl::open_tables() {
    ids.reset(::sqfs_id_table_create(0));
    fragments.reset(::sqfs_frag_table_create(0));
    blocks.reset(::sqfs_block_writer_create(&file, kDeviceBlockBytes, 0));
    xattrs.reset(::sqfs_xattr_writer_create(0));
    inode_blocks.reset(::sqfs_meta_writer_create(&file, compressor.get(), 0));
    folder_blocks.reset(::sqfs_meta_writer_create(&file, compressor.get(), SQFS_META_WRITER_KEEP_IN_MEMORY));
    bool made = ids && fragments && blocks && xattrs && inode_blocks && folder_blocks;
    if (made) folders.reset(::sqfs_dir_writer_create(folder_blocks.get(), 0));
    if (!made || !folders) return error("begin the image: out of memory");
    sqfs_block_processor_desc_t wanted{};
    wanted.size = sizeof wanted;
    wanted.max_block_size = kBlockBytes;
    wanted.num_workers = std::clamp(std::thread::hardware_concurrency(), 1U, kMostWorkers);
    wanted.max_backlog = 10 * wanted.num_workers;
    wanted.cmp = compressor.get();
    wanted.wr = blocks.get();
    wanted.tbl = fragments.get();
    wanted.file = &file; // equal tails are compared byte by byte, not by their checksum
    wanted.uncmp = decompressor.get();
    sqfs_block_processor_t* created = nullptr;
    TRY(check(::sqfs_block_processor_create_ex(&wanted, &created), "begin the image"));
    processor.reset(created);
    return {};
}

SquashfsWriter::SquashfsWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SquashfsWriter::~SquashfsWriter() = default;

Result<std::unique_ptr<SquashfsWriter>> SquashfsWriter::create(int fd) {
    auto impl = std::make_unique<Impl>();
    TRY(impl->open(fd));
    return std::unique_ptr<SquashfsWriter>(new SquashfsWriter(std::move(impl)));
}

Result<> SquashfsWriter::begin(const Node& node) {
    auto [slot, fresh] = impl_->contents.emplace(&node, nullptr);
    CHECK(fresh);
    return impl_->check(::sqfs_block_processor_begin_file(impl_->processor.get(), &slot->second, nullptr, 0),
                        "begin a file");
}

Result<> SquashfsWriter::append(std::span<const std::byte> bytes) {
    return impl_->check(::sqfs_block_processor_append(impl_->processor.get(), bytes.data(), bytes.size()),
                        "write a file");
}

Result<> SquashfsWriter::end() {
    return impl_->check(::sqfs_block_processor_end_file(impl_->processor.get()), "end a file");
}

// Children of one folder get numbers in a row, which its entries then say in few bytes.
void SquashfsWriter::Impl::number(const Node& folder) {
    for (const auto& [name, child] : folder.children)
        if (child->kind == Kind::Folder) number(*child);
    for (const auto& [name, child] : folder.children) {
        auto& place = places[child.get()];
        if (place.links++ == 0) place.number = next_number++;
    }
}

Result<uint32_t> SquashfsWriter::Impl::xattrs_of(const Node& node) {
    if (node.xattrs.empty()) return kNoXattr;
    TRY(check(::sqfs_xattr_writer_begin(xattrs.get(), 0), "write extended attributes"));
    for (const auto& [name, value] : node.xattrs)
        TRY(check(::sqfs_xattr_writer_add(xattrs.get(), name.c_str(), value.data(), value.size()),
                  cat("write the extended attribute ", printable(name, 64))));
    sqfs_u32 index = kNoXattr;
    TRY(check(::sqfs_xattr_writer_end(xattrs.get(), &index), "write extended attributes"));
    return uint32_t{index};
}

// All but folders, which are made from their entries.
Result<Inode> SquashfsWriter::Impl::inode_of(const Node& node) {
    if (node.kind == Kind::File) {
        auto content = contents.find(&node);
        if (content != contents.end() && content->second)
            return Inode(std::exchange(content->second, nullptr));
    }
    Inode inode(static_cast<sqfs_inode_generic_t*>(
        std::calloc(1, sizeof(sqfs_inode_generic_t) + node.target.size() + 1)));
    if (!inode) return error("out of memory");
    if (node.kind == Kind::Symlink) {
        inode->base.type = SQFS_INODE_SLINK;
        inode->data.slink.target_size = static_cast<uint32_t>(node.target.size());
        inode->payload_bytes_available = static_cast<uint32_t>(node.target.size());
        inode->payload_bytes_used = static_cast<uint32_t>(node.target.size());
        std::memcpy(inode->extra, node.target.data(), node.target.size());
    } else if (node.kind == Kind::Fifo) {
        inode->base.type = SQFS_INODE_FIFO;
    } else {
        inode->base.type = SQFS_INODE_FILE;
        TRY(check(::sqfs_inode_set_frag_location(inode.get(), 0xffffffff, 0xffffffff),
                  "write an empty file"));
    }
    return inode;
}

// Numbers, owner, mode, links, attributes: what every kind has.
Result<> SquashfsWriter::Impl::fill(sqfs_inode_generic_t& inode, const Node& node) {
    inode.base.mode = static_cast<sqfs_u16>(file_type(node.kind) | node.mode);
    inode.base.mod_time = node.mtime;
    inode.base.inode_number = places.at(&node).number;
    TRY(check(::sqfs_id_table_id_to_index(ids.get(), node.uid, &inode.base.uid_idx),
              "more than 65536 different owners"));
    TRY(check(::sqfs_id_table_id_to_index(ids.get(), node.gid, &inode.base.gid_idx),
              "more than 65536 different owners"));
    if (node.kind != Kind::Folder) { // dir_writer has said it for a folder
        auto index = TRY(xattrs_of(node));
        auto links = places.at(&node).links;
        bool extended = index != kNoXattr || (node.kind == Kind::File && links > 1);
        if (extended) TRY(check(::sqfs_inode_make_extended(&inode), "write an inode"));
        if (index != kNoXattr) TRY(check(::sqfs_inode_set_xattr_index(&inode, index), "write an inode"));
        switch (inode.base.type) {
        case SQFS_INODE_EXT_FILE:
            inode.data.file_ext.nlink = links;
            break;
        case SQFS_INODE_SLINK:
        case SQFS_INODE_EXT_SLINK:
            inode.data.slink.nlink = links; // at the same place in both
            break;
        case SQFS_INODE_FIFO:
        case SQFS_INODE_EXT_FIFO:
            inode.data.ipc.nlink = links;
            break;
        default:
            break;
        }
    }
    return {};
}

Result<> SquashfsWriter::Impl::put(const Node& node, Inode inode) {
    TRY(fill(*inode, node));
    sqfs_u64 block = 0;
    sqfs_u32 offset = 0;
    ::sqfs_meta_writer_get_position(inode_blocks.get(), &block, &offset);
    auto& place = places.at(&node);
    place.reference = (uint64_t{block} << 16) | offset;
    place.written = true;
    return check(::sqfs_meta_writer_write_inode(inode_blocks.get(), inode.get()), "write an inode");
}

// Depth first: an entry says where its inode is.
Result<> SquashfsWriter::Impl::put_folder(const Node& folder, uint32_t parent) {
    uint32_t own = places.at(&folder).number, subfolders = 0;
    for (const auto& [name, child] : folder.children) {
        if (child->kind == Kind::Folder) {
            TRY(put_folder(*child, own));
            subfolders++;
        } else if (!places.at(child.get()).written) {
            auto inode = inode_of(*child);
            if (!inode) return std::move(inode.error());
            TRY(put(*child, *std::move(inode)).context(printable(name, 256)));
        }
    }
    TRY(check(::sqfs_dir_writer_begin(folders.get(), 0), "begin a folder"));
    for (const auto& [name, child] : folder.children) {
        const auto& place = places.at(child.get());
        TRY(check(::sqfs_dir_writer_add_entry(folders.get(), name.c_str(), place.number, place.reference,
                                              static_cast<sqfs_u16>(file_type(child->kind))),
                  cat("write the entry ", printable(name, 256))));
    }
    TRY(check(::sqfs_dir_writer_end(folders.get()), "end a folder"));
    Inode inode(::sqfs_dir_writer_create_inode(folders.get(), 0, TRY(xattrs_of(folder)), parent));
    if (!inode) return error("write a folder: out of memory");
    auto links = subfolders + 2;
    if (inode->base.type == SQFS_INODE_EXT_DIR)
        inode->data.dir_ext.nlink = links;
    else
        inode->data.dir.nlink = links;
    return put(folder, std::move(inode));
}

Result<> SquashfsWriter::Impl::write_tables() {
    auto* to = &file;
    TRY(check(::sqfs_meta_writer_flush(inode_blocks.get()), "write the inodes"));
    TRY(check(::sqfs_meta_writer_flush(folder_blocks.get()), "write the folders"));
    super.directory_table_start = file.size;
    TRY(check(::sqfs_meta_write_write_to_file(folder_blocks.get()), "write the folders"));
    TRY(check(::sqfs_frag_table_write(fragments.get(), to, &super, compressor.get()), "write the fragments"));
    TRY(check(::sqfs_id_table_write(ids.get(), to, &super, compressor.get()), "write the owners"));
    TRY(check(::sqfs_xattr_writer_flush(xattrs.get(), to, &super, compressor.get()),
              "write extended attributes"));
    super.bytes_used = file.size;
    TRY(check(::sqfs_super_write(&super, to), "write the superblock"));
    auto whole = (file.size + kDeviceBlockBytes - 1) / kDeviceBlockBytes * kDeviceBlockBytes;
    return check(truncate(to, whole), "end the image");
}

Result<uint64_t> SquashfsWriter::finish(const Tree& tree) {
    auto& impl = *impl_;
    TRY(impl.check(::sqfs_block_processor_finish(impl.processor.get()), "write the files"));
    impl.number(tree.root());
    auto& root = impl.places[&tree.root()];
    root = {.number = impl.next_number, .links = 1};
    impl.super.inode_count = impl.next_number;
    impl.super.inode_table_start = impl.file.size;
    TRY(impl.put_folder(tree.root(), impl.next_number + 1));
    impl.super.root_inode_ref = impl.places.at(&tree.root()).reference;
    TRY(impl.write_tables());
    return impl.file.size;
}

} // namespace nullbox::importer
