// virtio-blk on a file or block device (virtio 1.2, section 5.2). Reads and writes go straight between the
// file and guest memory; the page cache of the host is the cache. Read-only unless told otherwise; discard
// and the like are not offered and answered as unsupported. A scratch disk offers no flush either: what is on
// it ends with the VM, so there is nothing to make last.
//
// Under a rate limit, requests wait in the guest's ring, and the device asks for a call when the next may
// begin: nothing is polled, and other devices are served meanwhile.
#pragma once

#include <array>

#include "base/fd.h"
#include "cage/vmm/rate_limit.h"
#include "cage/vmm/virtio_device.h"

namespace nullbox::cage {

class BlockDevice final : public VirtioDevice {
public:
    struct Options {
        bool writable = false;
        bool scratch = false;          // writable, and forgotten at the VM's end
        std::array<char, 20> serial{}; // what the guest sees as its id
        RateLimit* limit = nullptr;    // shared by the VM's disks, outlives them; null: none
        // With a limit: calls later, unless the watch is dropped before. On the device thread.
        std::function<Watch(Clock::time_point, std::function<void()>)> call_at;
    };
    // Capacity is the size at this moment, whole sectors.
    static Result<std::unique_ptr<BlockDevice>> make(Fd file, Options options);

    std::string_view name() const override { return "block"; }
    uint32_t id() const override { return 2; }
    uint64_t features() const override;
    size_t queue_count() const override { return 1; }
    bool process(std::span<Virtqueue> queues) override;
    void reset() override { waiting_.drop(); }
    std::span<const std::byte> config() const override { return config_; }

private:
    struct Request {   // 5.2.6
        uint32_t type; // guest-controlled, as are all
        uint32_t reserved;
        uint64_t sector;
    };
    enum class Status : uint8_t { Ok = 0, IoError = 1, Unsupported = 2 };

    BlockDevice(Fd file, Options options, uint64_t capacity_sectors);
    Status serve(const Request& request, Chain& chain, uint32_t& written);
    void answer(Virtqueue& requests, Chain chain);
    bool in_capacity(const Request& request, uint64_t bytes) const;

    Fd file_;
    Options options_;
    uint64_t capacity_sectors_;
    std::array<std::byte, 60> config_{};
    Watch waiting_; // for the limit
};

} // namespace nullbox::cage
