// The files of an image as a tree in memory: what each is, and where its bytes are, never the bytes. Layers
// are applied to it one after the other, as the OCI image specification says (layer.md): whiteouts first,
// against the layers below, then the layer's own entries, of which the last of a name counts. Pure; nothing
// here can name a file of the computer it runs on, so that a path can only be wrong, not dangerous.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "importer/tar_reader.h"

namespace nullbox::importer {

struct Content { // of a file: which entry of which layer; or the bytes themselves
    size_t layer = 0;
    uint64_t entry = 0;
    uint64_t size = 0;
    std::string bytes; // instead, if inline_bytes
    bool inline_bytes = false;
};

struct Node {                 // an inode: hard links share it
    Kind kind = Kind::Folder; // no HardLink, no Device
    uint32_t mode = 0755, uid = 0, gid = 0, mtime = 0;
    std::string target; // of a symbolic link
    std::vector<std::pair<std::string, std::string>> xattrs;
    Content content;
    std::map<std::string, std::shared_ptr<Node>> children; // of a folder, in the order SquashFS wants
};

struct LayerNotes { // what was left out, for the summary
    uint64_t devices = 0;
    uint64_t stray_whiteouts = 0;
};

class Tree {
public:
    // The entries in their order. layer: its number, for Content. An error names the entry; the tree is of no
    // use after it.
    Result<LayerNotes> apply(size_t layer, std::vector<Entry> entries, const Limits& limits);
    // Puts a file there, whatever was there before.
    void put(const std::vector<std::string>& path, std::string bytes);
    // nullptr if there is none; follows no symbolic link.
    const Node* find(std::string_view path) const;
    const Node& root() const { return *root_; }
    Node& root() { return *root_; }

private:
    using Path = std::vector<std::string>;
    struct Whiteout {
        Node* folder = nullptr;
        std::string name; // empty: all that is in it
    };
    static Result<Path> parts_of(const std::string& path);
    Result<Node*> folder_at(const Path& path, size_t count, bool make);
    Result<> note_whiteout(const Path& path, const Limits& limits, LayerNotes& notes,
                           std::vector<Whiteout>& found);
    Result<> add(size_t layer, Entry entry, const Path& path, LayerNotes& notes);
    Result<> add_link(const Entry& entry, const Path& path);

    std::shared_ptr<Node> root_ = std::make_shared<Node>();
};

} // namespace nullbox::importer
