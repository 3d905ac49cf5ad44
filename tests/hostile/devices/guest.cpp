#include "guest.h"

#include <algorithm>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/file.h"

namespace nullbox::hostile {

GuardedMemory::GuardedMemory() {
    void* place = ::mmap(nullptr, kBytes + 2 * kPageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(place != MAP_FAILED, "map guest memory");
    start_ = static_cast<std::byte*>(place);
    expect(::mprotect(start_ + kPageBytes, kBytes, PROT_READ | PROT_WRITE) == 0, "open guest memory");
}
GuardedMemory::~GuardedMemory() { ::munmap(start_, kBytes + 2 * kPageBytes); }

// --- Ring

void Ring::forget() {
    next_descriptor_ = available_index_ = taken_ = 0;
    if (auto place = memory_.range(base_, 0x3000)) std::ranges::fill(*place, std::byte{0});
}
void Ring::put(uint16_t index, uint64_t address, uint32_t length, uint16_t flags, uint16_t next) {
    struct {
        uint64_t address;
        uint32_t length;
        uint16_t flags, next;
    } raw_descriptor{address, length, flags, next};
    expect(memory_.write(descriptors() + index * 16u, raw_descriptor), "a descriptor outside of memory");
}
uint16_t Ring::add(const std::vector<Buffer>& buffers) {
    uint16_t head = next_descriptor_;
    for (size_t i = 0; i < buffers.size(); ++i) {
        auto next = static_cast<uint16_t>((next_descriptor_ + 1) % size_);
        auto flags =
            static_cast<uint16_t>((i + 1 < buffers.size() ? kNext : 0) | (buffers[i].writable ? kWrite : 0));
        put(next_descriptor_, buffers[i].address, buffers[i].length, flags, next);
        next_descriptor_ = next;
    }
    offer(head);
    return head;
}
void Ring::offer(uint16_t head) {
    expect(memory_.write(available() + 4 + (available_index_ % size_) * 2u, head),
           "a ring outside of memory");
    set_index(static_cast<uint16_t>(available_index_ + 1));
}
void Ring::set_index(uint16_t index) {
    available_index_ = index;
    // The device thread may look at this moment.
    auto place = memory_.range(available() + 2, 2);
    expect(place.has_value(), "a ring outside of memory");
    __atomic_store_n(reinterpret_cast<uint16_t*>(place->data()), index, __ATOMIC_RELEASE);
}
uint16_t Ring::used_index() const { return *memory_.read<uint16_t>(used() + 2); }
Ring::Used Ring::take() {
    expect(has_used(), "the device has not answered");
    return *memory_.read<Used>(used() + 4 + (taken_++ % size_) * 8u);
}

// --- Guest

Guest::Guest(Kind what, Options options)
    : memory(GuestMemory::over(guarded.bytes())), loop(*Loop::make()), kind(what) {
    build(options);
}
Guest::Guest(Kind what, GuestMemory given) : memory(std::move(given)), loop(*Loop::make()), kind(what) {
    build({});
}

static Fd disk_image() {
    Fd file(::memfd_create("disk", MFD_CLOEXEC));
    std::string content;
    for (char sector = 'a'; sector < 'a' + 16; ++sector) content += std::string(512, sector);
    expect(static_cast<bool>(write_all(file.get(), content)), "write the disk");
    return file;
}

std::unique_ptr<VirtioDevice> Guest::make_device(const Options& options) {
    switch (kind) {
    case Kind::Image:
    case Kind::Disk: {
        Fd file = disk_image();
        disk = Fd(::fcntl(file.get(), F_DUPFD_CLOEXEC, 3));
        return *BlockDevice::make(std::move(file),
                                  {.writable = kind == Kind::Disk, .serial = {'d', 'i', 's', 'k'}});
    }
    case Kind::Net: {
        auto pair = make_socket_pair(SOCK_SEQPACKET | SOCK_NONBLOCK);
        expect(static_cast<bool>(pair), "make a socket pair");
        network = std::move(pair->second);
        auto device = *NetDevice::make(*loop, std::move(pair->first), {.mac = kMac, .tap_offloads = false});
        net = device.get();
        return device;
    }
    case Kind::Vsock: {
        auto device = std::make_unique<VsockDevice>(*loop, kGuestCid, [this](uint32_t port, Fd peer) {
            ports.push_back(port);
            if (accepts) peers.push_back(std::move(peer));
            return accepts;
        });
        vsock = device.get();
        return device;
    }
    case Kind::Console:
        return std::make_unique<ConsoleDevice>([this](std::string_view line) {
            expect(line.size() <= ConsoleDevice::kMostLineBytes, "a console line beyond its bound");
            lines.emplace_back(line);
        });
    case Kind::Rng:
        return std::make_unique<RngDevice>();
    case Kind::Share:
    case Kind::ReadOnlyShare:
        break;
    }
    ::umask(0);
    folder = std::make_unique<FsTestFolder>();
    std::ofstream(folder->path + "/outside") << "untouched";
    std::ofstream(folder->at("file")) << "content";
    std::filesystem::create_directory(folder->at("folder"));
    auto device =
        *FsDevice::make(folder->open(), {.tag = "work",
                                         .view = {.uid = 1000, .gid = 1000, .writable = kind == Kind::Share},
                                         .limits = options.quota,
                                         .most_table_bytes = options.most_table_bytes});
    fs = device.get();
    return device;
}

void Guest::build(const Options& options) {
    transport =
        std::make_unique<VirtioMmio>(make_device(options), memory, page->bytes,
                                     VirtioMmio::Hooks{.raise_interrupt = [this] { ++interrupts; },
                                                       .notify = [this] { notified = true; },
                                                       .fault =
                                                           [this](std::string_view device, const char* what) {
                                                               fault = cat(device, ": ", what);
                                                               ++faults_told;
                                                           }});
    bus.add({.start = kDevice, .length = kRegisterPageBytes, .handler = transport.get()});
    for (size_t i = 0; i < transport->queues().size(); ++i)
        rings.emplace_back(memory, 0x10000 + i * 0x4000, kQueueLength);
}

uint32_t Guest::read(uint32_t offset) const {
    uint32_t value = 0;
    std::memcpy(&value, page->bytes.data() + offset, sizeof value);
    return value;
}

void Guest::negotiate(uint64_t wanted) {
    write(kStatus, kAcknowledge), write(kStatus, kAcknowledge | kDriver);
    for (uint32_t half : {0u, 1u}) {
        write(kDeviceFeaturesSelect, half), write(kDriverFeaturesSelect, half);
        write(kDriverFeatures, read(kDeviceFeatures) & static_cast<uint32_t>(wanted >> 32 * half));
    }
    write(kStatus, kAcknowledge | kDriver | kFeaturesOk);
}

Guest::Place Guest::place_of(uint32_t queue) const {
    const Ring& ring = rings[queue];
    return {.descriptors = ring.descriptors(), .available = ring.available(), .used = ring.used()};
}

void Guest::place(uint32_t queue, const Place& where) {
    write(kQueueSelect, queue), write(kQueueSize, where.size);
    auto put_address = [&](uint32_t low, uint64_t address) {
        write(low, static_cast<uint32_t>(address)), write(low + 4, static_cast<uint32_t>(address >> 32));
    };
    put_address(kDescriptorsLow, where.descriptors);
    put_address(kAvailableLow, where.available);
    put_address(kUsedLow, where.used);
    write(kQueueReady, 1);
}

void Guest::start(uint64_t wanted) {
    fault.clear();
    faults_told = 0;
    negotiate(wanted);
    for (uint32_t i = 0; i < rings.size(); ++i) {
        rings[i].forget();
        place(i, place_of(i));
    }
    write(kStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
    serve();
    expect(read(kStatus) == 0xf, cat("a proper driver came only to status ", read(kStatus), " ", fault));
}

void Guest::start_blindly() {
    write(kStatus, 0);
    negotiate();
    for (uint32_t i = 0; i < rings.size(); ++i) place(i, place_of(i));
    write(kStatus, 0xf);
}

void Guest::serve(int most_turns) {
    for (int turn = 0; turn < most_turns; ++turn) {
        expect(static_cast<bool>(loop->run_once(std::chrono::milliseconds(0))), "the loop fails");
        if (notified.exchange(false))
            transport->process();
        else if (turn > 2)
            return;
    }
}

void Guest::speak() {
    if (kind == Kind::Net) {
        auto frame = good_frame(1000);
        (void)!::send(network.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (kind == Kind::Vsock) {
        auto pair = make_socket_pair(SOCK_STREAM | SOCK_NONBLOCK);
        expect(static_cast<bool>(pair), "make a socket pair");
        peers.push_back(std::move(pair->second));
        vsock->connect_guest(99, std::move(pair->first));
    }
}

// --- Verdicts

void Guest::faults(std::string_view text) {
    serve();
    expect(fault == text, cat("the fault is \"", fault, "\" instead of \"", text, "\""));
    expect(read(kStatus) & kNeedsReset, "the device does not say NEEDS_RESET");
    equal(static_cast<uint64_t>(faults_told), 1, "times that the fault was told");
}

void Guest::has_not_faulted() const { expect(fault.empty(), cat("it faulted: ", fault)); }

void Guest::works() {
    switch (kind) {
    case Kind::Image:
    case Kind::Disk:
        works_block();
        break;
    case Kind::Net:
        works_net();
        break;
    case Kind::Vsock:
        works_vsock();
        break;
    case Kind::Console:
        works_console();
        break;
    case Kind::Rng:
        works_rng();
        break;
    case Kind::Share:
    case Kind::ReadOnlyShare:
        works_share();
        break;
    }
    has_not_faulted();
}

void Guest::works_block() {
    auto answer = ask_block(0, 1, {{kAnswer, 512, true}});
    equal(answer.status, 0, "status of an ordinary read");
    expect(text(kAnswer, 512) == std::string(512, 'b'), "an ordinary read brings something else");
}

void Guest::works_net() {
    auto frame = good_frame();
    put_text(kData, frame);
    ring(1).add({{kData, static_cast<uint32_t>(frame.size())}});
    kick(1);
    serve();
    std::string last(70000, '\0');
    ssize_t count = 0, newest = -1;
    while ((count = ::recv(network.get(), last.data(), last.size(), MSG_DONTWAIT)) >= 0) newest = count;
    equal(static_cast<uint64_t>(newest), frame.size(), "bytes of an ordinary frame that reached the tap");
}

void Guest::works_vsock() {
    (void)received_packets();
    // Whatever was left over may take the first buffers.
    uint32_t port = next_port_++;
    bool kept = std::exchange(accepts, true);
    send_packet(packet(VsockOperation::Request, port));
    for (int round = 0; round < 40; ++round) {
        offer_receive_buffers(8);
        for (const auto& answer : received_packets())
            if (answer.destination_port == port && answer.operation == 2) {
                accepts = kept;
                return;
            }
    }
    fail(cat("an ordinary stream is not accepted; ", fault));
}

void Guest::works_console() {
    put_text(kData, "\nstill here\n");
    ring(1).add({{kData, 12}});
    kick(1);
    serve();
    expect(!lines.empty() && lines.back() == "still here", "an ordinary line does not arrive");
}

void Guest::works_rng() {
    put(kAnswer, uint64_t{0});
    while (ring(0).has_used()) ring(0).take();
    ring(0).add({{kAnswer, 32, true}});
    kick(0);
    serve();
    equal(ring(0).take().written, 32, "random bytes of an ordinary request");
    expect(get<uint64_t>(kAnswer) != 0, "they are 0");
}

void Guest::works_share() {
    equal(static_cast<uint64_t>(init_fuse().error), 0, "FUSE_INIT");
    expect(look_up(kRootNode, "file") != 0, "an ordinary file is not found");
}

// --- Requests

void Guest::put_text(uint64_t address, std::string_view text) {
    auto place = memory.range(address, text.size());
    expect(place.has_value(), "the case writes outside of memory");
    std::ranges::copy(std::as_bytes(std::span(text)), place->begin());
}
std::string Guest::text(uint64_t address, size_t bytes) const {
    auto place = memory.range(address, bytes);
    expect(place.has_value(), "the case reads outside of memory");
    return std::string(as_text(*place));
}

Guest::BlockAnswer Guest::ask_block(uint32_t type, uint64_t sector, std::vector<Buffer> data) {
    while (ring(0).has_used()) ring(0).take();
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header{type, 0, sector};
    put(kData, header);
    put<uint8_t>(kData + 64, 0xee);
    data.insert(data.begin(), {kData, sizeof header});
    data.push_back({kData + 64, 1, true});
    ring(0).add(data);
    kick(0);
    serve();
    has_not_faulted();
    auto used = ring(0).take();
    return {.status = get<uint8_t>(kData + 64), .written = used.written};
}

VsockHeader Guest::packet(VsockOperation operation, uint32_t guest_port, uint32_t host_port) const {
    return {.source_cid = kGuestCid,
            .destination_cid = kHostCid,
            .source_port = guest_port,
            .destination_port = host_port,
            .type = kVsockStream,
            .operation = static_cast<uint16_t>(operation),
            .buffer_bytes = 1 << 16};
}

void Guest::send_packet(const VsockHeader& header, uint32_t payload) {
    put(kData, header);
    if (payload > 0)
        ring(1).add({{kData, sizeof header}, {kData + 0x1000, payload}});
    else
        ring(1).add({{kData, sizeof header}});
    kick(1);
    serve();
}

void Guest::offer_receive_buffers(uint16_t count, uint32_t bytes) {
    auto waiting = static_cast<uint16_t>(ring(0).index() - ring(0).used_index());
    count = std::min<uint16_t>(count, kQueueLength - waiting);
    for (uint16_t i = 0; i < count; ++i)
        ring(0).add({{kAnswer + (ring(0).index() % kQueueLength) * 0x2000u, bytes, true}});
    kick(0);
    serve();
}

std::vector<VsockHeader> Guest::received_packets() {
    std::vector<VsockHeader> packets;
    while (ring(0).has_used()) {
        auto used = ring(0).take();
        if (used.written >= sizeof(VsockHeader))
            packets.push_back(get<VsockHeader>(get<uint64_t>(ring(0).descriptors() + used.head * 16u)));
    }
    return packets;
}

Guest::FuseAnswer Guest::ask_fuse(uint32_t opcode, uint64_t node, std::string_view arguments, uint32_t room) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof header + arguments.size());
    header.opcode = opcode;
    header.nodeid = node;
    return ask_fuse(header, arguments, room);
}

Guest::FuseAnswer Guest::ask_fuse(const fuse_in_header& header, std::string_view arguments, uint32_t room) {
    while (ring(1).has_used()) ring(1).take();
    fuse_in_header numbered = header;
    numbered.unique = ++unique_;
    put(kData, numbered);
    put_text(kData + sizeof numbered, arguments);
    ring(1).add({{kData, static_cast<uint32_t>(sizeof numbered + arguments.size())},
                 {kAnswer, sizeof(fuse_out_header), true},
                 {kAnswer + sizeof(fuse_out_header), room, true}});
    kick(1);
    serve();
    has_not_faulted();
    auto used = ring(1).take();
    if (used.written == 0) return {}; // one of those that have no answer
    auto out = get<fuse_out_header>(kAnswer);
    equal(out.len, used.written, "length of a FUSE answer");
    equal(out.unique, unique_, "number of a FUSE answer");
    expect(out.error <= 0 && out.error > -512, cat("errno ", out.error));
    return {.error = -out.error, .payload = text(kAnswer + sizeof out, used.written - sizeof out)};
}

Guest::FuseAnswer Guest::init_fuse() {
    return ask_fuse(FUSE_INIT, 0, raw(fuse_init_in{.major = 7, .minor = 38, .flags = UINT32_MAX}));
}

uint64_t Guest::look_up(uint64_t parent, std::string_view name) {
    auto answer = ask_fuse(FUSE_LOOKUP, parent, named(name));
    return answer.error ? 0 : answer.as<fuse_entry_out>().nodeid;
}

std::string good_frame(size_t bytes) {
    std::string frame(sizeof(NetHeader), '\0');
    frame += std::string(6, '\xff');
    for (uint8_t byte : Guest::kMac) frame += static_cast<char>(byte);
    frame += std::string("\x08\x06", 2);
    frame.resize(sizeof(NetHeader) + bytes, 'x');
    return frame;
}

} // namespace nullbox::hostile
