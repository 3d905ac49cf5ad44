#include "cage/vmm/block.h"

#include <algorithm>
#include <cerrno>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/text.h"
#include "cage/vmm/system_calls.h"

namespace nullbox::cage {

namespace {
constexpr uint64_t kSectorBytes = 512;
enum Type : uint32_t { kIn = 0, kOut = 1, kFlush = 4, kId = 8 };
constexpr uint64_t kFeatureSegmentsMost = 1 << 2, kFeatureReadOnly = 1 << 5, kFeatureFlush = 1 << 9;
constexpr uint32_t kMostSegments = kMostQueueSize - 2; // a request's header and status take the other two
constexpr size_t kConfigCapacity = 0, kConfigSegmentsMost = 12;

// All of the pieces, over short reads; false at an error or the end of the file.
template <typename Transfer>
bool transfer_all(uint64_t bytes, uint64_t position, const Transfer& transfer) {
    while (bytes > 0) {
        ssize_t count = transfer(static_cast<off_t>(position));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        bytes -= static_cast<uint64_t>(count);
        position += static_cast<uint64_t>(count);
    }
    return true;
}
} // namespace

Result<std::unique_ptr<BlockDevice>> BlockDevice::make(Fd file, Options options) {
    // Where the file ends, for block devices too.
    off_t end = ::lseek(file.get(), 0, SEEK_END);
    if (end < 0) return errno_error("size of a disk image (it must be a file or a block device)");
    if (static_cast<uint64_t>(end) < kSectorBytes)
        return error(cat("disk image of ", end, " bytes: it is empty or cut off, make it again"));
    CHECK(!options.limit || options.call_at);
    return std::unique_ptr<BlockDevice>(
        new BlockDevice(std::move(file), std::move(options), static_cast<uint64_t>(end) / kSectorBytes));
}

BlockDevice::BlockDevice(Fd file, Options options, uint64_t capacity_sectors)
    : file_(std::move(file)), options_(std::move(options)), capacity_sectors_(capacity_sectors) {
    std::memcpy(config_.data() + kConfigCapacity, &capacity_sectors_, sizeof capacity_sectors_);
    std::memcpy(config_.data() + kConfigSegmentsMost, &kMostSegments, sizeof kMostSegments);
}

uint64_t BlockDevice::features() const {
    if (!options_.writable) return kFeatureSegmentsMost | kFeatureReadOnly;
    return kFeatureSegmentsMost | (options_.scratch ? 0 : kFeatureFlush);
}

bool BlockDevice::process(std::span<Virtqueue> queues) {
    Virtqueue& requests = queues[0];
    for (unsigned round = 0; round < kRequestsPerTurn; ++round) {
        auto chain = requests.pop();
        if (!chain) {
            if (!requests.enable_notifications()) return false;
            continue;
        }
        if (options_.limit && !options_.limit->is_open()) {
            requests.put_back(*std::move(chain));
            waiting_ = options_.call_at(options_.limit->next(), [this] { wake(); });
            return false;
        }
        answer(requests, *std::move(chain));
    }
    return true;
}

void BlockDevice::answer(Virtqueue& requests, Chain chain) {
    Request request{};
    uint32_t written = 0;
    if (options_.limit)
        options_.limit->take(static_cast<uint32_t>(
            std::min<uint64_t>(chain.readable_bytes() + chain.writable_bytes(), UINT32_MAX)));
    std::byte* status = chain.take_last_writable();
    if (status && chain.read(std::as_writable_bytes(std::span(&request, 1))))
        *status = static_cast<std::byte>(serve(request, chain, written));
    else
        requests.set_fault("request without header or status");
    requests.complete(std::move(chain), written + (status ? 1 : 0));
}

bool BlockDevice::in_capacity(const Request& request, uint64_t bytes) const {
    uint64_t sectors = bytes / kSectorBytes;
    return bytes % kSectorBytes == 0 && sectors <= capacity_sectors_ &&
           request.sector <= capacity_sectors_ - sectors && bytes < UINT32_MAX;
}

BlockDevice::Status BlockDevice::serve(const Request& request, Chain& chain, uint32_t& written) {
    switch (request.type) {
    case kIn: {
        uint64_t bytes = chain.writable_bytes();
        if (!in_capacity(request, bytes)) return Status::IoError;
        bool done = transfer_all(bytes, request.sector * kSectorBytes, [&](off_t position) {
            auto pieces = chain.writable();
            ssize_t count = read_at(file_.get(), pieces, position);
            if (count > 0) chain.skip_writable(static_cast<uint64_t>(count));
            return count;
        });
        written = static_cast<uint32_t>(bytes - chain.writable_bytes());
        return done ? Status::Ok : Status::IoError;
    }
    case kOut: {
        uint64_t bytes = chain.readable_bytes();
        if (!options_.writable || !in_capacity(request, bytes)) return Status::IoError;
        bool done = transfer_all(bytes, request.sector * kSectorBytes, [&](off_t position) {
            auto pieces = chain.readable();
            ssize_t count = write_at(file_.get(), pieces, position);
            if (count > 0) chain.skip_readable(static_cast<uint64_t>(count));
            return count;
        });
        return done ? Status::Ok : Status::IoError;
    }
    case kFlush:
        return !options_.writable || ::fdatasync(file_.get()) == 0 ? Status::Ok : Status::IoError;
    case kId:
        if (!chain.write(std::as_bytes(std::span(options_.serial)))) return Status::IoError;
        written = static_cast<uint32_t>(options_.serial.size());
        return Status::Ok;
    default:
        return Status::Unsupported;
    }
}

} // namespace nullbox::cage
