#include "cage/vmm/vmm.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/loop.h"
#include "base/text.h"
#include "cage/vmm/jail.h"
#include "cage/vmm/machine.h"
#include "cage/vmm_channel.h"

namespace nullbox::cage {

namespace {
constexpr size_t kFixedDescriptors = 3; // kvm, kernel, initramfs

struct Received {
    std::array<std::byte, sizeof(StartMessage)> bytes{};
    size_t size = 0; // 0: the channel has ended
    std::vector<Fd> descriptors;

    template <typename Message>
    std::optional<Message> as(VmmMessageKind kind) const {
        Message message;
        if (size != sizeof message) return std::nullopt;
        std::memcpy(&message, bytes.data(), sizeof message);
        if (message.kind != kind) return std::nullopt;
        return message;
    }
};

Result<Received> receive() {
    Received received;
    iovec place{received.bytes.data(), received.bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxStartDescriptors * sizeof(int))> control{};
    msghdr message{
        .msg_iov = &place, .msg_iovlen = 1, .msg_control = control.data(), .msg_controllen = control.size()};
    ssize_t size = ::recvmsg(kVmmChannelFd, &message, MSG_CMSG_CLOEXEC);
    if (size < 0) return errno_error("receive from cage");
    received.size = static_cast<size_t>(size);
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        std::array<int, kMaxStartDescriptors> numbers{};
        size_t bytes = part->cmsg_len - CMSG_LEN(0);
        std::memcpy(numbers.data(), CMSG_DATA(part), bytes);
        for (int number : std::span(numbers).first(bytes / sizeof(int)))
            received.descriptors.emplace_back(number);
    }
    return received;
}

template <typename Message>
bool send_to_cage(const Message& message, int descriptor = -1) {
    iovec place{const_cast<Message*>(&message), sizeof message};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr packet{.msg_iov = &place, .msg_iovlen = 1};
    if (descriptor >= 0) {
        packet.msg_control = control.data();
        packet.msg_controllen = control.size();
        cmsghdr* part = CMSG_FIRSTHDR(&packet);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(part), &descriptor, sizeof descriptor);
    }
    // A guest that connects faster than cage takes it gets refusals, not a waiting VM.
    return ::sendmsg(kVmmChannelFd, &packet, MSG_NOSIGNAL | (descriptor >= 0 ? MSG_DONTWAIT : 0)) >= 0;
}

Result<MachineFiles> sort_descriptors(const StartMessage& start, std::vector<Fd> descriptors) {
    size_t net = start.has_net ? 1 : 0;
    if (start.block_devices > kMaxBlockDevices || start.shares > kMaxShares ||
        descriptors.size() != kFixedDescriptors + start.block_devices + net + start.shares)
        return error(cat("Start with ", descriptors.size(), " descriptors for ", start.block_devices,
                         " disks, ", net, " network cards and ", start.shares,
                         " shares: kvm, kernel, initramfs and one for each are needed"));
    auto next = descriptors.begin();
    MachineFiles files;
    files.kvm = std::move(*next++);
    files.kernel = std::move(*next++);
    files.initramfs = std::move(*next++);
    for (uint32_t i = 0; i < start.block_devices; ++i)
        files.disks.push_back({std::move(*next++), (start.writable_mask >> i & 1) != 0});
    if (net) {
        files.net.emplace(std::move(*next++));
        std::ranges::copy(start.mac, files.net->options.mac.begin());
        files.net->options.mtu = start.mtu;
    }
    for (uint32_t i = 0; i < start.shares; ++i) files.shares.push_back({std::move(*next++), start.share[i]});
    return files;
}

JailOptions jail_for(const StartMessage& start, const MachineFiles& files) {
    JailOptions jail{.uid = start.jail_uid,
                     .writes_disks = start.writable_mask != 0,
                     .logs_to_stderr = (start.flags & kStartKernelLog) != 0,
                     .has_net = files.net.has_value()};
    for (const auto& share : files.shares)
        jail.folders.push_back({.descriptor = share.folder.get(), .writable = share.what.read_only == 0});
    return jail;
}

bool pass_guest_connection(uint32_t port, Fd peer) {
    return send_to_cage(PortMessage{.kind = VmmMessageKind::GuestConnected, .port = port}, peer.get());
}

