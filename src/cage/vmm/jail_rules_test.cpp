// The lists of system calls, held against what the device thread really does: all devices work in a child,
// under the filter, with a tracer that writes down each call. An entry that no call matched is one too many,
// unless its rule says that it is rare; a call that no entry allows ends the child.
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <set>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "cage/vmm/balloon.h"
#include "cage/vmm/block.h"
#include "cage/vmm/fs_test_guest.h"
#include "cage/vmm/jail.h"
#include "cage/vmm/net.h"
#include "cage/vmm/rng.h"
#include "cage/vmm/vsock.h"
#include "cage/vmm_channel.h"

namespace nullbox::cage {

namespace {
struct Call {
    uint64_t number;
    std::array<uint64_t, 6> arguments;
    auto operator<=>(const Call&) const = default;
};

// Ends the child with the line that did not hold.
#define HOLDS(condition)                                                                                     \
    if (!(condition)) return __LINE__ % 200 + 1

Fd make_tap() {
    Fd tap(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    ifreq request{};
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int header_bytes = sizeof(NetHeader);
    if (!tap || ::ioctl(tap.get(), TUNSETIFF, &request) < 0 ||
        ::ioctl(tap.get(), TUNSETVNETHDRSZ, &header_bytes) < 0)
        return {};
    Fd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ::ioctl(any.get(), SIOCGIFFLAGS, &request);
    request.ifr_flags |= IFF_UP;
    return ::ioctl(any.get(), SIOCSIFFLAGS, &request) < 0 ? Fd() : std::move(tap);
}

// A device with a driver on each of its queues.
template <typename Device>
struct Driven {
    TestMemory memory;
    std::unique_ptr<Device> device;
    std::vector<Virtqueue> queues;
    std::vector<TestDriver> drivers;
    explicit Driven(std::unique_ptr<Device> made) : device(std::move(made)) {
        for (size_t i = 0; i < device->queue_count(); ++i) queues.emplace_back(memory.memory);
        for (size_t i = 0; i < queues.size(); ++i) {
            drivers.emplace_back(memory, queues[i], 0x1000 + i * 0x2000);
            queues[i].start();
        }
        device->wake = [this] { serve(); };
    }
    void serve() {
        for (int turn = 0; turn < 4 && device->process(queues); ++turn) {
        }
    }
    bool healthy() const {
        return std::ranges::all_of(queues, [](const Virtqueue& queue) { return queue.fault() == nullptr; });
    }
};

// Everything a VM's device thread has, made before the filter as Machine does it.
struct World {
    FsTestFolder folder;
    FsTestGuest share{folder.open(), true, {.most_bytes = 1 << 20, .most_files = 100}};
    Fd folder_for_jail = folder.open();
    std::unique_ptr<Loop> loop = *Loop::make();
    std::vector<Fd> streams; // cage's ends
    int channel;             // our end of the channel to cage
    Driven<BlockDevice> disk;
    Driven<NetDevice> net;
    Driven<VsockDevice> vsock;
    Driven<RngDevice> rng{std::make_unique<RngDevice>()};
    TestMemory balloon_memory;
    Driven<BalloonDevice> balloon;
    static constexpr MacAddress kMac{2, 0, 0, 0, 0, 7};

    World(int channel_fd, Fd tap)
        : channel(channel_fd), disk(*BlockDevice::make(memory_file(), {.writable = true})),
          net(*NetDevice::make(*loop, std::move(tap), {.mac = kMac})),
          vsock(std::make_unique<VsockDevice>(*loop, 42,
                                              [this](uint32_t, Fd peer) {
                                                  streams.push_back(std::move(peer));
                                                  return true;
                                              })),
          balloon(std::make_unique<BalloonDevice>(balloon_memory.memory)) {}

    static Fd memory_file() {
        Fd file(::memfd_create("disk", MFD_CLOEXEC));
        CHECK(write_all(file.get(), std::string(4096, 'd')));
        return file;
    }
};

int use_disk(World& world) {
    auto& disk = world.disk;
    for (uint32_t type : {0u, 1u, 4u}) {
        struct {
            uint32_t type, reserved;
            uint64_t sector;
        } header{type, 0, 1};
        disk.drivers[0].put(0x8000, header);
        if (type == 4)
            disk.drivers[0].add({{0x8000, 16}, {0xa000, 1, true}});
        else
            disk.drivers[0].add({{0x8000, 16}, {0x9000, 512, type == 0}, {0xa000, 1, true}});
        disk.serve();
        HOLDS(disk.drivers[0].get<uint8_t>(0xa000) == 0);
    }
    HOLDS(disk.healthy());
    return 0;
}

int use_net(World& world) {
    auto& net = world.net;
    net.device->start(net.device->features());
    struct {
        NetHeader header;
        EthernetHeader ethernet;
    } front{};
    front.ethernet.source = World::kMac;
    front.ethernet.type = {8, 6};
    net.drivers[1].put(0x20000, front);
    net.drivers[1].add({{0x20000, 72}});
    net.drivers[0].add({{0x30000, 2000, true}});
    net.serve();
    HOLDS(net.healthy() && net.device->counters().sent == 1);
    net.device->reset();
    return 0;
}

VsockHeader packet(VsockOperation operation, uint32_t length = 0, uint32_t flags = 0) {
    return {.source_cid = 42,
            .destination_cid = 2,
            .source_port = 1000,
            .destination_port = 1024,
            .length = length,
            .type = 1,
            .operation = static_cast<uint16_t>(operation),
            .flags = flags,
            .buffer_bytes = 65536};
}

int use_vsock(World& world) {
    auto& vsock = world.vsock;
    auto send = [&](const VsockHeader& header) {
        vsock.drivers[1].put(0x20000, header);
        vsock.drivers[1].add({{0x20000, static_cast<uint32_t>(sizeof header) + header.length}});
        vsock.serve();
    };
    for (uint64_t i = 0; i < 8; ++i) vsock.drivers[0].add({{0x30000 + i * 4096, 4096, true}});
    send(packet(VsockOperation::Request));
    HOLDS(world.streams.size() == 1);
    send(packet(VsockOperation::Data, 100));
    char text[100];
    HOLDS(::read(world.streams[0].get(), text, sizeof text) == 100);
    HOLDS(::write(world.streams[0].get(), "host", 4) == 4);
    for (int i = 0; i < 3; ++i) HOLDS(world.loop->run_once(std::chrono::milliseconds(0)));
    HOLDS(vsock.drivers[0].used_index() >= 2);
    send(packet(VsockOperation::Shutdown, 0, 2)); // sends no more
    world.streams.clear();
    for (int i = 0; i < 3; ++i) HOLDS(world.loop->run_once(std::chrono::milliseconds(0)));
    int pair[2]; // as it comes from cage
    HOLDS(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    vsock.device->connect_guest(80, Fd(pair[0]));
    ::close(pair[1]);
    HOLDS(vsock.healthy());
    return 0;
}

int use_small_devices(World& world) {
    world.rng.drivers[0].add({{0x8000, 32, true}});
    world.rng.serve();
    HOLDS(world.rng.healthy() && world.rng.drivers[0].has_used());
    world.balloon.drivers[2].add({{0x100000, 0x10000, true}});
    world.balloon.serve();
    HOLDS(world.balloon.healthy());
    log_info("as the guest's console does");
    char message[16];
    iovec place{message, sizeof message};
    msghdr all{.msg_iov = &place, .msg_iovlen = 1};
    HOLDS(::recvmsg(world.channel, &all, MSG_CMSG_CLOEXEC) == 1);
    uint64_t one = 1;
    int doorbell = world.channel + 1;
    HOLDS(::write(doorbell, &one, sizeof one) == sizeof one);
    HOLDS(::read(doorbell, &one, sizeof one) == sizeof one);
    return 0;
}

int use_share(World& world) {
    auto& guest = world.share;
    HOLDS(guest.init().error == 0);
    uint64_t folder = guest.mkdir(kRootNode, "d").as<fuse_entry_out>().nodeid;
    auto file = guest.create(folder, "file", O_RDWR, 0755);
    HOLDS(file.error == 0);
    uint64_t handle = FsTestGuest::created_handle(file), node = file.as<fuse_entry_out>().nodeid;
    HOLDS(guest.write(handle, 0, "text").error == 0);
    HOLDS(guest.read(handle, 0, 100).payload == "text");
    HOLDS(guest.set(node, {.valid = FATTR_MODE | FATTR_MTIME, .mtime = 1}).error == 0);
    HOLDS(guest.set(node, {.valid = FATTR_SIZE, .size = 2}).error == 0);
    for (uint32_t flags : {0u, 1u})
        HOLDS(guest.ask(FUSE_FSYNC, 0, FsTestGuest::raw(fuse_fsync_in{.fh = handle, .fsync_flags = flags}))
                  .error == 0);
    HOLDS(guest.ask(FUSE_FALLOCATE, 0, FsTestGuest::raw(fuse_fallocate_in{.fh = handle, .length = 8192}))
              .error == 0);
    HOLDS(
        guest.ask(FUSE_LSEEK, 0, FsTestGuest::raw(fuse_lseek_in{.fh = handle, .whence = SEEK_HOLE})).error ==
        0);
    HOLDS(guest.ask(FUSE_STATFS, kRootNode, "").error == 0);
    HOLDS(guest.release(handle).error == 0);
    HOLDS(guest.rename(folder, "file", kRootNode, "up").error == 0);
    uint64_t listing = guest.open_folder(kRootNode).as<fuse_open_out>().fh;
    HOLDS(guest.read(listing, 0, 4096, FUSE_READDIRPLUS).payload.contains("up"));
    HOLDS(guest.unlink(kRootNode, "up").error == 0);
    HOLDS(guest.ask(FUSE_RMDIR, kRootNode, FsTestGuest::named("d")).error == 0);
    return 0;
}

// The heap grows and gives back, as it does when a guest looks at many files.
void use_heap() {
    std::vector<std::vector<char>> pieces;
    for (int i = 0; i < 200; ++i) pieces.emplace_back(4000);
    pieces.emplace_back(40 << 20); // more than the largest size from which glibc may come to map
}

int work(World& world) {
    use_heap();
    for (auto step : {use_disk, use_net, use_vsock, use_small_devices, use_share})
        if (int line = step(world)) return line;
    return 0;
}

JailOptions everything(int folder) {
    return {.uid = 234567, .writes_disks = true, .has_net = true, .folders = {{folder, true}}};
}

// The child: a VM's process without a VM. Stops once where tracing begins.
int child() {
    if (::unshare(CLONE_NEWNET) < 0) return 201;
    Fd tap = make_tap();
    if (!tap) return 202;
    // As vmm_main has them: the channel is descriptor 3; a doorbell beside it.
    int pair[2];
    HOLDS(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    Fd tap_copy(::fcntl(tap.get(), F_DUPFD_CLOEXEC, 100));
    int peer = ::fcntl(pair[1], F_DUPFD_CLOEXEC, 100);
    HOLDS(::dup2(pair[0], kVmmChannelFd) == kVmmChannelFd);
    ::dup2(::eventfd(0, 0), kVmmChannelFd + 1);
    if (tap.get() == kVmmChannelFd || tap.get() == kVmmChannelFd + 1) (void)tap.release();
    HOLDS(::write(peer, "x", 1) == 1);
    ::umask(0);
    // Never destroyed: what unwinding does is no part of a VM's end.
    auto& world = *new World(kVmmChannelFd, std::move(tap_copy));
    auto filter = device_filter(everything(world.folder_for_jail.get()));
    HOLDS(filter);
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    HOLDS(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && filter->install() == 0);
    return work(world);
}

struct Traced {
    std::set<Call> calls;
    std::string trail;
    int status = 0;
};
Traced trace(pid_t pid) {
    Traced traced;
    ::waitpid(pid, &traced.status, 0);
    if (!WIFSTOPPED(traced.status)) return traced;
    ::ptrace(PTRACE_SETOPTIONS, pid, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    bool entering = true;
    int signal = 0;
    for (;;) {
        ::ptrace(PTRACE_SYSCALL, pid, nullptr, signal);
        ::waitpid(pid, &traced.status, 0);
        if (!WIFSTOPPED(traced.status)) return traced;
        signal = WSTOPSIG(traced.status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(traced.status);
        if (signal != 0) continue;
        user_regs_struct r{};
        ::ptrace(PTRACE_GETREGS, pid, nullptr, &r);
        if (entering) {
            traced.calls.insert({r.orig_rax, {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}});
            traced.trail += cat(" ", sandbox::syscall_name(static_cast<int>(r.orig_rax)));
        }
        entering = !entering;
    }
}

bool matches(const sandbox::SyscallRule& rule, const Call& call) {
    return call.number == static_cast<uint64_t>(rule.syscall) &&
           std::ranges::all_of(rule.arguments, [&](const sandbox::ArgumentCheck& check) {
               return (call.arguments[check.index] & check.mask) == check.value;
           });
}

std::set<int> numbers(const std::vector<JailRule>& rules) {
    std::set<int> set;
    for (const auto& rule : rules) set.insert(rule.allowed.syscall);
    return set;
}

TEST(JailRules, AreFew) {
    auto vcpu = numbers(vcpu_rules()), all = numbers(device_rules(everything(0)));
    EXPECT_LE(vcpu.size(), kMostVcpuCalls);
    all.insert(vcpu.begin(), vcpu.end());
    EXPECT_LE(all.size(), kMostCalls);
    RecordProperty("vcpu", static_cast<int>(vcpu.size()));
    RecordProperty("process", static_cast<int>(all.size()));
}

TEST(JailRules, EachIsUsedAndEachHasItsReason) {
#if __has_feature(address_sanitizer)
    GTEST_SKIP() << "the sanitizers make calls of their own";
#endif
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) ::syscall(SYS_exit_group, child());
    auto traced = trace(pid);
    ASSERT_TRUE(WIFEXITED(traced.status)) << "signal " << WTERMSIG(traced.status) << " after" << traced.trail;
    if (WEXITSTATUS(traced.status) == 202) GTEST_SKIP() << "no /dev/net/tun";
    ASSERT_EQ(WEXITSTATUS(traced.status), 0) << "the line of this file, modulo 200, less 1";
    for (const auto& rule : device_rules(everything(0))) {
        EXPECT_FALSE(std::string_view(rule.allowed.reason).empty());
        bool used =
            std::ranges::any_of(traced.calls, [&](const Call& call) { return matches(rule.allowed, call); });
        EXPECT_TRUE(used || rule.rare)
            << sandbox::syscall_name(rule.allowed.syscall) << " (" << rule.allowed.reason
            << ") is allowed, and nothing needs it: take it out of the list, or say why it is rare";
    }
}
} // namespace

} // namespace nullbox::cage
