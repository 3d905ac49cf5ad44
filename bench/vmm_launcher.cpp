// vmm_launcher: plays the cage daemon's part over the channel for one VM, and prints what comes, each line
// with the milliseconds since the spawn. For measuring the monitor, and for looking at a guest that does not
// come up.
//
//   vmm_launcher --kernel FILE [--initramfs FILE] [--disk FILE]... [--writable-disk FILE]... [--memory MIB]
//                [--scratch-disk FILE]... [--disk-mbps N] [--disk-iops N] [--balloon MIB]
//                [--cpus N] [--jail-uid UID] [--append WORDS] [--repeat N] [--log] [--init] [--tap NAME]
//                [--share TAG=FOLDER]... [--read-only-share TAG=FOLDER]... [--hello] [--watch]
//
// It executes itself as `vmm_launcher vmm` for the VM process. --init: it is PID 1 of a throw-away initramfs,
// so it mounts what it needs and powers the machine off at the end. --tap makes the tap; who brings it up and
// gives it an address meanwhile is somebody else. --hello: ends the VM at the guest's first bytes over vsock.
// What the guest sends over vsock is printed; to port 7 it is sent back.
// --watch: its memory, each second.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "cage/vmm/vmm.h"
#include "cage/vmm_channel.h"

using namespace nullbox;       // NOLINT: one small program
using namespace nullbox::cage; // NOLINT

namespace {
struct Options {
    std::string kernel, initramfs, append;
    std::vector<std::string> disks;
    uint32_t writable_mask = 0, scratch_mask = 0;
    uint64_t disk_mbps = 0, disk_iops = 0, balloon_mib = 0;
    uint64_t memory_mib = 128;
    uint32_t cpus = 1, jail_uid = 0;
    int repeat = 1;
    bool log = false, init = false, hello = false, watch = false;
    std::string tap;
    struct SharedFolder {
        std::string tag, folder;
        bool read_only;
    };
    std::vector<SharedFolder> shares;
};

constexpr uint32_t kEchoPort = 7;

std::chrono::steady_clock::time_point g_start;

void say(std::string_view text) {
    auto since =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - g_start);
    std::printf("%8.2f ms  %.*s\n", static_cast<double>(since.count()) / 1000, static_cast<int>(text.size()),
                text.data());
    std::fflush(stdout);
}

Result<Options> parse(int count, char** words) {
    Options options;
    for (int i = 1; i < count; ++i) {
        std::string_view word = words[i];
        if (word == "--log") {
            options.log = true;
            continue;
        }
        if (word == "--watch") {
            options.watch = true;
            continue;
        }
        if (word == "--hello") {
            options.hello = true;
            continue;
        }
        if (word == "--init") {
            options.init = true;
            continue;
        }
        if (i + 1 == count) return error(cat("unknown option or missing value: ", word));
        std::string value = words[++i];
        auto number = [&] { return parse_number(value, 0, 1 << 20).value_or(0); };
        if (word == "--kernel")
            options.kernel = value;
        else if (word == "--initramfs")
            options.initramfs = value;
        else if (word == "--append")
            options.append = value;
        else if (word == "--memory")
            options.memory_mib = static_cast<uint64_t>(number());
        else if (word == "--disk-mbps")
            options.disk_mbps = static_cast<uint64_t>(number());
        else if (word == "--disk-iops")
            options.disk_iops = static_cast<uint64_t>(number());
        else if (word == "--balloon")
            options.balloon_mib = static_cast<uint64_t>(number());
        else if (word == "--cpus")
            options.cpus = static_cast<uint32_t>(number());
        else if (word == "--jail-uid")
            options.jail_uid = static_cast<uint32_t>(number());
        else if (word == "--repeat")
            options.repeat = static_cast<int>(number());
        else if (word == "--tap")
            options.tap = value;
        else if ((word == "--share" || word == "--read-only-share") && value.contains('=')) {
            auto parts = split(value, '=');
            options.shares.push_back({std::string(parts[0]), std::string(parts[1]), word != "--share"});
        } else if (word == "--disk")
            options.disks.push_back(value);
        else if (word == "--writable-disk" || word == "--scratch-disk") {
            options.writable_mask |= 1u << options.disks.size();
            if (word == "--scratch-disk") options.scratch_mask |= 1u << options.disks.size();
            options.disks.push_back(value);
        } else
            return error(cat("unknown option ", word));
    }
    if (options.kernel.empty()) return error("--kernel FILE is needed");
    return options;
}

Result<Fd> open_file(const std::string& path, int flags) {
    Fd fd(::open(path.c_str(), flags | O_CLOEXEC));
    if (!fd) return errno_error(cat("open ", path));
    return fd;
}