// cage's later messages. The end of the channel is the end of the VM, with nobody left to tell.
void on_channel(Machine& machine) {
    auto received = receive();
    if (!received || received->size == 0) ::_exit(0);
    auto connect = received->as<PortMessage>(VmmMessageKind::ConnectGuest);
    if (connect && received->descriptors.size() == 1)
        machine.connect_guest(connect->port, std::move(received->descriptors.front()));
    if (auto pause = received->as<PauseMessage>(VmmMessageKind::Pause))
        machine.pause([number = pause->number] {
            send_to_cage(PauseMessage{.kind = VmmMessageKind::Paused, .number = number});
        });
    if (received->as<PauseMessage>(VmmMessageKind::Resume)) machine.resume();
}

Result<EndedMessage> serve(Loop& loop, Machine& machine) {
    bool ended = false;
    // What the guest did before its end is served first: an end has the lowest priority of a round.
    auto end = TRY(loop.watch(machine.end_fd(), EPOLLIN, [&](uint32_t) { ended = true; }, -1));
    auto channel = TRY(loop.watch(kVmmChannelFd, EPOLLIN, [&](uint32_t) { on_channel(machine); }));
    while (!ended) TRY(loop.run_once(std::chrono::milliseconds(-1)));
    return machine.finish();
}

// Tells cage, and ends the process. Nothing is freed before that: vCPU threads go on in it until they are
// gone.
[[noreturn]] void end(const Result<EndedMessage>& ended) {
    EndedMessage message;
    if (ended)
        message = *ended;
    else
        std::ranges::copy(ended.error().message.substr(0, sizeof message.text - 1), message.text);
    send_to_cage(message);
    ::_exit(ended ? 0 : 1);
}

struct Restrictions {
    const sandbox::SyscallFilter &vcpus_may, &devices_may;
    bool jailed;
};

Result<EndedMessage> start_and_serve(Loop& loop, Machine& machine, const Restrictions& restrictions) {
    TRY(machine.start(restrictions.jailed ? &restrictions.vcpus_may : nullptr));
    if (restrictions.jailed)
        if (int failed = restrictions.devices_may.install())
            return errno_error(failed, "jail: install the device thread's filter");
    // Serve.
    if (!send_to_cage(VmmMessageKind::Started)) return errno_error("tell cage that the VM has started");
    return serve(loop, machine);
}

// Returns only if it fails before the machine runs.
Result<EndedMessage> run() {
    auto received = TRY(receive());
    auto start = received.as<StartMessage>(VmmMessageKind::Start);
    if (!start) return error("the first message on the channel is not Start");
    start->command_line[sizeof start->command_line - 1] = '\0';
    // Acquire.
    auto loop = TRY(Loop::make());
    auto files = TRY(sort_descriptors(*start, std::move(received.descriptors)));
    // The machine keeps the shares' descriptors, by the same numbers.
    JailOptions jail = jail_for(*start, files);
    auto machine = TRY(Machine::build(*loop, std::move(files),
                                      {.vcpus = start->vcpus,
                                       .memory_bytes = start->memory_bytes,
                                       .guest_cid = start->guest_cid,
                                       .command_line = start->command_line,
                                       .kernel_log = jail.logs_to_stderr,
                                       .on_guest_connect = pass_guest_connection}));
    // Restrict. The vCPU threads start under their own filter; this thread's comes when they are there.
    auto vcpus_may = TRY(vcpu_filter(jail));
    auto devices_may = TRY(device_filter(jail));
    if (jail.uid != 0) TRY(enter_jail(jail));
    end(start_and_serve(*loop, *machine,
                        {.vcpus_may = vcpus_may, .devices_may = devices_may, .jailed = jail.uid != 0}));
}
} // namespace

int vmm_main() {
    // Nothing of the daemon's but the channel and its stderr.
    ::close_range(kVmmChannelFd + 1, ~0u, 0);
    ::signal(SIGPIPE, SIG_IGN);
    ::umask(0);                 // files and folders in shares get the modes they are made with
    ::signal(SIGXFSZ, SIG_IGN); // a limit on file sizes is an error to report, not an end
    end(run());
}

} // namespace nullbox::cage
