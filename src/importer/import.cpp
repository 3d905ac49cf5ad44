#include "importer/import.h"

#include <set>
#include <unordered_map>

#include "base/text.h"
#include "importer/squashfs_writer.h"

namespace nullbox::importer {

namespace {

// Which node of the tree has the content of an entry, by layer and entry.
using Wanted = std::vector<std::unordered_map<uint64_t, const Node*>>;

struct Census {
    Summary& summary;
    Wanted& wanted;
    std::vector<const Node*> inline_files;
    std::set<const Node*> seen; // hard links share a node
};

void count(const Node& folder, Census& census) {
    for (const auto& [name, child] : folder.children) {
        if (!census.seen.insert(child.get()).second) continue;
        switch (child->kind) {
        case Kind::Folder:
            census.summary.folders++;
            count(*child, census);
            break;
        case Kind::Symlink:
            census.summary.symlinks++;
            break;
        case Kind::File:
            census.summary.files++;
            census.summary.unpacked_bytes += child->content.size;
            if (child->content.inline_bytes)
                census.inline_files.push_back(child.get());
            else if (child->content.size > 0)
                census.wanted[child->content.layer].emplace(child->content.entry, child.get());
            break;
        case Kind::HardLink:
        case Kind::Fifo:
        case Kind::Device:
            break;
        }
    }
}

Result<Tree> apply_layers(Source& source, const Request& request, Summary& summary, const Progress& progress,
                          uint64_t total) {
    Tree tree;
    auto left = request.limits;
    uint64_t done = 0, unpacked = 0;
    for (size_t i = 0; i < source.layers.size(); i++) {
        auto& layer = *source.layers[i];
        progress("reading", done, total);
        auto entries = TRY(layer.entries(left, unpacked).context(layer.name()));
        left.entries -= entries.size();
        auto notes = TRY(tree.apply(i, std::move(entries), request.limits).context(layer.name()));
        summary.devices += notes.devices;
        summary.stray_whiteouts += notes.stray_whiteouts;
        summary.sockets += layer.sockets_left_out;
        done += layer.packed_bytes();
    }
    progress("reading", total, total);
    return tree;
}

Result<> write_contents(Source& source, const Limits& limits, const Wanted& wanted, SquashfsWriter& writer,
                        const Progress& progress, uint64_t total) {
    uint64_t before = 0;
    for (size_t i = 0; i < source.layers.size(); i++) {
        uint64_t written = 0;
        ContentSink sink;
        std::optional<Error> failed;
        sink.wanted = [&](uint64_t entry) {
            auto found = wanted[i].find(entry);
            if (found == wanted[i].end()) return false;
            if (auto begun = writer.begin(*found->second); !begun) failed = begun.error();
            return true;
        };
        sink.take = [&](std::span<const std::byte> bytes) -> Result<> {
            if (failed) return *failed;
            written += bytes.size();
            return writer.append(bytes);
        };
        sink.end = [&](uint64_t) {
            // The end of it is told once, when the image is whole.
            if (before + written < total) progress("writing", before + written, total);
            return writer.end();
        };
        TRY(source.layers[i]->contents(limits, sink).context(source.layers[i]->name()));
        before += written;
    }
    return {};
}

Result<> write_inline(const std::vector<const Node*>& files, SquashfsWriter& writer) {
    for (const auto* file : files) {
        if (file->content.bytes.empty()) continue;
        TRY(writer.begin(*file));
        TRY(writer.append(std::as_bytes(std::span(file->content.bytes))));
        TRY(writer.end());
    }
    return {};
}

Result<> put_config(Tree& tree, const guest_link::ImageConfig& run) {
    auto text = guest_link::write_image_config(run);
    if (text.size() > guest_link::kMostImageConfigBytes)
        return error(cat("its command and environment have ", text.size(), " bytes, at most ",
                         guest_link::kMostImageConfigBytes));
    tree.put({".nullbox", "image"}, std::move(text));
    return {};
}

} // namespace

Result<Summary> import_image(const Request& request, int to, const Progress& progress) {
    auto source = TRY(open_source(request));
    Summary summary{.form = form_name(source.form), .layers = source.layers.size()};
    uint64_t packed = 0;
    for (const auto& layer : source.layers) packed += layer->packed_bytes();
    auto tree = TRY(apply_layers(source, request, summary, progress, packed).context(request.source));
    if (tree.root().children.empty()) return error(cat(request.source, ": there is no file in it"));
    if (source.run) TRY(put_config(tree, *source.run).context(request.source));
    Wanted wanted(source.layers.size());
    Census census{.summary = summary, .wanted = wanted};
    count(tree.root(), census);
    auto writer = TRY(SquashfsWriter::create(to));
    TRY(write_contents(source, request.limits, wanted, *writer, progress, summary.unpacked_bytes)
            .context(request.source));
    TRY(write_inline(census.inline_files, *writer));
    summary.image_bytes = TRY(writer->finish(tree));
    progress("writing", summary.unpacked_bytes, summary.unpacked_bytes);
    summary.run = std::move(source.run);
    return summary;
}

} // namespace nullbox::importer
