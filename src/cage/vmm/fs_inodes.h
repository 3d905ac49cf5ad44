// The files and folders that a guest holds a number for (FUSE's node ids), and where each was last seen: its
// parent's node and its name there. No system calls, no descriptors: a guest that has looked at a hundred
// thousand files costs memory only, up to a bound.
//
// Invariant: a node id is given out once and never again, so a stale or made-up one finds nobody. Two names
// of one file are one node. A parent may be gone (a hostile guest forgets it) and parents may form a circle
// (another VM moves folders about): way() is bounded and says so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"

namespace nullbox::cage {

constexpr uint64_t kRootNode = 1;
constexpr size_t kMostDepth = 256; // folders between the share and a file

struct Inode {
    uint64_t parent = 0;
    std::string name;    // in the parent
    uint64_t number = 0; // the host's inode number, unique in a share: it never leaves one file system
    uint64_t lookups = 0;
    bool folder = false;
};

class InodeTable {
public:
    InodeTable(uint64_t root_number, size_t most_bytes) : most_bytes_(most_bytes) { clear(root_number); }
    void clear(uint64_t root_number);

    const Inode* find(uint64_t node) const;
    struct Place {
        uint64_t parent;
        const std::string& name;
        uint64_t number;
        bool folder;
    };
    // One lookup more of what lies there; its node. Nothing if the table is full.
    std::optional<uint64_t> remember(const Place& place);
    void forget(uint64_t node, uint64_t lookups);
    // What lies there now was elsewhere before, if it is known at all.
    void move(const Place& place);
    // The nodes from the first below the root to this one. ESTALE: there is no way any more; ELOOP: a circle,
    // or too deep.
    Result<std::vector<uint64_t>> way(uint64_t node) const;
    size_t size() const { return nodes_.size(); }
    size_t bytes() const { return bytes_; }

private:
    static size_t bytes_of(const Inode& inode);

    std::unordered_map<uint64_t, Inode> nodes_;
    std::unordered_map<uint64_t, uint64_t> by_number_;
    uint64_t next_node_ = kRootNode + 1;
    size_t bytes_ = 0, most_bytes_;
};

} // namespace nullbox::cage
