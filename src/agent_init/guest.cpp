#include "agent_init/guest.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_init/command.h"
#include "agent_init/network.h"
#include "agent_init/trust.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "cage/vmm_channel.h"

namespace nullbox::agent_init {

constexpr const char* kImageDevice = "/dev/vda";
constexpr const char* kAppDevice = "/dev/vdb";
constexpr const char* kScratchDevices[] = {"/dev/vdb",
                                           "/dev/vdc"}; // the last disk, behind the app's if there is

static Result<> mount_at(const char* source, const char* target, const char* type, unsigned long flags,
                         const char* options) {
    if (::mkdir(target, 0755) < 0 && errno != EEXIST) return errno_error(cat("make folder ", target));
    if (::mount(source, target, type, flags, options) < 0)
        return errno_error(cat("mount ", type, " at ", target));
    return {};
}

Result<> mount_devices() {
    return mount_at("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755");
}

static Result<Fd> vsock_to_host(uint32_t port, int flags) {
    Fd socket(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    if (!socket) return errno_error("make a vsock socket");
    sockaddr_vm host{};
    host.svm_family = AF_VSOCK;
    host.svm_cid = VMADDR_CID_HOST;
    host.svm_port = port;
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&host), sizeof host) < 0 &&
        errno != EINPROGRESS)
        return errno_error(cat("connect to the host's vsock port ", port));
    return socket;
}

Result<Fd> connect_host(uint32_t port) { return vsock_to_host(port, 0); }

Result<Fd> begin_to_connect_host(uint32_t port) { return vsock_to_host(port, SOCK_NONBLOCK); }

Result<ExecPort> listen_to_host(Loop& loop, uint32_t port, std::function<void(Fd)> adopt) {
    ExecPort out{.listener = Fd(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0))};
    if (!out.listener) return errno_error("make a vsock socket");
    int listener = out.listener.get();
    sockaddr_vm here{};
    here.svm_family = AF_VSOCK;
    here.svm_cid = VMADDR_CID_ANY;
    here.svm_port = port;
    if (::bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof here) < 0 ||
        ::listen(listener, 16) < 0)
        return errno_error(cat("listen on vsock port ", port));
    out.watch = TRY(loop.watch(listener, EPOLLIN, [listener, adopt = std::move(adopt)](uint32_t) {
        sockaddr_vm peer{};
        socklen_t size = sizeof peer;
        Fd stream(::accept4(listener, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
        if (stream && peer.svm_family == AF_VSOCK && peer.svm_cid == VMADDR_CID_HOST)
            adopt(std::move(stream));
    }));
    return out;
}

// By its magic number; the host has checked the rest of the superblock before it started us.
static Result<const char*> image_type(const char* device) {
    Fd fd = TRY(open_readonly(device));
    std::array<std::byte, 1028> head{};
    TRY(read_exact(fd.get(), head).context(cat("read ", device)));
    if (ByteReader(head).number<uint32_t>() == 0x73717368) return "squashfs";
    if (ByteReader(std::span(head).subspan(1024)).number<uint32_t>() == 0xe0f5e1e2) return "erofs";
    return error(cat("the image on ", device, " is neither SquashFS nor EROFS"));
}

static Result<> mount_image(const char* device, const char* target) {
    return mount_at(device, target, TRY(image_type(device)), MS_RDONLY | MS_NODEV, nullptr);
}

// A disk with an ext4 file system (by its magic number) is the scratch disk, which the host has formatted: it
// takes no other image of that kind. Null: there is none.
static const char* scratch_device() {
    for (const char* device : kScratchDevices) {
        auto fd = open_readonly(device);
        std::array<std::byte, 1082> head{};
        if (!fd || !read_exact(fd->get(), head)) continue;
        if (ByteReader(std::span(head).subspan(1080)).number<uint16_t>() == 0xef53) return device;
    }
    return nullptr;
}

static Result<Changes> mount_changes() {
    const char* scratch = scratch_device();
    if (scratch == nullptr) {
        TRY(mount_at("tmpfs", "/changes", "tmpfs", MS_NODEV, "mode=0755"));
        return Changes::Memory;
    }
    TRY(mount_at(scratch, "/changes", "ext4", MS_NODEV | MS_NOATIME, nullptr).context("scratch disk"));
    return Changes::ScratchDisk;
}

Result<Changes> enter_image() {
    ::unlink("/init"); // we are running; its pages are the agent's
    TRY(mount_image(kImageDevice, "/image"));
    Changes changes = TRY(mount_changes());
    if (::mkdir("/changes/upper", 0755) < 0 || ::mkdir("/changes/work", 0755) < 0)
        return errno_error("make the overlay's folders");
    // volatile: neither a tmpfs nor a scratch disk outlives the VM, so nothing needs syncing.
    TRY(mount_at("overlay", "/root", "overlay", MS_NODEV,
                 "lowerdir=/image,upperdir=/changes/upper,workdir=/changes/work,volatile"));
    if (::mkdir("/root/dev", 0755) < 0 && errno != EEXIST)
        return errno_error("make folder /dev in the image");
    if (::mount("/dev", "/root/dev", nullptr, MS_MOVE, nullptr) < 0) return errno_error("move /dev");
    if (::chdir("/root") < 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) < 0 || ::chroot(".") < 0 ||
        ::chdir("/") < 0)
        return errno_error("make the image the root");
    return changes;
}

