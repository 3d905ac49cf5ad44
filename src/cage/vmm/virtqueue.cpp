#include "cage/vmm/virtqueue.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <utility>

#include "base/check.h"

namespace nullbox::cage {

constexpr uint16_t kFlagNext = 1, kFlagWrite = 2, kFlagIndirect = 4;
constexpr uint16_t kNoInterrupt = 1;
constexpr size_t kRingHeader = 4; // flags and idx, in both rings
constexpr size_t kUsedElementBytes = 8;

static std::byte* bytes_of(const iovec& piece) { return static_cast<std::byte*>(piece.iov_base); }

Chain::Chain(Chain&& other) noexcept
    : queue_(std::exchange(other.queue_, nullptr)), head_(other.head_), readable_(other.readable_),
      writable_(other.writable_), readable_bytes_(other.readable_bytes_),
      writable_bytes_(other.writable_bytes_) {}

Chain::~Chain() { CHECK(queue_ == nullptr); }

void Chain::advance(std::span<iovec>& pieces, uint64_t count) {
    while (count > 0) {
        iovec& first = pieces.front();
        size_t step = std::min<uint64_t>(count, first.iov_len);
        first = {bytes_of(first) + step, first.iov_len - step};
        count -= step;
        if (first.iov_len == 0) pieces = pieces.subspan(1);
    }
}

std::span<const iovec> Chain::clip(std::span<iovec> pieces, uint64_t most) {
    auto& out = queue_->clipped_;
    size_t count = 0;
    for (const iovec& piece : pieces) {
        if (most == 0) break;
        out[count] = {piece.iov_base, static_cast<size_t>(std::min<uint64_t>(piece.iov_len, most))};
        most -= out[count++].iov_len;
    }
    return std::span(out).first(count);
}

bool Chain::read(std::span<std::byte> out) {
    if (out.size() > readable_bytes_) return false;
    size_t done = 0;
    for (const iovec& piece : clip(readable_, out.size())) {
        std::memcpy(out.data() + done, piece.iov_base, piece.iov_len);
        done += piece.iov_len;
    }
    asm volatile("" ::: "memory"); // one read, as in GuestMemory::read
    skip_readable(out.size());
    return true;
}

bool Chain::write(std::span<const std::byte> bytes) {
    if (bytes.size() > writable_bytes_) return false;
    size_t done = 0;
    for (const iovec& piece : clip(writable_, bytes.size())) {
        std::memcpy(piece.iov_base, bytes.data() + done, piece.iov_len);
        done += piece.iov_len;
    }
    skip_writable(bytes.size());
    return true;
}

bool Chain::reserve(ReservedRoom& room, size_t bytes) {
    CHECK(bytes <= ReservedRoom::kMostBytes);
    if (bytes > writable_bytes_) return false;
    auto pieces = clip(writable_, bytes);
    std::ranges::copy(pieces, room.pieces_.begin());
    room.count_ = pieces.size();
    skip_writable(bytes);
    return true;
}

void ReservedRoom::fill(std::span<const std::byte> bytes) const {
    for (const iovec& piece : std::span(pieces_).first(count_)) {
        std::memcpy(piece.iov_base, bytes.data(), piece.iov_len);
        bytes = bytes.subspan(piece.iov_len);
    }
}

std::byte* Chain::take_last_writable() {
    if (writable_bytes_ == 0) return nullptr;
    iovec& last = writable_.back();
    --writable_bytes_;
    std::byte* byte = bytes_of(last) + --last.iov_len;
    if (last.iov_len == 0) writable_ = writable_.first(writable_.size() - 1);
    return byte;
}

void Chain::skip_readable(uint64_t count) {
    CHECK(count <= readable_bytes_);
    readable_bytes_ -= count;
    advance(readable_, count);
}

void Chain::skip_writable(uint64_t count) {
    CHECK(count <= writable_bytes_);
    writable_bytes_ -= count;
    advance(writable_, count);
}

// The driver's other half of the ring runs on a vCPU at this moment: indices are loaded and stored
// atomically, acquire and release order them against the entries they announce.
uint16_t Virtqueue::load_index(const std::byte* field) const {
    return __atomic_load_n(reinterpret_cast<const uint16_t*>(field), __ATOMIC_ACQUIRE);
}

static void store_index(std::byte* field, uint16_t value) {
    __atomic_store_n(reinterpret_cast<uint16_t*>(field), value, __ATOMIC_RELEASE);
}

void Virtqueue::start() {
    size_t size = state_.size;
    if (size == 0 || size > kMostQueueSize || !std::has_single_bit(size))
        return set_fault("wrong queue size");
    if (state_.descriptors % 16 != 0 || state_.available % 2 != 0 || state_.used % 4 != 0)
        return set_fault("misaligned ring");
    // Each ring with its event index at the end, wherever event indices are negotiated or not.
    auto descriptors = memory_->range(state_.descriptors, size * sizeof(Descriptor));
    auto available = memory_->range(state_.available, kRingHeader + size * 2 + 2);
    auto used = memory_->range(state_.used, kRingHeader + size * kUsedElementBytes + 2);
    if (!descriptors || !available || !used) return set_fault("ring outside of memory");
    descriptors_ = *descriptors;
    available_ = *available;
    used_ = *used;
    state_.ready = true;
}

void Virtqueue::reset() {
    CHECK(!chain_out_);
    state_ = {};
    held_ = 0;
    fault_ = nullptr;
    descriptors_ = available_ = used_ = {};
}

std::optional<Chain> Virtqueue::pop() {
    if (!state_.ready || fault_) return std::nullopt;
    CHECK(!chain_out_);
    uint16_t waiting = load_index(available_.data() + 2) - state_.next_available;
    if (waiting == 0) return std::nullopt;
    if (waiting + held_ > state_.size) {
        set_fault("available index jumped");
        return std::nullopt;
    }
    size_t entry = state_.next_available & (state_.size - 1);
    uint16_t head = load_index(available_.data() + kRingHeader + entry * 2);
    Chain chain(this, head);
    if (!collect(chain)) {
        chain.queue_ = nullptr;
        return std::nullopt;
    }
    ++state_.next_available;
    chain_out_ = true;
    return chain;
}

bool Virtqueue::collect(Chain& chain) {
    size_t readable = 0, total = 0;
    uint16_t index = chain.head_;
    // The limit on steps is what ends a loop in the chain.
    for (unsigned steps = 0;; ++steps) {
        if (index >= state_.size) return set_fault("descriptor index beyond the queue"), false;
        if (steps == state_.size) return set_fault("descriptor chain without end"), false;
        Descriptor descriptor;
        std::memcpy(&descriptor, descriptors_.data() + index * sizeof descriptor, sizeof descriptor);
        asm volatile("" ::: "memory"); // one read: the guest may change it behind the checks
        if (descriptor.flags & kFlagIndirect)
            return set_fault("indirect descriptor, which was not offered"), false;
        auto range = memory_->range(descriptor.address, descriptor.length);
        if (!range) return set_fault("buffer outside of memory"), false;
        bool writable = descriptor.flags & kFlagWrite;
        if (!writable && readable != total) return set_fault("readable buffer after a writable one"), false;
        if (!range->empty()) {
            pieces_[total++] = {range->data(), range->size()};
            if (!writable) readable = total;
            (writable ? chain.writable_bytes_ : chain.readable_bytes_) += range->size();
        }
        if (!(descriptor.flags & kFlagNext)) break;
        index = descriptor.next;
    }
    chain.readable_ = std::span(pieces_).first(readable);
    chain.writable_ = std::span(pieces_).subspan(readable, total - readable);
    return true;
}

void Virtqueue::write_used(uint16_t at, const Chain& chain, uint32_t written) {
    uint32_t element[2] = {chain.head_, written};
    size_t entry = at & (state_.size - 1);
    std::memcpy(used_.data() + kRingHeader + entry * kUsedElementBytes, element, sizeof element);
}

void Virtqueue::complete(Chain chain, uint32_t written) {
    CHECK(held_ == 0);
    hold(std::move(chain), written);
    publish_held();
}

void Virtqueue::put_back(Chain chain) {
    CHECK(chain.queue_ == this);
    chain.queue_ = nullptr;
    chain_out_ = false;
    --state_.next_available;
}

void Virtqueue::hold(Chain chain, uint32_t written) {
    CHECK(chain.queue_ == this);
    chain.queue_ = nullptr;
    chain_out_ = false;
    write_used(static_cast<uint16_t>(state_.next_used + held_++), chain, written);
}

void Virtqueue::publish_held() {
    state_.next_used = static_cast<uint16_t>(state_.next_used + std::exchange(held_, 0));
    store_index(used_.data() + 2, state_.next_used);
}

void Virtqueue::put_back_held() {
    state_.next_available = static_cast<uint16_t>(state_.next_available - std::exchange(held_, 0));
}

bool Virtqueue::enable_notifications() {
    if (!state_.ready || fault_) return false;
    if (state_.event_index)
        store_index(used_.data() + kRingHeader + size_t{state_.size} * kUsedElementBytes,
                    state_.next_available);
    // The driver writes its index and then looks at ours; we wrote ours and now look at its.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return load_index(available_.data() + 2) != state_.next_available;
}

bool Virtqueue::take_interrupt() {
    if (!state_.ready || state_.next_used == state_.signalled_used) return false;
    uint16_t before = std::exchange(state_.signalled_used, state_.next_used);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!state_.event_index) return !(load_index(available_.data()) & kNoInterrupt);
    // virtio 1.2, 2.7.7.1: the driver's wish lies between the last told and the newest used entry.
    uint16_t wish = load_index(available_.data() + kRingHeader + size_t{state_.size} * 2);
    return static_cast<uint16_t>(state_.next_used - wish - 1) <
           static_cast<uint16_t>(state_.next_used - before);
}

} // namespace nullbox::cage
