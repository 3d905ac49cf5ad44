// A hostile guest without a processor: guest memory between two forbidden pages, one real device behind its
// real registers on a real bus, and a driver that writes whatever it likes. What the VM process would do at a
// device's fault (end the VM) is here a text to look at; the device must then be as good as new after a
// reset.
#pragma once

#include <atomic>
#include <sys/socket.h>
#include <vector>

#include "base/loop.h"
#include "cage/vmm/block.h"
#include "cage/vmm/console.h"
#include "cage/vmm/fs.h"
#include "cage/vmm/fs_test_guest.h"
#include "cage/vmm/net.h"
#include "cage/vmm/rng.h"
#include "cage/vmm/virtio_mmio.h"
#include "cage/vmm/vsock.h"
#include "cases.h"

namespace nullbox::hostile {

using namespace cage; // NOLINT: this is a test of it

enum Register : uint32_t {
    kDeviceFeatures = 0x10,
    kDeviceFeaturesSelect = 0x14,
    kDriverFeatures = 0x20,
    kDriverFeaturesSelect = 0x24,
    kQueueSelect = 0x30,
    kQueueSizeMost = 0x34,
    kQueueSize = 0x38,
    kQueueReady = 0x44,
    kQueueNotify = 0x50,
    kInterruptAck = 0x64,
    kStatus = 0x70,
    kDescriptorsLow = 0x80,
    kAvailableLow = 0x90,
    kUsedLow = 0xa0,
};
enum StatusBit : uint32_t {
    kAcknowledge = 1,
    kDriver = 2,
    kDriverOk = 4,
    kFeaturesOk = 8,
    kNeedsReset = 64,
    kFailed = 128
};

constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4;

// Guest memory with a page on either side that nobody may touch.
class GuardedMemory {
public:
    static constexpr uint64_t kBytes = 4 << 20;
    GuardedMemory();
    GuardedMemory(const GuardedMemory&) = delete;
    ~GuardedMemory();
    std::span<std::byte> bytes() const { return {start_ + kPageBytes, kBytes}; }

private:
    std::byte* start_;
};

struct Buffer {
    uint64_t address;
    uint32_t length;
    bool writable = false;
};

// The driver's view of one queue. Nothing that it writes is checked.
class Ring {
public:
    Ring(const GuestMemory& memory, uint64_t base, uint16_t size)
        : memory_(memory), base_(base), size_(size) {}
    uint64_t descriptors() const { return base_; }
    uint64_t available() const { return base_ + 0x1000; }
    uint64_t used() const { return base_ + 0x2000; }
    uint16_t size() const { return size_; }

    void forget(); // as a driver that begins anew
    void put(uint16_t index, uint64_t address, uint32_t length, uint16_t flags, uint16_t next);
    uint16_t add(const std::vector<Buffer>& buffers); // a proper chain, made available; its head
    void offer(uint16_t head);
    void set_index(uint16_t index);
    uint16_t index() const { return available_index_; }
    uint16_t used_index() const;
    struct Used {
        uint32_t head, written;
    };
    bool has_used() const { return taken_ != used_index(); }
    Used take();

private:
    const GuestMemory& memory_;
    uint64_t base_;
    uint16_t size_;
    uint16_t next_descriptor_ = 0, available_index_ = 0, taken_ = 0;
};

enum class Kind : uint8_t { Image, Disk, Net, Vsock, Console, Rng, Share, ReadOnlyShare };
constexpr Kind kEveryKind[] = {Kind::Image,   Kind::Disk, Kind::Net,   Kind::Vsock,
                               Kind::Console, Kind::Rng,  Kind::Share, Kind::ReadOnlyShare};
struct QueueOf {
    Kind kind;
    uint32_t queue;
    bool to_guest; // the device takes buffers from it only when it has something to say
};
constexpr QueueOf kEveryQueue[] = {
    {Kind::Image, 0, false}, {Kind::Disk, 0, false},  {Kind::Net, 0, true},      {Kind::Net, 1, false},
    {Kind::Vsock, 0, true},  {Kind::Vsock, 1, false}, {Kind::Console, 1, false}, {Kind::Rng, 0, false},
    {Kind::Share, 0, false}, {Kind::Share, 1, false},
};

class Guest {
public:
    static constexpr uint64_t kDevice = 0xd000'0000;
    static constexpr uint64_t kData = 0x100000; // from here on memory is the case's own
    static constexpr uint64_t kAnswer = 0x200000;
    static constexpr uint16_t kQueueLength = 32;
    static constexpr uint64_t kGuestCid = 3;
    static constexpr MacAddress kMac{2, 0, 0, 0, 0, 7};

    struct Options {
        FsQuota::Limits quota{.most_bytes = 1 << 20, .most_files = 40};
        size_t most_table_bytes = kSharesOverheadBytes;
    };
    explicit Guest(Kind kind) : Guest(kind, Options{}) {}
    Guest(Kind kind, Options options);
    // With memory of GuestMemory::make instead, for what lies around the hole below 4 GiB.
    Guest(Kind kind, GuestMemory memory);

