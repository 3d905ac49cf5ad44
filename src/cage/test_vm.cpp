// A stand-in for `cage vmm` in unit tests: the same channel, a real agent-init session over a real stream,
// the agent's command run as a plain process of this machine. The file passed as guest kernel says what kind
// of VM this is: "normal", or one of the ways to misbehave below.
#include <csignal>
#include <cstring>
#include <dirent.h>
#include <memory>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent_init/image_defaults.h"
#include "agent_init/session.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/passing.h"
#include "base/text.h"
#include "cage/vmm_channel.h"

using namespace nullbox;
using namespace nullbox::cage;

static StartMessage receive_start(std::vector<Fd>& descriptors) {
    StartMessage start{};
    iovec data{.iov_base = &start, .iov_len = sizeof start};
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxStartDescriptors * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (::recvmsg(kVmmChannelFd, &message, MSG_CMSG_CLOEXEC) != sizeof start) ::_exit(90);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    for (size_t at = CMSG_LEN(0); header && at < header->cmsg_len; at += sizeof(int)) {
        int number = -1;
        std::memcpy(&number, reinterpret_cast<char*>(header) + at, sizeof number);
        descriptors.emplace_back(number);
    }
    return start;
}

template <typename T>
static void tell(const T& message, int descriptor = -1) {
    iovec data{.iov_base = const_cast<T*>(&message), .iov_len = sizeof message};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr packet{};
    packet.msg_iov = &data;
    packet.msg_iovlen = 1;
    if (descriptor >= 0) {
        packet.msg_control = control;
        packet.msg_controllen = sizeof control;
        cmsghdr* header = CMSG_FIRSTHDR(&packet);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    ::sendmsg(kVmmChannelFd, &packet, MSG_NOSIGNAL);
}

// The guest's connection to a host port: our end of it.
static Fd connect_to(uint32_t port) {
    auto pair = *make_socket_pair(SOCK_STREAM);
    tell(PortMessage{.kind = VmmMessageKind::GuestConnected, .port = port}, pair.second.get());
    return std::move(pair.first);
}

static bool closed_by_host(const Fd& stream) {
    char byte = 0;
    return ::read(stream.get(), &byte, 1) == 0;
}

// Stands still, or does not: what it was told is said on the VM's own log.
static void stand_still(PauseMessage message, bool deaf) {
    bool pause = message.kind == VmmMessageKind::Pause;
    (void)write_all(2, cat(pause ? "pause " : "resume ", message.number, "\n"));
    if (!pause || deaf) return;
    message.kind = VmmMessageKind::Paused;
    tell(message);
}

// What cage asks for once the guest runs, as the device thread takes it: streams into it, pauses.
static Result<agent_init::ExecPort> serve_channel(Loop& loop, bool deaf, std::function<void(Fd)> adopt) {
    static_assert(sizeof(PortMessage) == sizeof(PauseMessage));
    agent_init::ExecPort port;
    port.watch = TRY(loop.watch(kVmmChannelFd, EPOLLIN, [deaf, adopt = std::move(adopt)](uint32_t) {
        PortMessage message{};
        auto got = receive_with_fds(kVmmChannelFd, {reinterpret_cast<char*>(&message), sizeof message});
        if (got.count <= 0) ::_exit(0);
        if (message.kind == VmmMessageKind::Pause || message.kind == VmmMessageKind::Resume)
            return stand_still({.kind = message.kind, .number = message.port}, deaf);
        if (got.fds.size() == 1 && message.port == guest_link::kExecPort) adopt(std::move(got.fds[0]));
    }));
    return port;
}

static Result<> run_guest(bool deaf) {
    agent_init::Link link(connect_to(kGuestLinkPort));
    TRY(link.send(guest_link::Hello{.uptime_ns = agent_init::uptime_ns()}));
    auto frame = TRY(link.wait_for_frame());
    auto* start = frame ? std::get_if<guest_link::Start>(&*frame) : nullptr;
    if (!start) return error("no Start");
    if (auto filled = agent_init::fill_in_from_root(*start); !filled) {
        TRY(link.send(guest_link::Failure{.stage = "start", .message = filled.error().message}));
        link.finish(std::chrono::seconds(5));
        return {};
    }
    TRY(agent_init::run_session(
        link, *start,
        {.kill_rest = [] {},
         .set_clock = [](uint64_t clock_ns) { (void)write_all(2, cat("clock set to ", clock_ns, "\n")); },
         .listen_exec =
             [deaf](Loop& loop, std::function<void(Fd)> adopt) {
                 return serve_channel(loop, deaf, std::move(adopt));
             }}));
    link.finish(std::chrono::seconds(5));
    return {};
}

static EndedMessage ended(VmEnd reason, const char* text) {
    EndedMessage message{.reason = reason};
    std::strncpy(message.text, text, sizeof message.text - 1);
    return message;
}

// What came besides kernel, initramfs and disks, said on the VM's own log: a word that the tap holds, and the
// names in each shared folder.
static void describe(const StartMessage& start, const std::vector<Fd>& descriptors) {
    size_t at = 2 + start.block_devices;
    auto text =
        cat("net ", start.has_net, " mtu ", start.mtu, " mac ", start.mac[0], ":", start.mac[5], "\n");
    if (start.has_net) text += cat("tap ", read_fd(descriptors.at(at++).get(), 64).value_or("?"), "\n");
    for (uint32_t i = 0; i < start.shares; i++) {
        text += cat("share ", start.share[i].tag, start.share[i].read_only ? " ro" : " rw", " uid ",
                    start.share[i].guest_uid, " holds");
        std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(descriptors.at(at++).duplicate()->release()),
                                                    &::closedir);
        while (const dirent* entry = ::readdir(entries.get()))
            if (entry->d_name[0] != '.') text += cat(" ", entry->d_name);
        text += "\n";
    }
    if (at != descriptors.size()) text += "descriptors too many\n";
    (void)write_all(2, text);
}

