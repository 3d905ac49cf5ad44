#include "importer/tree.h"

#include <algorithm>

#include "base/text.h"

namespace nullbox::importer {

constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";
constexpr std::string_view kReserved = ".wh..wh."; // of the file system that began all this, and no files

// "./usr//bin/" is usr, bin: as tar reads it, and an absolute name is one below the image's root.
Result<Tree::Path> Tree::parts_of(const std::string& path) {
    Path parts;
    for (auto part : split(path, '/')) {
        if (part.empty() || part == ".") continue;
        if (part == "..") return error("its path has \"..\", which leads out of the image");
        if (part.size() > kMostNameBytes)
            return error(cat("its name has ", part.size(), " bytes, a file system takes ", kMostNameBytes));
        parts.emplace_back(part);
    }
    if (parts.size() > kMostDepth) return error(cat("it lies more than ", kMostDepth, " folders deep"));
    return parts;
}

// The folder that the first count parts name, through symbolic links as they are in the image: an absolute
// one begins at the image's root. make: folders that are missing are made. nullptr if it is missing, else.
Result<Node*> Tree::folder_at(const Path& path, size_t count, bool make) {
    std::vector<Node*> way{root_.get()};
    std::vector<std::string> rest(path.rend() - static_cast<ptrdiff_t>(count), path.rend()); // next is last
    size_t links = 0;
    while (!rest.empty()) {
        auto name = std::move(rest.back());
        rest.pop_back();
        if (name == "..") {
            if (way.size() == 1) return error("a symbolic link on its path leads out of the image");
            way.pop_back();
            continue;
        }
        auto& child = way.back()->children[name];
        if (!child) {
            if (!make) {
                way.back()->children.erase(name);
                return nullptr;
            }
            child = std::make_shared<Node>();
        }
        if (child->kind == Kind::Folder) {
            way.push_back(child.get());
            if (way.size() > kMostDepth) return error(cat("it lies more than ", kMostDepth, " folders deep"));
            continue;
        }
        if (child->kind != Kind::Symlink) return error(cat("\"", name, "\" on its path is not a folder"));
        if (++links > kMostSymlinks)
            return error(
                cat("more than ", kMostSymlinks, " symbolic links on its path; do they go in circles?"));
        auto parts = split(child->target, '/');
        if (child->target.starts_with('/')) way.resize(1);
        for (auto part = parts.rbegin(); part != parts.rend(); ++part)
            if (!part->empty() && *part != ".") rest.emplace_back(*part);
    }
    return way.back();
}

const Node* Tree::find(std::string_view path) const {
    const Node* at = root_.get();
    for (auto part : split(path, '/')) {
        if (part.empty()) continue;
        auto found = at->children.find(std::string(part));
        if (found == at->children.end()) return nullptr;
        at = found->second.get();
    }
    return at;
}

void Tree::put(const Path& path, std::string bytes) {
    auto* folder = root_.get();
    for (size_t i = 0; i + 1 < path.size(); i++) {
        auto& child = folder->children[path[i]];
        if (!child || child->kind != Kind::Folder) child = std::make_shared<Node>();
        folder = child.get();
    }
    auto file = std::make_shared<Node>(Node{.kind = Kind::File, .mode = 0644});
    file->content = {.size = bytes.size(), .bytes = std::move(bytes), .inline_bytes = true};
    folder->children[path.back()] = std::move(file);
}

static bool is_reserved(const std::vector<std::string>& path) {
    return std::ranges::any_of(
        path, [](const std::string& part) { return part.starts_with(kReserved) && part != kOpaque; });
}

// Looked up in the tree as the layers below left it; nothing is removed before all of them are looked up, so
// that a whiteout beside one of its folder is right.
Result<> Tree::note_whiteout(const Path& path, const Limits& limits, LayerNotes& notes,
                             std::vector<Whiteout>& found) {
    const auto& name = path.back();
    for (size_t i = 0; i + 1 < path.size(); i++)
        if (path[i].starts_with(kWhiteout)) return error("it lies in a whiteout, which is no folder");
    auto* folder = TRY(folder_at(path, path.size() - 1, false));
    if (name == kOpaque) { // of a folder that is new here, overlay file systems write it as well
        if (folder) found.push_back({.folder = folder});
        return {};
    }
    auto hidden = name.substr(kWhiteout.size());
    if (hidden.empty() || hidden == "." || hidden == "..")
        return error("it is a whiteout that names nothing");
    if (folder && folder->children.contains(hidden)) {
        found.push_back({.folder = folder, .name = std::move(hidden)});
        return {};
    }
    if (!limits.allow_stray_whiteouts)
        return error(
            "it is a whiteout of nothing: no layer below has that file. Are layers missing or out of "
            "order? If the image is meant so: --allow-stray-whiteouts");
    notes.stray_whiteouts++;
    return {};
}

Result<LayerNotes> Tree::apply(size_t layer, std::vector<Entry> entries, const Limits& limits) {
    LayerNotes notes;
    std::vector<Whiteout> whiteouts;
    std::vector<std::pair<Path, Entry*>> own;
    for (auto& entry : entries) {
        auto in_entry = [&](Error error) {
            return with_context(std::move(error), printable(entry.path, 256));
        };
        auto path = parts_of(entry.path);
        if (!path) return in_entry(std::move(path.error()));
        if (is_reserved(*path)) continue;
        bool in_whiteout =
            std::ranges::any_of(*path, [](const std::string& part) { return part.starts_with(kWhiteout); });
        if (!in_whiteout) {
            own.emplace_back(*std::move(path), &entry);
        } else if (!path->back().starts_with(kWhiteout)) {
            return in_entry(error("it lies in a whiteout, which is no folder"));
        } else if (auto noted = note_whiteout(*path, limits, notes, whiteouts); !noted) {
            return in_entry(std::move(noted.error()));
        }
    }
    // Kept until the end: one whiteout may lie in what another removes.
    std::vector<std::shared_ptr<Node>> removed;
    for (const auto& whiteout : whiteouts) {
        auto& children = whiteout.folder->children;
        for (auto& [name, child] : children)
            if (whiteout.name.empty() || name == whiteout.name) removed.push_back(child);
        if (whiteout.name.empty())
            children.clear();
        else
            children.erase(whiteout.name);
    }
    for (auto& [path, entry] : own) {
        auto name = printable(entry->path, 256);
        TRY(add(layer, std::move(*entry), path, notes).context(name));
    }
    return notes;
}

static void take_metadata(Node& node, Entry& entry) {
    node.mode = entry.mode;
    node.uid = entry.uid;
    node.gid = entry.gid;
    node.mtime = entry.mtime;
    node.xattrs = std::move(entry.xattrs);
}

Result<> Tree::add_link(const Entry& entry, const Path& path) {
    auto missing = [&](std::string_view why) {
        return error(cat("it is a hard link to \"", printable(entry.target, 256), "\", ", why));
    };
    auto target = parts_of(entry.target);
    if (!target) return missing("which leads out of the image");
    if (target->empty()) return missing("which is no file");
    auto* folder = TRY(folder_at(*target, target->size() - 1, false));
    auto found = folder ? folder->children.find(target->back()) : decltype(folder->children)::iterator();
    if (!folder || found == folder->children.end()) return missing("which is not there before it");
    if (found->second->kind == Kind::Folder) return missing("which is a folder");
    auto node = found->second;
    auto* own = TRY(folder_at(path, path.size() - 1, true));
    own->children[path.back()] = std::move(node);
    return {};
}

Result<> Tree::add(size_t layer, Entry entry, const Path& path, LayerNotes& notes) {
    if (path.empty()) {
        if (entry.kind != Kind::Folder) return error("it is the root of the image and must be a folder");
        take_metadata(*root_, entry);
        return {};
    }
    if (entry.kind == Kind::Device) {
        // The guest has a /dev of its own, which hides this one.
        if (path.front() != "dev" || path.size() < 2)
            return error(
                "it is a device node: an image has them below /dev, where they are left out, and nowhere "
                "else; remove it");
        notes.devices++;
        return {};
    }
    if (entry.kind == Kind::HardLink) return add_link(entry, path);
    auto* folder = TRY(folder_at(path, path.size() - 1, true));
    auto& slot = folder->children[path.back()];
    bool merged = slot && slot->kind == Kind::Folder && entry.kind == Kind::Folder;
    if (!merged) slot = std::make_shared<Node>(Node{.kind = entry.kind});
    slot->target = std::move(entry.target);
    slot->content = {.layer = layer, .entry = entry.number, .size = entry.size};
    take_metadata(*slot, entry);
    return {};
}

} // namespace nullbox::importer