Result<Fd> make_tap(const std::string& name) {
    Fd tap = TRY(open_file("/dev/net/tun", O_RDWR | O_NONBLOCK));
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int header_bytes = 12;
    if (::ioctl(tap.get(), TUNSETIFF, &request) < 0 || ::ioctl(tap.get(), TUNSETVNETHDRSZ, &header_bytes) < 0)
        return errno_error(cat("make tap ", name));
    return tap;
}

// What goes with the tap and the shares, after the disks.
Result<> add_net_and_shares(StartMessage& start, std::vector<Fd>& files, const Options& options) {
    if (!options.tap.empty()) {
        files.push_back(TRY(make_tap(options.tap)));
        start.has_net = 1;
        constexpr uint8_t kMac[6] = {2, 0, 0, 0, 0, 1};
        std::memcpy(start.mac, kMac, sizeof kMac);
    }
    if (options.shares.size() > kMaxShares) return error("more shares than a VM can have");
    for (const auto& share : options.shares) {
        files.push_back(TRY(open_file(share.folder, O_PATH | O_DIRECTORY)));
        Share& what = start.share[start.shares++];
        share.tag.copy(what.tag, sizeof what.tag);
        what.read_only = share.read_only;
    }
    return {};
}

Result<> send_start(int channel, const Options& options) {
    std::vector<Fd> files;
    files.push_back(TRY(open_file("/dev/kvm", O_RDWR)));
    files.push_back(TRY(open_file(options.kernel, O_RDONLY)));
    files.push_back(TRY(open_file(options.initramfs.empty() ? "/dev/null" : options.initramfs, O_RDONLY)));
    for (size_t i = 0; i < options.disks.size(); ++i)
        files.push_back(TRY(open_file(options.disks[i], options.writable_mask >> i & 1 ? O_RDWR : O_RDONLY)));
    StartMessage start{.vcpus = options.cpus,
                       .memory_bytes = options.memory_mib << 20,
                       .block_devices = static_cast<uint32_t>(options.disks.size()),
                       .writable_mask = options.writable_mask,
                       .scratch_mask = options.scratch_mask,
                       .disk_bytes_per_s = options.disk_mbps << 20,
                       .disk_operations_per_s = options.disk_iops,
                       .jail_uid = options.jail_uid,
                       .flags = options.log ? kStartKernelLog : 0};
    TRY(add_net_and_shares(start, files, options));
    options.append.copy(start.command_line, sizeof start.command_line - 1);
    iovec place{&start, sizeof start};
    alignas(cmsghdr) std::array<char, 256> control{};
    msghdr message{.msg_iov = &place, .msg_iovlen = 1, .msg_control = control.data()};
    message.msg_controllen = CMSG_SPACE(files.size() * sizeof(int));
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
    for (size_t i = 0; i < files.size(); ++i) {
        int number = files[i].get();
        std::memcpy(CMSG_DATA(part) + i * sizeof(int), &number, sizeof number);
    }
    if (::sendmsg(channel, &message, 0) < 0) return errno_error("send Start");
    return {};
}

Result<pid_t> spawn(Fd child_end, bool own_pid_namespace) {
    unsigned long flags = SIGCHLD | (own_pid_namespace ? CLONE_NEWPID : 0ul);
    auto pid = static_cast<pid_t>(::syscall(SYS_clone, flags, nullptr, nullptr, nullptr, nullptr));
    if (pid < 0) return errno_error("clone");
    if (pid == 0) {
        if (child_end.get() == kVmmChannelFd)
            ::fcntl(kVmmChannelFd, F_SETFD, 0);
        else
            ::dup2(child_end.get(), kVmmChannelFd);
        ::execl("/proc/self/exe", "vmm_launcher", "vmm", nullptr);
        ::_exit(127);
    }
    return pid;
}

// On a thread of its own: as near to the device as any other program would be.
void echo(Fd stream) {
    std::thread([stream = std::move(stream)] {
        int flags = ::fcntl(stream.get(), F_GETFL);
        ::fcntl(stream.get(), F_SETFL, flags & ~O_NONBLOCK);
        char bytes[4096];
        for (ssize_t count; (count = ::read(stream.get(), bytes, sizeof bytes)) > 0;)
            if (!write_all(stream.get(), std::string_view(bytes, static_cast<size_t>(count)))) return;
    }).detach();
}

