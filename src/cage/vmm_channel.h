// The channel between cage and one VM process: a SOCK_SEQPACKET pair, one message a packet, descriptors as
// SCM_RIGHTS. The VM process has no path and no other socket: what it holds came through here.
//
// cage -> vmm:  Start (first, once; descriptors: kvm, kernel, initramfs, then one per block device, then the
//               tap if has_net, then one folder per share)
//               ConnectGuest (descriptor: the host end's peer; port: the guest's port)
//               Pause, Resume (a Resume takes back the Pause before it, answered or not)
// vmm -> cage:  Started, GuestConnected (descriptor: our end of the new stream; port: the host port it asked
//               for), Paused (the number of the Pause it answers: no vCPU runs any more), Ended (reason and
//               text; the process exits after it)
//
// What the VM process needs of cage: to be spawned as `cage vmm` with this channel as descriptor 3 and stderr
// for the log, alone in a new pid namespace (CLONE_NEWPID), with CAP_SETUID, CAP_SETGID and CAP_SETPCAP to
// become jail_uid, and no Landlock policy (Landlock forbids pivot_root to all who inherit it; the VM process
// enforces its own). It is the first to close: cage ends a VM by closing the channel or killing the process.
// A guest that has something left to say says it before it reboots: at the VM's end what the guest had sent
// is still in cage's sockets, then they end. Descriptors of GuestConnected are nonblocking. ConnectGuest
// works once agent-init has connected, not before; a port where nobody listens shows as an end of the stream.
//
// The tap: IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, a header of 12 bytes, nonblocking, attached and up.
//
// A share is a descriptor of a folder (O_RDONLY or O_PATH, O_DIRECTORY). The VM process reaches what lies
// beneath it and nothing else, as its jail_uid, which owns nothing on the host. So the folder itself has mode
// 0777 and lies in a folder of mode 0700 that only cage may enter: a descriptor needs no way through it. What
// a guest makes there has mode 0666 or 0777 (0777 too for a file that anybody may execute), so that agents
// with different uids, or one agent that comes back with another, can work in the same folder.
//
// cage treats everything that comes from the VM process as guest-controlled: the process runs under the
// guest's thumb.
#pragma once

#include <cstdint>

namespace nullbox::cage {

constexpr int kVmmChannelFd = 3; // where the VM process finds its end
constexpr uint32_t kMaxBlockDevices = 7;
constexpr uint32_t kMaxShares = 8;
// What the VM process may hold for its shares, all together, beside what any VM process takes: the names of
// the files that the guest has looked at. Part of the memory limit of a VM that has shares.
constexpr uint64_t kSharesOverheadBytes = uint64_t{24} << 20;
constexpr uint32_t kMaxStartDescriptors = 3 + kMaxBlockDevices + 1 + kMaxShares;
constexpr uint32_t kGuestLinkPort = 1024; // agent-init connects here first: frames of src/guest_link

enum class VmmMessageKind : uint32_t {
    Start = 1,
    ConnectGuest = 2,
    Pause = 3,
    Resume = 4,
    Started = 16,
    GuestConnected = 17,
    Ended = 18,
    Paused = 19
};

enum class VmEnd : uint32_t {
    Shutdown = 1,    // the guest powered off or reset on purpose
    GuestFault = 2,  // triple fault, a device that saw nonsense, an exit we do not serve
    HostFailure = 3, // KVM or memory failed under us
    GuestPanic = 4,  // its kernel gave up
};

constexpr uint32_t kStartKernelLog =
    1; // StartMessage::flags: the guest kernel's log goes to stderr, line by line

struct Share {
    char tag[36] = {};      // what the guest mounts it by; NUL-padded, 1 to 36 bytes
    uint32_t read_only = 1; // 0: may be written
    uint32_t guest_uid = 0; // whose everything in it seems to be, in the guest
    uint32_t guest_gid = 0;
    uint64_t most_bytes = 0; // all files together, for growth through this VM; 0: what the file system has
    uint64_t most_files = 0; // files and folders, likewise
};

struct StartMessage {
    VmmMessageKind kind = VmmMessageKind::Start;
    uint32_t vcpus = 1;
    uint64_t memory_bytes = 0; // a multiple of 2 MiB
    uint64_t guest_cid = 3;
    uint32_t block_devices = 0;
    uint32_t writable_mask = 0; // bit n: block device n may be written
    uint32_t jail_uid = 0;      // the fresh uid of this VM; 0 (tests only): stay as we are
    uint32_t flags = 0;
    uint32_t has_net = 0;         // 1: there is a tap among the descriptors
    uint8_t mac[6] = {};          // of the guest's network card; frames from another are dropped
    uint16_t mtu = 1500;          // 1280 to 65535: what the guest's card takes, without the Ethernet header
    uint32_t shares = 0;          // how many of share[] count
    Share share[kMaxShares] = {}; // in the order of their descriptors
    char command_line[1024] = {}; // appended to the monitor's own; NUL-ended
};

struct PortMessage { // ConnectGuest, GuestConnected
    VmmMessageKind kind;
    uint32_t port = 0;
};

struct PauseMessage { // Pause, Resume, Paused
    VmmMessageKind kind;
    uint32_t number = 0; // of the Pause
};

struct EndedMessage {
    VmmMessageKind kind = VmmMessageKind::Ended;
    VmEnd reason = VmEnd::HostFailure;
    char text[240] = {}; // what happened, for a person; NUL-ended
};

} // namespace nullbox::cage
