#include "nulld/stage1.h"

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "nulld/boot_options.h"

namespace nullbox::nulld {

constexpr const char* kImage = "/root.squashfs";
constexpr const char* kNewRoot = "/root";
constexpr const char* kStage2 = "/system/bin/nulld";
constexpr const char* kRemedy = "Write the boot file to the medium again, and check its SHA-256.";
// Below this the services would end each other's lives without end. What the kernel counts of a machine with
// 128 MB.
constexpr uint64_t kLeastMemoryMb = 96;

// squashfs 4.0: magic "hsqs" at 0, bytes_used (64 bit) at 40.
std::string squashfs_problem(std::string_view superblock, uint64_t file_bytes) {
    if (superblock.size() < 96) return cat("it is too short (", file_bytes, " bytes)");
    if (!superblock.starts_with("hsqs")) return "it is not a SquashFS image";
    ByteReader reader(std::as_bytes(std::span(superblock.substr(40, 8))));
    auto used = reader.number<uint64_t>();
    if (used > file_bytes) return cat("it is cut off: ", file_bytes, " of ", used, " bytes are there");
    return {};
}

std::string memory_problem(uint64_t total_bytes) {
    if (total_bytes >> 20 >= kLeastMemoryMb) return {};
    return cat("this machine has ", total_bytes >> 20,
               " MB of memory beside the kernel's; NullBox needs 128 MB in all, and each agent its own");
}

static Result<> check_memory() {
    struct sysinfo facts{};
    if (::sysinfo(&facts) < 0) return errno_error("ask for the memory's size");
    auto problem = memory_problem(uint64_t{facts.totalram} * facts.mem_unit);
    if (problem.empty()) return {};
    return Error{.code = ENOMEM, .message = problem};
}

static Result<Fd> checked_image() {
    Fd image = TRY(open_readonly(kImage));
    struct stat status{};
    char superblock[96];
    if (::fstat(image.get(), &status) < 0) return errno_error(cat("look at ", kImage));
    ssize_t count = ::pread(image.get(), superblock, sizeof superblock, 0);
    if (count < 0) return errno_error(cat("read ", kImage));
    auto problem =
        squashfs_problem({superblock, static_cast<size_t>(count)}, static_cast<uint64_t>(status.st_size));
    if (!problem.empty()) return error(cat(kImage, " is damaged: ", problem));
    return image;
}

// The device's path. It detaches itself when the root goes.
static Result<std::string> loop_device(const Fd& image) {
    Fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!control) return errno_error("open /dev/loop-control");
    int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return errno_error("make a loop device");
    std::string path = cat("/dev/loop", number);
    Fd device(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!device) return errno_error(cat("open ", path));
    loop_config config{};
    config.fd = static_cast<uint32_t>(image.get());
    config.block_size = 4096;
    config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    if (::ioctl(device.get(), LOOP_CONFIGURE, &config) < 0)
        return errno_error(cat("attach ", kImage, " to ", path));
    // Around a page that is touched the kernel would read its neighbours, each of which costs a whole block
    // to unpack; the linker has put side by side what a start needs. Without that it is slower, and no more.
    (void)::ioctl(device.get(), BLKRASET, 0);
    // The mount must hold the device before our descriptor lets go of it, or autoclear takes it away.
    if (::mount(path.c_str(), kNewRoot, "squashfs", MS_RDONLY | MS_NOSUID | MS_NODEV, nullptr) < 0)
        return errno_error(cat("mount ", kImage, " (damaged, or packed in a way this kernel cannot read)"));
    return path;
}

static Result<> switch_root() {
    if (::mount("/dev", "/root/dev", nullptr, MS_MOVE, nullptr) < 0)
        return errno_error("move /dev into the new root");
    // The initramfs is memory: what is not needed any more is given back. (The image itself is held by the
    // loop device.)
    ::unlink("/init");
    if (::chdir(kNewRoot) < 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) < 0 || ::chroot(".") < 0 ||
        ::chdir("/") < 0)
        return errno_error("switch to the new root");
    return {};
}

static Result<> boot() {
    TRY(check_memory());
    for (const char* folder : {"/dev", kNewRoot}) ::mkdir(folder, 0755);
    // EBUSY: the kernel did it (CONFIG_DEVTMPFS_MOUNT).
    if (::mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755") < 0 && errno != EBUSY)
        return errno_error("mount devtmpfs at /dev");
    {
        Fd image = TRY(checked_image());
        TRY(loop_device(image));
    }
    TRY(switch_root());
    char program[] = "/system/bin/nulld";
    char* arguments[] = {program, nullptr};
    ::execv(kStage2, arguments);
    return errno_error(cat("execute ", kStage2, " of the root image"));
}

static void say(std::string_view text) { (void)write_all(STDERR_FILENO, text); }

[[noreturn]] static void give_up(const Error& failure) {
    say(cat("\nNullBox cannot start: ", failure.message, ".\n"));
    if (failure.code != ENOMEM) say(cat(kRemedy, "\n"));
    ::mkdir("/proc", 0555);
    ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
    auto options = parse_boot_options(read_file("/proc/cmdline").value_or(""));
    if (options.on_failure == OnFailure::PowerOff) ::reboot(RB_POWER_OFF);
    if (options.on_failure == OnFailure::Reboot) {
        say("It starts again in 10 seconds.\n");
        ::sleep(10);
        ::reboot(RB_AUTOBOOT);
    }
    say("The machine stays as it is; switch it off when you have read this.\n");
    for (;;) ::pause(); // PID 1 must not end: the kernel would panic and hide the message
}

void run_stage1() {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    ::setenv(kStage1Variable, cat(now.tv_sec * 1'000'000 + now.tv_nsec / 1000).c_str(), 1);
    auto failed = boot();
    give_up(failed.error());
}

} // namespace nullbox::nulld