static Result<> link_at(const char* target, const char* path) {
    if (::symlink(target, path) < 0 && errno != EEXIST) return errno_error(cat("link ", path));
    return {};
}

// Programs build and run things in /tmp: executable.
static Result<> mount_tmp(Changes changes) {
    if (changes == Changes::Memory)
        return mount_at("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    if (::mkdir("/tmp", 0755) < 0 && errno != EEXIST) return errno_error("make folder /tmp");
    if (::chmod("/tmp", 01777) < 0) return errno_error("open /tmp to all");
    return {};
}

Result<> mount_api_filesystems(Changes changes) {
    constexpr unsigned long kNone = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    TRY(mount_at("proc", "/proc", "proc", kNone, nullptr));
    TRY(mount_at("sysfs", "/sys", "sysfs", kNone, nullptr));
    TRY(mount_at("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"));
    TRY(mount_at("tmpfs", "/dev/shm", "tmpfs", kNone, "mode=1777"));
    TRY(mount_at("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755"));
    TRY(mount_tmp(changes));
    TRY(link_at("/proc/self/fd", "/dev/fd"));
    TRY(link_at("/proc/self/fd/0", "/dev/stdin"));
    TRY(link_at("/proc/self/fd/1", "/dev/stdout"));
    return link_at("/proc/self/fd/2", "/dev/stderr");
}

Result<> let_kernel_rest() {
    // Looks for memory to compact twice a second. Who asks for a huge page still has one made.
    // (vm.stat_interval stays: with its counts a CPU lets go of free pages that it has put by, without which
    // no whole block goes back to the host.)
    return write_existing("/proc/sys/vm/compaction_proactiveness", "0");
}

Result<> set_clock(uint64_t clock_ns) {
    constexpr uint64_t kSecond = 1'000'000'000;
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    if (clock_ns == 0 || std::llabs(static_cast<int64_t>(clock_ns / kSecond) - now.tv_sec) <= 1) return {};
    timespec wanted{.tv_sec = static_cast<time_t>(clock_ns / kSecond),
                    .tv_nsec = static_cast<long>(clock_ns % kSecond)};
    if (::clock_settime(CLOCK_REALTIME, &wanted) < 0) return errno_error("set the clock");
    return {};
}

static Result<> write_new_file(const char* path, std::string_view content) {
    Fd fd(::open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!fd && errno == EEXIST) return {};
    if (!fd) return errno_error(cat("create ", path));
    return write_all(fd.get(), content).context(path);
}

// An image's files are root's; the agent's home must be the agent's. Only where the image knows the user.
static Result<> own_home(const guest_link::Start& start) {
    auto home = home_of(start.uid, read_file("/etc/passwd").value_or(""));
    if (!home.starts_with("/home/") || start.uid == 0) return {};
    TRY(make_directories(home));
    if (::chown(home.c_str(), start.uid, start.gid) < 0)
        return errno_error(cat("give ", home, " to its user"));
    return {};
}

// The host enforces read-only; the flag here makes the guest's error say so at once.
static Result<> mount_share(const guest_link::StartShare& share) {
    // The place may be a folder of an outer share that is read-only, and then it is there already.
    struct stat info{};
    if (::stat(share.path.c_str(), &info) < 0)
        TRY(make_directories(share.path).context(cat("make a place for the shared folder ", share.path)));
    unsigned long flags = MS_NOSUID | MS_NODEV | (share.read_only ? MS_RDONLY : 0);
    if (::mount(share.tag.c_str(), share.path.c_str(), "virtiofs", flags, nullptr) < 0)
        return errno_error(cat("mount the shared folder ", share.path));
    return {};
}

Result<> apply(guest_link::Start& start) {
    if (::sethostname(start.hostname.c_str(), start.hostname.size()) < 0)
        return errno_error("set the host name");
    TRY(bring_up_loopback());
    if (start.network) TRY(bring_up_card(*start.network).context("network"));
    TRY(set_clock(start.clock_ns));
    if (start.has_app_image) TRY(mount_image(kAppDevice, "/app").context("app image"));
    // An image that brings its own keeps it.
    if (::mkdir("/etc", 0755) < 0 && errno != EEXIST) return errno_error("make folder /etc");
    TRY(write_new_file("/etc/hosts", cat("127.0.0.1 localhost ", start.hostname, "\n::1 localhost\n")));
    if (start.network) TRY(write_resolver_configuration(start.network->dns));
    if (!start.authority_pem.empty())
        TRY(trust_authority("", start.authority_pem, start.environment).context("trust the box's authority"));
    for (const auto& share : start.shares) TRY(mount_share(share));
    TRY(own_home(start));
    // The kernel's 4096 is from another age; programs that use select() still get 1024 unless they ask.
    rlimit files{.rlim_cur = 1024, .rlim_max = 524288};
    if (::setrlimit(RLIMIT_NOFILE, &files) < 0) return errno_error("set the limit of open files");
    return {};
}

void end_machine() {
    ::sync();
    ::reboot(RB_AUTOBOOT);
    for (;;) ::pause(); // reached only where this is not a VM of ours
}

} // namespace nullbox::agent_init
