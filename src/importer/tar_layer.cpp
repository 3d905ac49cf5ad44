#include "base/text.h"
#include "importer/layer.h"

namespace nullbox::importer {

namespace {

// Knows how many zeros the bytes end with: a tar ends with blocks of them.
class EndWatch : public ByteSource {
public:
    explicit EndWatch(ByteSource& below) : below_(below) {}
    Result<size_t> read(std::span<std::byte> into) override {
        auto count = TRY(below_.read(into));
        auto bytes = into.first(count);
        size_t zeros = 0;
        while (zeros < count && bytes[count - 1 - zeros] == std::byte{0}) zeros++;
        zeros_ = zeros == count ? zeros_ + zeros : zeros;
        return count;
    }
    bool has_end_mark() const { return zeros_ >= 512; }

private:
    ByteSource& below_;
    uint64_t zeros_ = 0;
};

class TarLayerImpl : public Layer {
public:
    explicit TarLayerImpl(TarLayer layer) : layer_(std::move(layer)) {}
    const std::string& name() const override { return layer_.name; }
    uint64_t packed_bytes() const override { return layer_.blob.size; }
    Result<std::vector<Entry>> entries(const Limits& limits, uint64_t& unpacked) override;
    Result<> contents(const Limits& limits, const ContentSink& sink) override;

private:
    Result<> check_blob() const;
    Result<uint64_t> read(const Limits& limits, uint64_t before,
                          const std::function<Result<>(Entry, TarReader&)>& each);
    TarLayer layer_;
};

// Before anything unpacks it: a blob that is not what the manifest says meets no decompressor.
Result<> TarLayerImpl::check_blob() const {
    if (layer_.digest.empty()) return {};
    auto bytes = layer_.blob.bytes();
    HashedSource hashed(bytes);
    TRY(hashed.drain());
    auto found = cat("sha256:", hashed.finish_hex());
    if (found == layer_.digest) return {};
    return error(
        cat("its digest is ", found, ", the manifest says ", layer_.digest, ": it is damaged or another"));
}

Result<uint64_t> TarLayerImpl::read(const Limits& limits, uint64_t before,
                                    const std::function<Result<>(Entry, TarReader&)>& each) {
    auto bytes = layer_.blob.bytes();
    auto unpacked = TRY(UnpackedSource::open(bytes, layer_.packing, limits, before));
    EndWatch watched(*unpacked);
    HashedSource hashed(watched);
    auto tar = TRY(TarReader::open(hashed));
    while (auto entry = TRY(tar->next())) {
        auto path = printable(entry->path, 256);
        TRY(each(*std::move(entry), *tar).context(path));
    }
    TRY(hashed.drain());
    auto found = cat("sha256:", hashed.finish_hex());
    if (layer_.diff_id.empty()) {
        if (!watched.has_end_mark())
            return error("cut off: it ends without the mark that a tar ends with; copy it again");
        layer_.diff_id = found; // what it must be when it is read again
    } else if (found != layer_.diff_id) {
        return error(cat("what it unpacks to has the digest ", found, ", the configuration says ",
                         layer_.diff_id, ": the layers are mixed up, or it is damaged"));
    }
    return unpacked->count();
}

static Result<> check_size(const Entry& entry, const Limits& limits, uint64_t& files) {
    if (entry.kind != Kind::File) return {};
    if (entry.size > limits.file_bytes)
        return error(cat("it has ", entry.size, " bytes, more than ", limits.file_bytes >> 20,
                         " MB, the limit: if it is meant to, raise it with --max-file-mb"));
    files += entry.size; // holes count here
    if (files > limits.total_bytes)
        return error(cat("the files have more than ", limits.total_bytes >> 20,
                         " MB in all, the limit: if they are meant to, raise it with --max-total-mb"));
    return {};
}

Result<std::vector<Entry>> TarLayerImpl::entries(const Limits& limits, uint64_t& unpacked) {
    TRY(check_blob());
    std::vector<Entry> entries;
    uint64_t files = unpacked;
    auto count = TRY(read(limits, unpacked, [&](Entry entry, TarReader&) -> Result<> {
        if (entries.size() == limits.entries)
            return error(cat("more than ", limits.entries,
                             " entries, the limit: if they are meant, raise it with --max-entries"));
        TRY(check_size(entry, limits, files));
        entries.push_back(std::move(entry));
        return {};
    }));
    unpacked = std::max(unpacked + count, files);
    return entries;
}

Result<> TarLayerImpl::contents(const Limits& limits, const ContentSink& sink) {
    (void)TRY(read(limits, 0, [&](const Entry& entry, TarReader& tar) -> Result<> {
        if (entry.kind != Kind::File || entry.size == 0 || !sink.wanted(entry.number)) return {};
        TRY(tar.content(sink.take));
        return sink.end(entry.number);
    }));
    return {};
}

} // namespace

std::unique_ptr<Layer> tar_layer(TarLayer layer) { return std::make_unique<TarLayerImpl>(std::move(layer)); }

} // namespace nullbox::importer