// One message of the channel; false at its end.
bool hear(int channel, std::vector<Fd>& streams) {
    std::array<std::byte, sizeof(EndedMessage)> bytes{};
    iovec place{bytes.data(), bytes.size()};
    alignas(cmsghdr) std::array<char, 64> control{};
    msghdr message{
        .msg_iov = &place, .msg_iovlen = 1, .msg_control = control.data(), .msg_controllen = control.size()};
    if (::recvmsg(channel, &message, MSG_CMSG_CLOEXEC) <= 0) return false;
    if (cmsghdr* part = CMSG_FIRSTHDR(&message)) {
        int number = -1;
        std::memcpy(&number, CMSG_DATA(part), sizeof number);
        streams.emplace_back(number);
    }
    VmmMessageKind kind{};
    std::memcpy(&kind, bytes.data(), sizeof kind);
    PortMessage port{};
    std::memcpy(&port, bytes.data(), sizeof port);
    EndedMessage ended;
    std::memcpy(&ended, bytes.data(), sizeof ended);
    ended.text[sizeof ended.text - 1] = '\0';
    if (kind == VmmMessageKind::Started) say("started");
    if (kind == VmmMessageKind::GuestConnected && port.port == kEchoPort && !streams.empty()) {
        echo(std::move(streams.back()));
        streams.pop_back();
    } else if (kind == VmmMessageKind::GuestConnected)
        say(cat("guest connected to port ", port.port));
    if (kind == VmmMessageKind::Ended)
        say(cat("ended, reason ", static_cast<uint32_t>(ended.reason), ": ", ended.text));
    return true;
}

// What a stream brings; false at its end.
bool drain(const Fd& stream) {
    std::array<char, 4096> bytes{};
    ssize_t count = ::read(stream.get(), bytes.data(), bytes.size());
    if (count > 0) say(cat("stream: ", printable({bytes.data(), static_cast<size_t>(count)}, 1000)));
    return count > 0 || (count < 0 && errno == EAGAIN);
}

void report_memory(pid_t pid) {
    auto status = read_file(cat("/proc/", pid, "/status"));
    if (!status) return;
    for (std::string_view line : split(*status, '\n'))
        if (line.starts_with("VmHWM") || line.starts_with("RssAnon") || line.starts_with("RssFile") ||
            line.starts_with("Seccomp:"))
            say(line);
}

Result<> run_one(const Options& options) {
    g_start = std::chrono::steady_clock::now();
    auto channel = TRY(make_socket_pair(SOCK_SEQPACKET));
    pid_t pid = TRY(spawn(std::move(channel.second), options.jail_uid != 0));
    TRY(send_start(channel.first.get(), options));
    std::vector<Fd> streams;
    bool started = false;
    while (true) {
        std::vector<pollfd> waiting{{.fd = channel.first.get(), .events = POLLIN}};
        for (const Fd& stream : streams) waiting.push_back({.fd = stream.get(), .events = POLLIN});
        // With --watch, a look at its memory each second.
        if (::poll(waiting.data(), waiting.size(), options.watch ? 1000 : -1) < 0) return errno_error("poll");
        if (options.balloon_mib > 0 && std::exchange(started, true) == false) {
            BalloonMessage balloon{.pages = static_cast<uint32_t>(options.balloon_mib << 8)};
            (void)!::send(channel.first.get(), &balloon, sizeof balloon, MSG_NOSIGNAL);
        }
        std::vector<Fd> left;
        for (size_t i = 1; i < waiting.size(); ++i)
            if (!waiting[i].revents || drain(streams[i - 1])) left.push_back(std::move(streams[i - 1]));
        bool heard = std::ranges::any_of(waiting, [&](const pollfd& one) {
            return one.fd != channel.first.get() && (one.revents & POLLIN) != 0;
        });
        if (options.hello && heard) break;
        streams = std::move(left);
        if (waiting[0].revents && !hear(channel.first.get(), streams)) break;
        if (options.watch) report_memory(pid);
    }
    int status = 0;
    channel.first.reset(); // without it the VM ends
    ::waitpid(pid, &status, 0);
    say(cat("VM process gone, status ", status));
    return {};
}

// The initramfs itself is a root that pivot_root cannot leave, so a second mount of it goes on top.
void become_init() {
    for (const char* folder : {"/top", "/proc", "/dev", "/tmp"}) ::mkdir(folder, 0755);
    ::mount("/", "/top", nullptr, MS_BIND, nullptr);
    if (::chdir("/top") < 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) < 0 || ::chroot(".") < 0)
        std::perror("second root");
    ::mount("none", "/proc", "proc", 0, nullptr);
    ::mount("none", "/dev", "devtmpfs", 0, nullptr);
    ::mount("none", "/tmp", "tmpfs", 0, nullptr);
}
} // namespace

int main(int count, char** words) {
    if (count == 2 && std::string_view(words[1]) == "vmm") return vmm_main();
    auto options = parse(count, words);
    Result<> done;
    if (options) {
        if (options->init) become_init();
        for (int i = 0; i < options->repeat && done; ++i) done = run_one(*options);
    }
    if (!options || !done)
        std::fprintf(stderr, "vmm_launcher: %s\n",
                     (options ? done.error() : options.error()).message.c_str());
    if (options && options->init) ::reboot(RB_POWER_OFF);
    return options && done ? 0 : 1;
}
