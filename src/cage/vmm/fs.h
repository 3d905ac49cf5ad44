// virtio-fs (virtio 1.2, section 5.11): one shared folder, mounted in the guest by its tag. Queue 0 carries
// what must not wait (FORGET), queue 1 all other requests; both are served alike, one request at a time on
// the device thread. What a request means is fs_operations.h's.
//
// A request is a FUSE header, its arguments, and room for an answer. A chain that has no header, or no room
// for an answer that is due, comes from no driver: the queue is faulty and the VM ends. Any other nonsense is
// answered with an error.
#pragma once

#include <array>
#include <memory>
#include <string_view>

#include "cage/vmm/fs_operations.h"
#include "cage/vmm/virtio_device.h"

namespace nullbox::cage {

class FsDevice final : public VirtioDevice {
public:
    static constexpr size_t kMostTagBytes = 36;

    struct Options {
        std::string_view tag; // 1 to 36 bytes
        FuseView view;
        FsQuota::Limits limits;
        size_t most_table_bytes = kSharesOverheadBytes; // for the files that the guest has looked at
    };
    // folder: as cage/vmm_channel.h says of a share.
    static Result<std::unique_ptr<FsDevice>> make(Fd folder, Options options);

    std::string_view name() const override { return "fs"; }
    uint32_t id() const override { return 26; }
    size_t queue_count() const override { return 2; }
    bool process(std::span<Virtqueue> queues) override;
    std::span<const std::byte> config() const override { return config_; }
    void reset() override { operations_.clear(); }

    const FsOperations& operations() const { return operations_; }

private:
    FsDevice(FsTree tree, const Options& options);
    void serve(Virtqueue& queue, Chain chain);

    FsOperations operations_;
    std::array<std::byte, kMostTagBytes + 4> config_{}; // the tag, the number of request queues
};

} // namespace nullbox::cage
