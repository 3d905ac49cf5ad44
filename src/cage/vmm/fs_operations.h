// The FUSE server of one share: one request in, its effect on the folder and an answer out (linux/fuse.h,
// protocol 7.31 and later; over virtio there is no negotiation but INIT). Knows no queue but the Chain that
// carries the request.
//
// Invariant: nothing is written, made or removed unless the share is writable, and nothing grows beyond its
// quota; the VM process's Landlock policy says the first once more. Owners and special bits are not the
// guest's business: everything belongs to the view's user, chown is refused, modes keep their executable bits
// only. Links of both kinds, devices, extended attributes and locks do not exist (locks then stay in the
// guest).
#pragma once

#include <map>

#include "cage/vmm/fs_inodes.h"
#include "cage/vmm/fs_quota.h"
#include "cage/vmm/fs_tree.h"
#include "cage/vmm/fuse_wire.h"
#include "cage/vmm/virtqueue.h"
#include "cage/vmm_channel.h"

namespace nullbox::cage {

class FsOperations {
public:
    static constexpr size_t kMostHandles = 512;             // open files and folders of one VM in one share
    static constexpr uint32_t kMostDataBytes = 512 << 10;   // of one READ or WRITE
    static constexpr size_t kMostDirectoryBytes = 64 << 10; // of one READDIR

    struct Options {
        FuseView view;
        FsQuota::Limits limits;
        size_t most_table_bytes = kSharesOverheadBytes; // for the files that the guest has looked at
    };
    FsOperations(FsTree tree, Options options);

    // Reads the arguments from the chain, writes what goes behind the answer's header: 0 or an errno value.
    int serve(const fuse_in_header& request, Chain& chain);
    void clear();

    size_t handles() const { return handles_.size(); }
    const InodeTable& inodes() const { return inodes_; }
    const FsQuota& quota() const { return quota_; }

private:
    struct Handle {
        Fd fd;
        uint64_t node = 0;
        uint64_t number = 0;
        bool folder = false;
        uint64_t position = 0; // of a folder: where its descriptor stands
    };
    using Arguments = FuseArguments&;

    Result<> dispatch(const fuse_in_header& request, Arguments arguments, Chain& chain);
    Result<> initialize(Arguments arguments, Chain& chain);
    Result<> statfs(Arguments arguments, Chain& chain);

    // Names: fs_names.cpp.
    Result<> lookup(uint64_t parent, Arguments arguments, Chain& chain);
    Result<> forget(uint64_t node, Arguments arguments);
    Result<> forget_batch(Arguments arguments);
    Result<> make_node(uint64_t parent, Arguments arguments, Chain& chain);
    Result<> make_folder(uint64_t parent, Arguments arguments, Chain& chain);
    Result<> remove(uint64_t parent, Arguments arguments, bool folder);
    Result<> rename(uint64_t parent, Arguments arguments, bool has_flags);
    Result<> move(uint64_t from, const std::string& old_name, uint64_t to, const std::string& new_name,
                  bool replace);
    Result<> access(uint64_t node, Arguments arguments);

    // Attributes: fs_attributes.cpp.
    Result<> get_attributes(uint64_t node, Arguments arguments, Chain& chain);
    Result<> set_attributes(uint64_t node, Arguments arguments, Chain& chain);
    Result<> resize(const Fd& file, uint64_t size);
    Result<struct stat> status_of(uint64_t node);
    fuse_attr_out attributes(const struct stat& status) const;
    Result<fuse_entry_out> entry(uint64_t parent, const std::string& name, const struct stat& status);

    // Open files and folders: fs_handles.cpp.
    Result<> open(uint64_t node, Arguments arguments, Chain& chain);
    Result<> create(uint64_t parent, Arguments arguments, Chain& chain);
    Result<> open_folder(uint64_t node, Arguments arguments, Chain& chain);
    Result<> read(Arguments arguments, Chain& chain);
    Result<> write(Chain& chain);
    Result<> read_folder(Arguments arguments, Chain& chain, bool with_attributes);
    bool list(const Handle& folder, const DirectoryEntry& found, bool with_attributes, size_t room);
    Result<> release(Arguments arguments);
    Result<> sync(Arguments arguments);
    Result<> allocate(Arguments arguments);
    Result<> seek(Arguments arguments, Chain& chain);

    Result<Fd> open_node(uint64_t node, int flags);
    Result<Fd> create_file(uint64_t parent, const std::string& name, int flags, uint32_t mode);
    Result<uint64_t> keep(Fd fd, uint64_t node, uint64_t number, bool folder);
    Result<Handle*> handle(uint64_t number, bool folder);
    const Handle* handle_of_number(uint64_t number) const;
    Result<> must_be_writable() const;
    Result<> may_grow(); // writable, and the quota knows what there is

    FsTree tree_;
    Options options_;
    InodeTable inodes_;
    FsQuota quota_;
    std::map<uint64_t, Handle> handles_;
    uint64_t next_handle_ = 1;
    bool initialized_ = false;
    std::string listing_; // of one READDIR
};

// A fixed answer; a chain without room for it is the guest's mistake.
template <typename T>
Result<> answer(Chain& chain, const T& value) {
    if (!chain.write(std::as_bytes(std::span(&value, 1)))) return failure(EINVAL);
    return {};
}

} // namespace nullbox::cage