// A program of the guest that uses the memory: its question goes out, the answer is said.
static int talk_to_memory() {
    agent_init::Link link(connect_to(kGuestLinkPort));
    (void)link.send(guest_link::Hello{});
    auto frame = link.wait_for_frame();
    auto* start = frame && *frame ? std::get_if<guest_link::Start>(&**frame) : nullptr;
    if (!start) return 93;
    (void)link.send(guest_link::Started{});
    auto stream = connect_to(guest_link::kMemoryPort);
    (void)::send(stream.get(), "question", 8, MSG_NOSIGNAL);
    char answer[64] = {};
    (void)::recv(stream.get(), answer, sizeof answer - 1, 0);
    (void)link.send(guest_link::Output{.text = cat("has memory ", start->has_memory, ", heard: ", answer)});
    (void)link.send(guest_link::Exited{});
    link.finish(std::chrono::seconds(5));
    tell(ended(VmEnd::Shutdown, "reset"));
    return 0;
}

int main() {
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child, nullptr);
    std::vector<Fd> descriptors;
    auto start = receive_start(descriptors);
    auto kind = descriptors.empty() ? "" : read_fd(descriptors[0].get(), 64).value_or("");
    (void)write_all(2, "kernel: booting\n");
    tell(VmmMessageKind::Started);
    if (kind == "describe") describe(start, descriptors);
    if (kind == "die") ::raise(SIGKILL);
    if (kind == "hang") ::pause();
    if (kind == "channel-nonsense") {
        tell(uint64_t{0x4141414141414141});
        ::pause();
    }
    if (kind == "link-nonsense") {
        auto stream = connect_to(kGuestLinkPort);
        (void)write_all(stream.get(), std::string(100, 'A'));
        ::pause();
    }
    if (kind == "output-before-start") {
        agent_init::Link link(connect_to(kGuestLinkPort));
        (void)link.send(guest_link::Hello{});
        (void)link.send(guest_link::Output{.text = "forged"});
        ::pause();
    }
    if (kind == "panic") {
        tell(ended(VmEnd::GuestPanic, "kernel panic\x1b[2J"));
        return 0;
    }
    if (kind == "other-ports") {
        // A port that nobody serves, and a second link: both are closed, and the first goes on.
        if (!closed_by_host(connect_to(22))) return 91;
    }
    if (kind == "memory") return talk_to_memory();
    if (kind == "host-failure") {
        tell(ended(VmEnd::HostFailure, "KVM cannot run the vCPU"));
        return 0;
    }
    if (kind == "out-of-memory") {
        tell(ended(VmEnd::GuestPanic, "Kernel panic - not syncing: System is deadlocked on memory"));
        return 0;
    }
    if (auto ran = run_guest(kind == "deaf"); !ran) return 92;
    tell(ended(VmEnd::Shutdown, "reset"));
    return 0;
}