    // Registers, over the bus.
    void write(uint32_t offset, uint32_t value) {
        write_bytes(kDevice + offset, std::as_bytes(std::span(&value, 1)));
    }
    void write_bytes(uint64_t address, std::span<const std::byte> bytes) { bus.write(address, bytes); }
    uint32_t read(uint32_t offset) const; // from the page, as a guest reads it
    void kick(uint32_t queue) { write(kQueueNotify, queue); }

    // A driver's steps.
    void negotiate(uint64_t wanted = UINT64_MAX); // of what is offered; up to FEATURES_OK
    struct Place {
        uint64_t descriptors, available, used;
        uint32_t size = kQueueLength;
    };
    Place place_of(uint32_t queue) const;
    void place(uint32_t queue, const Place& where); // up to ready
    void start(uint64_t wanted = UINT64_MAX);       // the whole of it, all queues
    void restart() {
        write(kStatus, 0);
        serve();
        start();
    }
    // The same with no look at what comes of it, and with the rings as they are.
    void start_blindly();
    Ring& ring(uint32_t queue) { return rings[queue]; }

    // The device thread, until it has nothing more to do: at most so many turns.
    void serve(int most_turns = 2000);
    // The host's side has something for the guest.
    void speak();

    // Verdicts.
    void faults(std::string_view text); // exactly this device's fault, and NEEDS_RESET
    void has_not_faulted() const;
    void works(); // an ordinary request is answered as it should be
    void works_after_reset() {
        restart();
        works();
    }

    template <typename T>
    void put(uint64_t address, const T& value) {
        expect(memory.write(address, value), "the case writes outside of memory");
    }
    void put_text(uint64_t address, std::string_view text);
    template <typename T>
    T get(uint64_t address) const {
        auto value = memory.read<T>(address);
        expect(value.has_value(), "the case reads outside of memory");
        return *value;
    }
    std::string text(uint64_t address, size_t bytes) const;

    // Block: status, and what was written.
    struct BlockAnswer {
        uint8_t status;
        uint32_t written;
    };
    BlockAnswer ask_block(uint32_t type, uint64_t sector, std::vector<Buffer> data);
    // Vsock: one packet from the guest; the packets that came for it.
    void send_packet(const VsockHeader& header, uint32_t payload = 0);
    VsockHeader packet(VsockOperation operation, uint32_t guest_port = 700, uint32_t host_port = 1024) const;
    void offer_receive_buffers(uint16_t count, uint32_t bytes = 4096);
    std::vector<VsockHeader> received_packets();
    // FUSE: errno and payload.
    struct FuseAnswer {
        int error;
        std::string payload;
        template <typename T>
        T as(size_t offset = 0) const {
            T value{};
            expect(payload.size() >= offset + sizeof value, "a FUSE answer that is too short");
            std::memcpy(&value, payload.data() + offset, sizeof value);
            return value;
        }
    };
    FuseAnswer ask_fuse(uint32_t opcode, uint64_t node, std::string_view arguments, uint32_t room = 4096);
    FuseAnswer ask_fuse(const fuse_in_header& header, std::string_view arguments, uint32_t room = 4096);
    FuseAnswer init_fuse();
    uint64_t look_up(uint64_t parent, std::string_view name); // 0: there is none

    GuardedMemory guarded;
    GuestMemory memory;
    struct alignas(kPageBytes) Page {
        std::array<std::byte, kRegisterPageBytes> bytes{};
    };
    std::unique_ptr<Page> page = std::make_unique<Page>();
    std::unique_ptr<Loop> loop;
    Kind kind;
    IoBus bus;
    std::vector<Ring> rings;
    // The host's side.
    std::unique_ptr<FsTestFolder> folder;
    Fd disk;                     // the image's file, a second descriptor
    Fd network;                  // the other end of the "tap"
    std::vector<Fd> peers;       // of streams that the guest made
    std::vector<uint32_t> ports; // that it asked for
    bool accepts = true;
    std::vector<std::string> lines; // of the console
    std::string fault;
    int faults_told = 0;
    std::atomic<int> interrupts = 0;
    std::atomic<bool> notified = false;
    VsockDevice* vsock = nullptr;
    NetDevice* net = nullptr;
    FsDevice* fs = nullptr;
    std::unique_ptr<VirtioMmio> transport; // last: gone first

private:
    std::unique_ptr<VirtioDevice> make_device(const Options& options);
    void build(const Options& options);
    void works_block();
    void works_net();
    void works_vsock();
    void works_console();
    void works_rng();
    void works_share();
    uint64_t unique_ = 0;
    uint32_t next_port_ = 5000;
};

// A frame that any network takes: an ARP question of so many bytes in all, behind its header.
std::string good_frame(size_t bytes = 60);

template <typename T>
std::string raw(const T& value, std::string_view more = {}) {
    std::string bytes(reinterpret_cast<const char*>(&value), sizeof value);
    return bytes.append(more);
}
inline std::string named(std::string_view name) { return std::string(name) + '\0'; }

// The same numbers in every run.
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        state_ += 0x9e3779b97f4a7c15;
        uint64_t mixed = (state_ ^ state_ >> 30) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
        return mixed ^ mixed >> 31;
    }
    uint32_t below(uint32_t end) { return static_cast<uint32_t>(next() % end); }

private:
    uint64_t state_;
};

} // namespace nullbox::hostile
