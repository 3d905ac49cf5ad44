#include "cage/vmm/fs_operations.h"

#include <algorithm>
#include <cerrno>
#include <sys/vfs.h>

namespace nullbox::cage {

constexpr uint32_t kWantedFlags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
                                  FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
                                  FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES;

FsOperations::FsOperations(FsTree tree, Options options)
    : tree_(std::move(tree)), options_(options), inodes_(tree_.root_number(), options_.most_table_bytes),
      quota_(options.limits) {}

void FsOperations::clear() {
    handles_.clear();
    inodes_.clear(tree_.root_number());
    tree_.clear();
    initialized_ = false;
}

Result<> FsOperations::must_be_writable() const {
    if (!options_.view.writable) return failure(EROFS);
    return {};
}

Result<> FsOperations::may_grow() {
    TRY(must_be_writable());
    return quota_.count(tree_);
}

int FsOperations::serve(const fuse_in_header& request, Chain& chain) {
    std::array<std::byte, kMostArgumentBytes> place;
    std::span<std::byte> bytes;
    if (request.opcode != FUSE_WRITE) { // whose bytes stay where they are
        if (chain.readable_bytes() > place.size()) return E2BIG;
        bytes = std::span(place).first(chain.readable_bytes());
        if (!chain.read(bytes)) return EINVAL;
    }
    if (!initialized_ && request.opcode != FUSE_INIT) return EIO;
    FuseArguments arguments(bytes);
    auto done = dispatch(request, arguments, chain);
    return done ? 0 : done.error().code;
}

Result<> FsOperations::dispatch(const fuse_in_header& request, Arguments arguments, Chain& chain) {
    uint64_t node = request.nodeid;
    switch (request.opcode) {
    case FUSE_INIT:
        return initialize(arguments, chain);
    case FUSE_DESTROY:
        clear();
        return {};
    case FUSE_STATFS:
        return statfs(arguments, chain);
    case FUSE_LOOKUP:
        return lookup(node, arguments, chain);
    case FUSE_FORGET:
        return forget(node, arguments);
    case FUSE_BATCH_FORGET:
        return forget_batch(arguments);
    case FUSE_GETATTR:
        return get_attributes(node, arguments, chain);
    case FUSE_SETATTR:
        return set_attributes(node, arguments, chain);
    case FUSE_ACCESS:
        return access(node, arguments);
    case FUSE_MKNOD:
        return make_node(node, arguments, chain);
    case FUSE_MKDIR:
        return make_folder(node, arguments, chain);
    case FUSE_UNLINK:
        return remove(node, arguments, false);
    case FUSE_RMDIR:
        return remove(node, arguments, true);
    case FUSE_RENAME:
        return rename(node, arguments, false);
    case FUSE_RENAME2:
        return rename(node, arguments, true);
    case FUSE_OPEN:
        return open(node, arguments, chain);
    case FUSE_CREATE:
        return create(node, arguments, chain);
    case FUSE_OPENDIR:
        return open_folder(node, arguments, chain);
    case FUSE_READ:
        return read(arguments, chain);
    case FUSE_WRITE:
        return write(chain);
    case FUSE_READDIR:
        return read_folder(arguments, chain, false);
    case FUSE_READDIRPLUS:
        return read_folder(arguments, chain, true);
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        return release(arguments);
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
        return sync(arguments);
    case FUSE_FALLOCATE:
        return allocate(arguments);
    case FUSE_LSEEK:
        return seek(arguments, chain);
    case FUSE_LINK:     // a second name would make a file's place and its quota ambiguous
    case FUSE_SYMLINK:  // a link that some other reader of the folder might follow
    case FUSE_READLINK: // there are none
        return failure(EPERM);
    default:
        // Flush among them: what was written has gone to the host's file already, there is nothing to wait
        // for. The guest's kernel remembers this answer and asks no more, for extended attributes too.
        return failure(ENOSYS);
    }
}

Result<> FsOperations::initialize(Arguments arguments, Chain& chain) {
    // The request has grown with the protocol; what we need was there from the start.
    struct Start {
        uint32_t major, minor, most_readahead, flags;
    };
    auto start = arguments.fixed<Start>();
    if (arguments.cut_short()) return failure(EINVAL);
    fuse_init_out out{};
    out.major = kFuseMajor;
    out.minor = std::min(start.minor, kMostFuseMinor);
    if (start.major > kFuseMajor) return answer(chain, out); // it asks again in our words
    if (start.major < kFuseMajor || start.minor < kLeastFuseMinor) return failure(EPROTO);
    clear();
    out.max_readahead = std::min(start.most_readahead, kMostDataBytes);
    out.flags = start.flags & kWantedFlags;
    out.max_background = 64;
    out.congestion_threshold = 48;
    out.max_write = kMostDataBytes;
    out.time_gran = 1;
    out.max_pages = kMostDataBytes / 4096;
    TRY(answer(chain, out));
    initialized_ = true;
    return {};
}

Result<> FsOperations::statfs(Arguments arguments, Chain& chain) {
    if (int wrong = arguments.error()) return failure(wrong);
    struct statfs real{};
    if (::fstatfs(tree_.root(), &real) < 0) return last_failure();
    fuse_statfs_out out{};
    constexpr uint32_t kBlock = 4096;
    auto to_blocks = [&](uint64_t blocks) { return blocks * static_cast<uint64_t>(real.f_bsize) / kBlock; };
    out.st = {.blocks = to_blocks(real.f_blocks),
              .bfree = to_blocks(real.f_bfree),
              .bavail = to_blocks(real.f_bavail),
              .files = real.f_files,
              .ffree = real.f_ffree,
              .bsize = kBlock,
              .namelen = kMostNameBytes,
              .frsize = kBlock};
    if (options_.view.writable && quota_.limited()) {
        (void)quota_.count(tree_); // a tree that cannot be counted shows as it is
        auto left = [](uint64_t most, uint64_t used) { return used < most ? most - used : 0; };
        const auto& limits = quota_.limits();
        if (limits.most_bytes) {
            out.st.blocks = limits.most_bytes / kBlock;
            out.st.bfree = std::min(out.st.bfree, left(limits.most_bytes, quota_.used_bytes()) / kBlock);
            out.st.bavail = std::min(out.st.bavail, out.st.bfree);
        }
        if (limits.most_files) {
            out.st.files = limits.most_files;
            out.st.ffree = std::min(out.st.ffree, left(limits.most_files, quota_.used_files()));
        }
    }
    return answer(chain, out);
}

} // namespace nullbox::cage
