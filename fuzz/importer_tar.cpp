// Two layers as tars that somebody wrote, applied one on the other. Whatever comes, nothing of the tree that
// results lies outside of it or carries a name that no file system takes.
#include "base/check.h"
#include "importer/tree.h"

using namespace nullbox;
using namespace nullbox::importer;

namespace {

class Bytes : public ByteSource {
public:
    explicit Bytes(std::span<const std::byte> bytes) : bytes_(bytes) {}
    Result<size_t> read(std::span<std::byte> into) override {
        auto count = std::min({into.size(), bytes_.size(), size_t{700}}); // pieces that no block ends with
        std::copy_n(bytes_.begin(), count, into.begin());
        bytes_ = bytes_.subspan(count);
        return count;
    }

private:
    std::span<const std::byte> bytes_;
};

Result<std::vector<Entry>> read_all(std::span<const std::byte> bytes, const Limits& limits) {
    Bytes source(bytes);
    auto unpacked = TRY(UnpackedSource::open(source, Packing::Any, limits, 0));
    auto tar = TRY(TarReader::open(*unpacked));
    std::vector<Entry> entries;
    for (;;) {
        auto entry = TRY(tar->next());
        if (!entry || entries.size() == 1000) return entries;
        uint64_t count = 0;
        if (entry->kind == Kind::File && entry->size < 1 << 20) {
            auto read = tar->content([&](std::span<const std::byte> piece) -> Result<> {
                count += piece.size();
                return {};
            });
            CHECK(!read || count == entry->size);
        }
        entries.push_back(*std::move(entry));
    }
}

void check(const Node& folder, size_t depth) {
    CHECK(depth <= kMostDepth);
    for (const auto& [name, child] : folder.children) {
        CHECK(child && !name.empty() && name.size() <= kMostNameBytes && name != "." && name != "..");
        CHECK(!name.contains('/') && !name.contains('\0') && !name.starts_with(".wh."));
        CHECK(child->kind != Kind::HardLink && child->kind != Kind::Device);
        CHECK(child->kind == Kind::Folder || child->children.empty());
        check(*child, depth + 1);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) return 0;
    auto bytes = std::as_bytes(std::span(data, size)).subspan(2);
    size_t first = std::min<size_t>(bytes.size(), (data[0] | size_t{data[1]} << 8) * 512);
    Limits limits;
    limits.total_bytes = 8 << 20;
    limits.allow_stray_whiteouts = (data[1] & 0x80) != 0;
    Tree tree;
    size_t layer = 0;
    for (auto part : {bytes.first(first), bytes.subspan(first)}) {
        auto entries = read_all(part, limits);
        if (!entries || !tree.apply(layer++, *std::move(entries), limits)) return 0;
    }
    tree.put({".nullbox", "image"}, "x");
    check(tree.root(), 0);
    return 0;
}
