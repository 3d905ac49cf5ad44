#include "cage/vmm/fs_inodes.h"

#include <algorithm>
#include <cerrno>

namespace nullbox::cage {

// Two hash table nodes with their buckets, as libc++ and the allocator make them, and the name.
size_t InodeTable::bytes_of(const Inode& inode) { return 192 + inode.name.capacity(); }

void InodeTable::clear(uint64_t root_number) {
    nodes_.clear();
    by_number_.clear();
    nodes_[kRootNode] = {.number = root_number, .lookups = 1, .folder = true};
    by_number_[root_number] = kRootNode;
    bytes_ = 0;
}

const Inode* InodeTable::find(uint64_t node) const {
    auto found = nodes_.find(node);
    return found == nodes_.end() ? nullptr : &found->second;
}

Result<std::vector<uint64_t>> InodeTable::way(uint64_t node) const {
    std::vector<uint64_t> nodes;
    while (node != kRootNode) {
        const Inode* inode = find(node);
        if (!inode) return Error{.code = ESTALE, .message = {}};
        if (nodes.size() == kMostDepth) return Error{.code = ELOOP, .message = {}};
        nodes.push_back(node);
        node = inode->parent;
    }
    std::ranges::reverse(nodes);
    return nodes;
}

std::optional<uint64_t> InodeTable::remember(const Place& place) {
    move(place);
    auto known = by_number_.find(place.number);
    if (known != by_number_.end()) {
        Inode& inode = nodes_.find(known->second)->second;
        if (inode.folder == place.folder) {
            ++inode.lookups;
            return known->second;
        }
        // The number was freed and taken again by something else.
    }
    Inode inode{.parent = place.parent,
                .name = place.name,
                .number = place.number,
                .lookups = 1,
                .folder = place.folder};
    if (bytes_ + bytes_of(inode) > most_bytes_) return std::nullopt;
    bytes_ += bytes_of(inode);
    by_number_[place.number] = next_node_;
    nodes_.emplace(next_node_, std::move(inode));
    return next_node_++;
}

void InodeTable::move(const Place& place) {
    auto known = by_number_.find(place.number);
    if (known == by_number_.end() || known->second == kRootNode) return;
    Inode& inode = nodes_.find(known->second)->second;
    bytes_ -= bytes_of(inode);
    inode.parent = place.parent;
    if (inode.name != place.name) inode.name = place.name;
    bytes_ += bytes_of(inode);
}

void InodeTable::forget(uint64_t node, uint64_t lookups) {
    auto found = nodes_.find(node);
    if (found == nodes_.end() || node == kRootNode) return;
    Inode& inode = found->second;
    inode.lookups -= std::min(lookups, inode.lookups); // guest-controlled: no more than there are
    if (inode.lookups > 0) return;
    auto named = by_number_.find(inode.number);
    if (named != by_number_.end() && named->second == node) by_number_.erase(named);
    bytes_ -= bytes_of(inode);
    nodes_.erase(found);
}

} // namespace nullbox::cage
