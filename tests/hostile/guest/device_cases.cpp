// What a guest does to its devices. Each is there behind the whole of the monitor: doorbells, threads,
// filter, jail.
#include "cases.h"

namespace hostile {

extern "C" void* memset(void* target, int value, size_t bytes);
extern "C" void* memcpy(void* target, const void* source, size_t bytes);

namespace {
Device started(Link& link, uint32_t id, unsigned n = 0) {
    Device device = find(id, n);
    if (!device.start()) fail(link, "a device does not start:", id);
    return device;
}

void head_beyond(Link& link) {
    Device rng = started(link, kRng);
    rng.queue[0].offer(Queue::kSize);
    rng.queue[0].kick();
    wait_for_the_end(link);
}
void loop_of_descriptors(Link& link) {
    Device block = started(link, kBlock);
    for (uint16_t i = 0; i < Queue::kSize; ++i)
        block.queue[0].put(i, 0x3000000, 16, kNext, static_cast<uint16_t>((i + 1) % Queue::kSize));
    block.queue[0].offer(0);
    block.queue[0].kick();
    wait_for_the_end(link);
}
void over_the_end(Link& link) {
    Device console = started(link, kConsole);
    console.queue[1].put(0, memory_bytes() - 16, 17, 0, 0);
    console.queue[1].offer(0);
    console.queue[1].kick();
    wait_for_the_end(link);
}
void address_wraps(Link& link) {
    Device fs = started(link, kFs);
    fs.queue[1].put(0, ~uint64_t{0} - 15, 0xffff'ffff, 0, 0);
    fs.queue[1].offer(0);
    fs.queue[1].kick();
    wait_for_the_end(link);
}
void over_registers(Link& link) {
    Device rng = started(link, kRng);
    rng.queue[0].put(0, kDevices, 64, kWrite, 0);
    rng.queue[0].offer(0);
    rng.queue[0].kick();
    wait_for_the_end(link);
}
void indirect(Link& link) {
    Device fs = started(link, kFs);
    fs.queue[0].put(0, fs.queue[0].descriptors, 17, kIndirect, 0);
    fs.queue[0].offer(0);
    fs.queue[0].kick();
    wait_for_the_end(link);
}
void index_jumps(Link& link) {
    link.device.queue[1].set_index(static_cast<uint16_t>(link.device.queue[1].index + 1000));
    link.device.queue[1].kick();
    wait_for_the_end(link);
}
void wrong_order(Link& link) {
    Device block = started(link, kBlock);
    block.queue[0].put(0, 0x3000000, 16, kNext | kWrite, 1);
    block.queue[0].put(1, 0x3001000, 16, 0, 0);
    block.queue[0].offer(0);
    block.queue[0].kick();
    wait_for_the_end(link);
}
void rings_in_the_hole(Link& link) {
    Device rng = find(kRng);
    rng.negotiate();
    rng.place(0, kDevices, kDevices + 0x1000, kHole, Queue::kSize);
    wait_for_the_end(link);
}
void wrong_size(Link& link) {
    Device console = find(kConsole);
    console.negotiate();
    console.place(0, 0x3000000, 0x3001000, 0x3002000, 24);
    wait_for_the_end(link);
}
void misaligned(Link& link) {
    Device fs = find(kFs);
    fs.negotiate();
    fs.place(0, 0x3000000, 0x3001001, 0x3002002, Queue::kSize);
    wait_for_the_end(link);
}
void no_queues(Link& link) {
    for (uint32_t id : {kBlock, kConsole, kRng, kFs}) {
        Device device = find(id);
        device.negotiate();
        device.write(0x70, 0xf);
        for (uint32_t queue = 0; queue < 100; ++queue) device.write(0x50, queue);
        equal(link, device.read(0x70), 0xf, "status without queues:");
    }
}
void features_not_offered(Link& link) {
    for (uint32_t id : {kBlock, kConsole, kRng, kFs}) {
        Device device = find(id);
        device.write(0x70, 0), device.write(0x70, 1), device.write(0x70, 3);
        device.write(0x24, 1), device.write(0x20, 0xffff'ffff);
        device.write(0x24, 0), device.write(0x20, 0xffff'ffff);
        device.write(0x70, 0xb), device.write(0x70, 0xf);
        equal(link, device.read(0x70), 3, "status with all features:");
    }
}
void kick_storm(Link& link) {
    for (unsigned round = 0; round < 300; ++round)
        for (unsigned n = 0; n < devices(); ++n) store32(kDevices + n * kDevicePage + 0x50, round % 5);
    link.say("kicked");
}
void reset_storm(Link& link) {
    auto* place = static_cast<unsigned char*>(allocate(65536));
    for (unsigned round = 0; round < 60; ++round)
        for (uint32_t id : {kBlock, kConsole, kRng, kFs}) {
            static Device device; // its rings are made once for each kind
            device = find(id);
            device.negotiate();
            for (uint32_t i = 0; i < device.queues; ++i) {
                uint64_t rings = 0x3400000 + (id * 4 + i) * 0x4000;
                memset(reinterpret_cast<void*>(rings), 0, 0x3000);
                device.queue[i].descriptors = rings, device.queue[i].available = rings + 0x1000,
                device.queue[i].used_ring = rings + 0x2000;
                device.place(i, rings, rings + 0x1000, rings + 0x2000, Queue::kSize);
                Buffer buffers[] = {{place, 64}, {place + 4096, 8192, kWrite}};
                for (unsigned request = 0; request < 8; ++request) device.queue[i].add(buffers, 2);
            }
            device.write(0x70, 0xf);
            for (uint32_t i = 0; i < device.queues; ++i) device.write(0x50, i);
            device.write(0x70, 0); // in the middle of it
        }
    link.say("reset");
}
void vsock_reset(Link& link) { // its own link is a stream of the device that is reset
    for (unsigned round = 0; round < 50; ++round) {
        link.device.write(0x70, 0);
        link.device.negotiate();
        link.device.write(0x70, 0xf);
    }
    halt();
}

uint8_t ask_block(Link& link, Device& block, uint32_t type, uint64_t sector, uint32_t bytes, bool write) {
    static unsigned char* place = static_cast<unsigned char*>(allocate(65536));
    store(address_of(place), type), store(address_of(place) + 8, sector);
    place[32] = 0xee;
    Buffer buffers[] = {
        {place, 16}, {place + 4096, bytes, write ? kWrite : uint16_t{0}}, {place + 32, 1, kWrite}};
    block.queue[0].add(buffers, 3);
    block.queue[0].kick();
    if (!block.queue[0].wait()) fail(link, "no answer of the disk:", type);
    return load<uint8_t>(address_of(place + 32));
}
void block_ranges(Link& link) {
    Device block = started(link, kBlock);
    uint64_t sectors = load<uint64_t>(block.registers + 0x100);
    equal(link, ask_block(link, block, 0, 0, 512, true), 0, "an ordinary read:");
    for (uint64_t sector :
         {sectors, sectors - 1 + 1, ~uint64_t{0}, ~uint64_t{0} / 512 + 1, uint64_t{1} << 55})
        equal(link, ask_block(link, block, 0, sector, 512, true), 1, "a read beyond the end:");
    equal(link, ask_block(link, block, 0, 0, 100, true), 1, "part of a sector:");
    equal(link, ask_block(link, block, 1, 0, 512, false), 1, "a write to the image:");
    for (uint32_t type : {2u, 11u, 13u, 14u, 0xffff'ffffu})
        equal(link, ask_block(link, block, type, 0, 512, true), 2, "an unknown request:");
    equal(link, ask_block(link, block, 0, 0, 512, true), 0, "an ordinary read:");
}
void block_no_status(Link& link) {
    Device block = started(link, kBlock);
    Buffer buffer{allocate(4096), 16};
    block.queue[0].add(&buffer, 1);
    block.queue[0].kick();
    wait_for_the_end(link);
}
void console_flood(Link& link) {
    Device console = started(link, kConsole);
    auto* place = static_cast<unsigned char*>(allocate(4096));
    for (unsigned i = 0; i < 4096; ++i) place[i] = static_cast<unsigned char>(i);
    for (unsigned round = 0; round < 200; ++round) {
        Buffer buffer{place, 4096};
        console.queue[1].add(&buffer, 1);
        console.queue[1].kick();
        if (!console.queue[1].wait()) fail(link, "no answer of the console:", round);
    }
}
// Not waited for: the host reads what is in the ring when the VM is gone.
void last_words(Link& link) {
    Device console = started(link, kConsole);
    constexpr char kText[] = "\x1b[31mgoodbye\n";
    auto* place = static_cast<char*>(allocate(sizeof kText));
    for (unsigned i = 0; i < sizeof kText; ++i) place[i] = kText[i];
    Buffer buffer{place, sizeof kText - 1};
    console.queue[1].add(&buffer, 1);
    triple_fault();
}
void rng_over_rings(Link& link) {
    Device rng = started(link, kRng);
    for (unsigned round = 0; round < 100; ++round) {
        rng.queue[0].put(0, rng.queue[0].descriptors, 4096, kWrite, 0);
        rng.queue[0].offer(0);
        rng.queue[0].kick();
        rng.queue[0].set_index(rng.queue[0].index);
    }
    wait_for_the_end(link); // random descriptors end it; if not, that is as well
}

void vsock_other_cids(Link& link) {
    for (uint64_t cid : {uint64_t{0}, uint64_t{1}, uint64_t{4}, ~uint64_t{0}}) {
        Packet to = link.packet(kRequest, 2000);
        to.destination_cid = cid;
        link.send(to);
        equal(link, link.receive(2000).operation, kReset, "to another CID:");
        Packet from = link.packet(kRequest, 2000);
        from.source_cid = cid;
        link.send(from);
    }
}
void vsock_nonsense(Link& link) {
    for (uint16_t operation : {0, 2, 4, 5, 6, 7, 8, 0xffff}) {
        link.send(link.packet(static_cast<Operation>(operation), 2001, 5));
        equal(link, link.receive(2001).operation, kReset, "before a connect:");
    }
    Packet type = link.packet(kRequest, 2001);
    type.type = 2;
    link.send(type);
    equal(link, link.receive(2001).operation, kReset, "SEQPACKET:");
}
void vsock_long_packet(Link& link) {
    Packet packet = link.packet(kData);
    packet.length = 0xffff'ffff;
    link.send(packet);
    wait_for_the_end(link);
}
void vsock_connects(Link& link) { // cage closes all but its own
    for (uint32_t i = 0; i < 150; ++i) {
        uint32_t port = 3000 + i;
        link.send(link.packet(kRequest, port, i % 3 == 0 ? 1024 : i % 3 == 1 ? 9100 : i));
        if (link.receive(port).operation == 0) fail(link, "no answer to connect", i);
        link.send(link.packet(kReset, port, i % 3 == 0 ? 1024 : i % 3 == 1 ? 9100 : i));
    }
}
void vsock_streams(Link& link) {
    unsigned refused = 0;
    for (uint32_t i = 0; i < 200; ++i) {
        link.send(link.packet(kRequest, 5000 + i, 9));
        Packet answer = link.receive(5000 + i);
        refused += answer.operation == kReset;
    }
    link.say("refused:", refused);
}
void vsock_over_credit(Link& link) {
    auto* place = static_cast<unsigned char*>(allocate(65536));
    // A stream to the memory's port, which is nobody's here; then the link itself with a frame that never
    // ends.
    unsigned char header[5] = {0xff, 0xff, 0, 0, 66};
    link.raw(header, 5);
    for (unsigned i = 0; i < 200; ++i) link.raw(place, 65536);
    wait_for_the_end(link);
}
void link_nonsense(Link& link) {
    unsigned char payload[64];
    memset(payload, 0xff, sizeof payload);
    link.frame(200, payload, sizeof payload);
    wait_for_the_end(link);
}
void link_long_frame(Link& link) {
    unsigned char header[5] = {0xff, 0xff, 0xff, 0xff, 66};
    link.raw(header, 5);
    wait_for_the_end(link);
}
void link_hello_again(Link& link) {
    unsigned char hello[10] = {kLinkVersion, 0};
    link.frame(64, hello, sizeof hello);
    wait_for_the_end(link);
}
void link_flood(
    Link& link) { // until it is stopped; the log forgets the first lines, so each says whose it is
    for (uint64_t i = 0;; ++i) link.say("link flood", i);
}

struct __attribute__((packed)) FuseIn {
    uint32_t length, opcode;
    uint64_t unique, node;
    uint32_t uid, gid, pid, padding;
};
struct __attribute__((packed)) FuseOut {
    uint32_t length;
    int32_t error;
    uint64_t unique;
};
class Share {
public:
    Share(Link& link, unsigned n)
        : link_(link), device_(started(link, kFs, n)), in_(static_cast<unsigned char*>(allocate(65536))),
          out_(static_cast<unsigned char*>(allocate(65536))) {}
    // The errno value.
    int ask(uint32_t opcode, uint64_t node, const void* arguments, uint32_t bytes,
            uint32_t length_error = 0) {
        FuseIn header{
            static_cast<uint32_t>(sizeof header + bytes + length_error), opcode, ++unique_, node, 0, 0, 0, 0};
        memcpy(in_, &header, sizeof header);
        memcpy(in_ + sizeof header, arguments, bytes);
        Buffer buffers[] = {{in_, static_cast<uint32_t>(sizeof header + bytes)},
                            {out_, sizeof(FuseOut), kWrite},
                            {out_ + 4096, 8192, kWrite}};
        device_.queue[1].add(buffers, 3);
        device_.queue[1].kick();
        if (!device_.queue[1].wait()) fail(link_, "no answer to FUSE opcode", opcode);
        FuseOut answer;
        memcpy(&answer, out_, sizeof answer);
        return -answer.error;
    }
    void init() {
        uint32_t words[16] = {7, 38, 0, 0xffff'ffff};
        equal(link_, static_cast<uint64_t>(ask(26, 0, words, sizeof words)), 0, "FUSE_INIT:");
    }
    int name(uint32_t opcode, const char* text, uint32_t bytes) { return ask(opcode, 1, text, bytes); }
    const unsigned char* answer() const { return out_ + 4096; }
    Device& device() { return device_; }

private:
    Link& link_;
    Device device_;
    unsigned char *in_, *out_;
    uint64_t unique_ = 0;
};

void share_names(Link& link) {
    Share share(link, 0);
    share.init();
    equal(link, share.name(1, "..", 3) != 0, 1, "a look at ..:");
    equal(link, share.name(1, "../../vault", 12) != 0, 1, "a look at ../../vault:");
    equal(link, share.name(1, "/etc/passwd", 12) != 0, 1, "a look at /etc/passwd:");
    static char longest[300];
    memset(longest, 'n', 299);
    equal(link, share.name(1, longest, 300) != 0, 1, "a name of 299 bytes:");
    equal(link, share.name(1, "no end", 6) != 0, 1, "a name without an end:");
}
void share_opcodes(Link& link) {
    unsigned char nonsense[128];
    for (unsigned n = 0; n < 2; ++n) {
        Share share(link, n);
        share.init();
        for (unsigned fill : {0u, 0xffu, 0x41u}) {
            memset(nonsense, static_cast<int>(fill), sizeof nonsense);
            for (uint32_t opcode = 0; opcode < 60; ++opcode)
                if (opcode != 38) (void)share.ask(opcode, 1, nonsense, opcode % 3 == 0 ? 128 : 40);
            for (uint32_t wrong : {1u, 1000u, 0x8000'0000u}) (void)share.ask(1, 1, nonsense, 10, wrong);
        }
        share.init();
    }
}
void share_devices(Link& link) {
    Share share(link, 1);
    share.init();
    for (uint32_t mode : {020666u, 060666u, 010666u, 0140666u, 0120777u}) {
        unsigned char arguments[22] = {};
        store(address_of(arguments), mode), store(address_of(arguments) + 4, uint32_t{0x103});
        memcpy(arguments + 16, "dev", 4);
        equal(link, static_cast<uint64_t>(share.ask(8, 1, arguments, 20)), 1, "a device made:");
    }
    equal(link, static_cast<uint64_t>(share.ask(6, 1, "new\0/etc/passwd", 16)), 1, "a symbolic link made:");
}
void share_no_room(Link& link) {
    Share share(link, 0);
    FuseIn header{sizeof header, 17, 1, 1, 0, 0, 0, 0};
    auto* place = static_cast<unsigned char*>(allocate(4096));
    memcpy(place, &header, sizeof header);
    Buffer buffer{place, sizeof header};
    share.device().queue[1].add(&buffer, 1);
    share.device().queue[1].kick();
    wait_for_the_end(link);
}
void share_writes(Link& link) { // creates in the one that may be written, not in the other
    for (unsigned n = 0; n < 2; ++n) {
        Share share(link, n);
        share.init();
        unsigned made = 0;
        for (unsigned i = 0; i < 100; ++i) {
            unsigned char arguments[24] = {};
            store(address_of(arguments), uint32_t{2}), store(address_of(arguments) + 4, uint32_t{0100666});
            memcpy(arguments + 16, "made-00", 8);
            arguments[21] = static_cast<unsigned char>('0' + i / 10),
            arguments[22] = static_cast<unsigned char>('0' + i % 10);
            made += share.ask(35, 1, arguments, 24) == 0;
        }
        link.say(n ? "made in the second share:" : "made in the first share:", made);
    }
}

void frames(Link& link) {
    Device net = started(link, kNet);
    auto* place = static_cast<unsigned char*>(allocate(1 << 20));
    for (uint32_t bytes : {12u, 13u, 25u, 26u, 60u, 1600u, 65562u, 65563u, 200'000u, 1u << 20})
        for (unsigned flags = 0; flags < 4; ++flags) {
            memset(place, 0xff, 64);
            place[0] = static_cast<unsigned char>(flags),
            place[1] = static_cast<unsigned char>(flags ? 1 : 0xff);
            place[24] = 8, place[25] = 0;
            for (unsigned i = 0; i < 6; ++i) place[18 + i] = load<uint8_t>(net.registers + 0x100 + i);
            Buffer buffer{place, bytes};
            net.queue[1].add(&buffer, 1);
            net.queue[1].kick();
            if (!net.queue[1].wait()) fail(link, "no answer to a frame of", bytes);
        }
}
void short_frame(Link& link) {
    Device net = started(link, kNet);
    Buffer buffer{allocate(4096), 11};
    net.queue[1].add(&buffer, 1);
    net.queue[1].kick();
    wait_for_the_end(link);
}
void frame_storm(Link& link) {
    Device net = started(link, kNet);
    auto* place = static_cast<unsigned char*>(allocate(4096));
    memset(place, 0, 12);
    memset(place + 12, 0xff, 6);
    for (unsigned i = 0; i < 6; ++i) place[18 + i] = load<uint8_t>(net.registers + 0x100 + i);
    place[24] = 8, place[25] = 6;
    for (unsigned round = 0; round < 1600; ++round) {
        Buffer buffer{place, 12 + 60};
        net.queue[1].add(&buffer, 1);
        if (round % 16 == 15) net.queue[1].kick();
        if (round % 16 == 15)
            for (unsigned i = 0; i < 16; ++i)
                if (!net.queue[1].wait()) fail(link, "no answer to frame", round);
    }
}
} // namespace

const Case device_cases[] = {
    {"head beyond the queue", head_beyond},
    {"loop of descriptors", loop_of_descriptors},
    {"buffer over the end", over_the_end},
    {"address wraps", address_wraps},
    {"buffer over registers", over_registers},
    {"indirect", indirect},
    {"index jumps", index_jumps},
    {"wrong order", wrong_order},
    {"rings in the hole", rings_in_the_hole},
    {"wrong queue size", wrong_size},
    {"misaligned rings", misaligned},
    {"no queues", no_queues},
    {"features not offered", features_not_offered},
    {"kick storm", kick_storm},
    {"reset storm", reset_storm},
    {"vsock reset", vsock_reset},
    {"block ranges", block_ranges},
    {"block without status", block_no_status},
    {"console flood", console_flood},
    {"rng over its rings", rng_over_rings},
    {"vsock other CIDs", vsock_other_cids},
    {"vsock nonsense", vsock_nonsense},
    {"vsock long packet", vsock_long_packet},
    {"vsock connects", vsock_connects},
    {"vsock streams", vsock_streams},
    {"vsock endless frame", vsock_over_credit},
    {"link nonsense", link_nonsense},
    {"link long frame", link_long_frame},
    {"link hello again", link_hello_again},
    {"link flood", link_flood},
    {"share names", share_names},
    {"share opcodes", share_opcodes},
    {"share devices", share_devices},
    {"share no room", share_no_room},
    {"share writes", share_writes},
    {"frames", frames},
    {"short frame", short_frame},
    {"frame storm", frame_storm},
    {"last words", last_words},
};
const unsigned device_case_count = sizeof device_cases / sizeof *device_cases;

} // namespace hostile
