#include "cage/vmm/fs.h"

#include <algorithm>

#include "base/text.h"

namespace nullbox::cage {

Result<std::unique_ptr<FsDevice>> FsDevice::make(Fd folder, Options options) {
    if (options.tag.empty() || options.tag.size() > kMostTagBytes || options.tag.contains('\0'))
        return error(cat("share with a tag of ", options.tag.size(), " bytes: 1 to ", kMostTagBytes,
                         " are possible, none of them 0"));
    auto tree = TRY(FsTree::make(std::move(folder)).context(cat("share ", printable(options.tag))));
    return std::unique_ptr<FsDevice>(new FsDevice(std::move(tree), options));
}

FsDevice::FsDevice(FsTree tree, const Options& options)
    : operations_(
          std::move(tree),
          {.view = options.view, .limits = options.limits, .most_table_bytes = options.most_table_bytes}) {
    std::ranges::copy(std::as_bytes(std::span(options.tag)), config_.begin());
    constexpr uint32_t kRequestQueues = 1;
    std::memcpy(config_.data() + kMostTagBytes, &kRequestQueues, sizeof kRequestQueues);
}

bool FsDevice::process(std::span<Virtqueue> queues) {
    bool more = false;
    for (Virtqueue& queue : queues)
        more |= serve_queue(queue, [&](Chain chain) { serve(queue, std::move(chain)); });
    return more;
}

void FsDevice::serve(Virtqueue& queue, Chain chain) {
    fuse_in_header request{};
    if (!chain.read(std::as_writable_bytes(std::span(&request, 1)))) {
        queue.set_fault("request without a header");
        return queue.complete(std::move(chain), 0);
    }
    bool silent = request.opcode == FUSE_FORGET || request.opcode == FUSE_BATCH_FORGET;
    ReservedRoom place;
    bool answers = chain.reserve(place, sizeof(fuse_out_header));
    if (!answers && !silent) {
        queue.set_fault("request with no room for an answer");
        return queue.complete(std::move(chain), 0);
    }
    uint64_t room = chain.writable_bytes();
    bool whole = request.len == sizeof request + chain.readable_bytes() && request.total_extlen == 0;
    int failed = whole ? operations_.serve(request, chain) : EINVAL;
    if (!answers) return queue.complete(std::move(chain), 0);
    // After an error the header is all there is, whatever else was written.
    uint64_t written = failed ? 0 : room - chain.writable_bytes();
    const fuse_out_header header{
        .len = static_cast<uint32_t>(sizeof header + written), .error = -failed, .unique = request.unique};
    place.fill(std::as_bytes(std::span(&header, 1)));
    queue.complete(std::move(chain), header.len);
}

} // namespace nullbox::cage
