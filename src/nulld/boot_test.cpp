// The parts of the boot that look at bytes and tables.
#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <sched.h>
#include <set>
#include <sys/mount.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "nulld/boot_options.h"
#include "nulld/data_partition.h"
#include "nulld/host_setup.h"
#include "nulld/kernel_log.h"
#include "nulld/machine_sources.h"
#include "nulld/mounts.h"
#include "nulld/power.h"
#include "nulld/stage1.h"
#include "nulld/sysctls.h"

namespace nullbox::nulld {

class Folder {
public:
    Folder() {
        char name[] = "/tmp/nullbox-boot-test-XXXXXX";
        path = ::mkdtemp(name);
    }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string path;
};

TEST(Mounts, EverythingIsClosedAsFarAsItCanBe) {
    std::set<std::string> targets;
    for (const auto& entry : mount_table()) {
        EXPECT_TRUE(targets.insert(entry.target).second) << entry.target << " twice";
        EXPECT_TRUE(entry.flags & MS_NOSUID) << entry.target;
        EXPECT_TRUE(entry.flags & MS_NOEXEC) << entry.target;
        if (std::string_view(entry.target) != "/dev") EXPECT_TRUE(entry.flags & MS_NODEV) << entry.target;
        EXPECT_FALSE(std::string_view(entry.reason).empty());
    }
    for (const char* target : {"/dev", "/proc", "/sys", "/run", "/tmp", "/sys/fs/cgroup"})
        EXPECT_TRUE(targets.contains(target)) << target;
}

TEST(Mounts, MountinfoIsRead) {
    auto mounts = parse_mountinfo("22 1 7:0 / / ro,nosuid - squashfs /dev/loop0 ro\n"
                                  "30 22 254:0 / /var\\040x rw,noexec shared:4 master:1 - ext4 /dev/vda rw\n"
                                  "broken line\n");
    ASSERT_EQ(mounts.size(), 2u);
    EXPECT_EQ(mounts[0].type, "squashfs");
    EXPECT_EQ(mounts[1].target, "/var x");
    EXPECT_EQ(mounts[1].source, "/dev/vda");
    EXPECT_EQ(mounts[1].options, "rw,noexec");
}

TEST(Sysctls, EachOnceWithAReason) {
    std::set<std::string> names;
    for (const auto& entry : sysctl_table()) {
        EXPECT_TRUE(names.insert(entry.name).second) << entry.name << " twice";
        EXPECT_FALSE(std::string_view(entry.reason).empty()) << entry.name;
        EXPECT_NE(entry.name[0], '/');
    }
}

TEST(Sysctls, AbsentAndFailedAreToldApart) {
    Folder folder;
    for (const auto& entry : sysctl_table()) {
        std::string path = cat(folder.path, "/", entry.name);
        ASSERT_TRUE(make_directories(path.substr(0, path.rfind('/'))));
        ASSERT_TRUE(write_file_atomic(path, "", 0644));
    }
    std::filesystem::remove(folder.path + "/kernel/kptr_restrict");
    std::filesystem::remove(folder.path + "/kernel/sysrq");
    std::filesystem::create_directory(folder.path + "/kernel/sysrq"); // cannot be written, by root neither
    auto report = apply_sysctls(folder.path);
    EXPECT_EQ(report.absent, std::vector<std::string>{"kernel/kptr_restrict"});
    ASSERT_EQ(report.failed.size(), 1u);
    EXPECT_NE(report.failed[0].find("kernel/sysrq"), std::string::npos);
    EXPECT_EQ(*read_file(folder.path + "/kernel/panic"), "10\n");
}

// Control: the loop over kEachLink in apply_sysctls().
TEST(Sysctls, CardsThatAreThereAlreadyBelieveNoRouterEither) {
    Folder folder;
    for (auto name : {"eth0", "all", "default"})
        for (auto setting : {"accept_ra", "accept_redirects"}) {
            auto path = cat(folder.path, "/net/ipv6/conf/", name, "/");
            ASSERT_TRUE(make_directories(path));
            ASSERT_TRUE(write_file_atomic(path + setting, "1\n", 0644));
        }
    EXPECT_TRUE(apply_sysctls(folder.path).failed.empty());
    auto value = [&](std::string_view name) { return *read_file(cat(folder.path, "/net/ipv6/conf/", name)); };
    EXPECT_EQ(value("eth0/accept_ra"), "0\n");
    EXPECT_EQ(value("eth0/accept_redirects"), "0\n");
    EXPECT_EQ(value("default/accept_ra"), "0\n");
}

TEST(DataPartition, Ext4IsKnownByItsSuperblock) {
    std::vector<std::byte> start(2048);
    Ext4Superblock found;
    EXPECT_FALSE(looks_like_ext4(start, &found));
    start[1024 + 0x38] = std::byte{0x53}, start[1024 + 0x39] = std::byte{0xef};
    EXPECT_FALSE(looks_like_ext4(start, &found)) << "ext2 has the same magic";
    start[1024 + 0x60] = std::byte{0x40};
    EXPECT_TRUE(looks_like_ext4(start, &found));
    EXPECT_FALSE(found.recorded_errors);
    EXPECT_FALSE(found.clean) << "it was never unmounted";
    start[1024 + 0x3a] = std::byte{3};
    EXPECT_TRUE(looks_like_ext4(start, &found));
    EXPECT_TRUE(found.recorded_errors);
    EXPECT_FALSE(found.clean);
    start[1024 + 0x3a] = std::byte{1};
    EXPECT_TRUE(looks_like_ext4(start, &found));
    EXPECT_TRUE(found.clean);
    start[1024 + 0x60] = std::byte{0x44};
    EXPECT_TRUE(looks_like_ext4(start, &found));
    EXPECT_FALSE(found.clean) << "its journal holds what is not yet in place";
    EXPECT_FALSE(looks_like_ext4(std::span(start).first(1040), &found));
}

TEST(DataPartition, CandidatesInOrderWithoutLoopDevices) {
    Folder folder;
    for (const char* name : {"vdb", "vda", "loop0", "ram1", "nvme0n1p2", "sr0"})
        ASSERT_TRUE(make_directories(cat(folder.path, "/", name)));
    EXPECT_EQ(candidate_devices(folder.path), (std::vector<std::string>{"nvme0n1p2", "vda", "vdb"}));
    EXPECT_TRUE(candidate_devices("/nowhere").empty());
}

TEST(Stage1, ADamagedImageIsToldPlainly) {
    std::string superblock(96, '\0');
    EXPECT_EQ(squashfs_problem("", 0), "it is too short (0 bytes)");
    EXPECT_EQ(squashfs_problem(superblock, 5000), "it is not a SquashFS image");
    superblock.replace(0, 4, "hsqs");
    superblock[41] = 0x20; // bytes_used = 8192
    EXPECT_EQ(squashfs_problem(superblock, 5000), "it is cut off: 5000 of 8192 bytes are there");
    EXPECT_EQ(squashfs_problem(superblock, 8192), "");
    EXPECT_TRUE(memory_problem(uint64_t{54} << 20).contains("54 MB of memory"));
    EXPECT_EQ(memory_problem(uint64_t{96} << 20), "");
}

TEST(BootOptions, KnownWordsOnly) {
    auto options =
        parse_boot_options("quiet nulld.console=plain  nulld.on_failure=poweroff nulld.data_wait=7 x=y\n");
    EXPECT_TRUE(options.plain_console);
    EXPECT_EQ(options.on_failure, OnFailure::PowerOff);
    EXPECT_EQ(options.wait_for_data_s, 7u);
    auto none = parse_boot_options("nulld.on_failure=explode nulld.data_wait=-1 nulld.console=");
    EXPECT_EQ(none.on_failure, OnFailure::Stay);
    EXPECT_EQ(none.wait_for_data_s, 0u);
    EXPECT_FALSE(none.plain_console);
    EXPECT_EQ(none.cpus, "");
    EXPECT_EQ(parse_boot_options("nulld.cpus=1-2").cpus, "1-2");
}

TEST(BootOptions, ProgramsKeepToTheCpusThatAreNamed) {
    cpu_set_t before, after;
    ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    for (std::string_view wrong : {"-", "x", "1-", "2-1", "-1", "1-99999", "1-2-3", "0,1"}) {
        auto refused = keep_to_cpus(wrong);
        ASSERT_FALSE(refused.has_value()) << wrong;
        EXPECT_TRUE(refused.error().message.contains("FIRST-LAST")) << refused.error().message;
    }
    EXPECT_FALSE(keep_to_cpus("1022-1023").has_value()); // which nobody has
    std::thread([&] {
        ASSERT_TRUE(keep_to_cpus("0").has_value());
        ASSERT_EQ(::sched_getaffinity(0, sizeof after, &after), 0);
    }).join();
    EXPECT_EQ(CPU_COUNT(&after), 1);
    EXPECT_TRUE(CPU_ISSET(0, &after));
    ASSERT_EQ(::sched_getaffinity(0, sizeof after, &after), 0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(KernelLog, RecordsAndSeccompKills) {
    auto message =
        parse_kernel_message("5,339,5140900,-;audit: type=1326 audit(1.2:3): auid=4 uid=103 pid=52 "
                             "comm=\"cage\" exe=\"/system/bin/cage\" sig=31 arch=c000003e syscall=41 "
                             "compat=0\n SUBSYSTEM=x\n");
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(message->level, 5);
    EXPECT_EQ(message->uptime_ms, 5140);
    EXPECT_TRUE(message->text.ends_with("compat=0"));
    EXPECT_EQ(explain_seccomp(message->text),
              "cage (pid 52) made the system call socket, which its seccomp filter does not allow");
    EXPECT_FALSE(explain_seccomp("type=1400 syscall=1").has_value());
    for (const char* bad : {"", "x", "6,1,2", "-1,2;x", ";x"}) EXPECT_FALSE(parse_kernel_message(bad)) << bad;
}

TEST(MachineSources, SmbiosStrings) {
    using namespace std::string_view_literals;
    EXPECT_EQ(smbios_words(
                  "\x0b\x05\x00\x01\x02nullbox.hostname=a\0other\0nullbox.x=1 2\0nullbox.dhcp=false\0\0"sv),
              "nullbox.hostname=a nullbox.dhcp=false");
    EXPECT_EQ(smbios_words("\x0b\xff\x00\x01"sv), "");
    EXPECT_EQ(smbios_words("\x01\x05\x00\x01\x02nullbox.hostname=a\0\0"sv), "");
}

TEST(MachineSources, LaterOnesWin) {
    Folder folder;
    MachineSources sources{.image = folder.path + "/image",
                           .data = folder.path + "/data",
                           .fw_cfg = "/nowhere",
                           .smbios = "/nowhere",
                           .command_line = folder.path + "/cmdline"};
    ASSERT_TRUE(write_file_atomic(sources.image, "hostname = \"one\"\n", 0600));
    EXPECT_EQ(load_machine_config(sources).hostname, "one");
    ASSERT_TRUE(write_file_atomic(sources.data, "hostname = \"two\"\n", 0600));
    EXPECT_EQ(load_machine_config(sources).hostname, "two");
    ASSERT_TRUE(write_file_atomic(sources.command_line, "quiet nullbox.hostname=three\n", 0600));
    auto config = load_machine_config(sources);
    EXPECT_EQ(config.hostname, "three");
    EXPECT_TRUE(config.diagnostics.empty());
}

TEST(MachineSources, ServicesReadThemAsOneDocument) {
    Folder folder;
    MachineSources nowhere{.image = "/nowhere",
                           .data = folder.path + "/data",
                           .fw_cfg = "/nowhere",
                           .smbios = "/nowhere",
                           .command_line = "/nowhere"};
    ASSERT_TRUE(write_file_atomic(nowhere.data, "hostname = \"two\"\ngate.port = 444\n", 0600));
    std::string path = folder.path + "/run/machine.toml";
    auto published = publish_machine_config(load_machine_config(nowhere), path);
    ASSERT_TRUE(published.has_value()) << published.error().message;
    auto all = std::filesystem::perms::all;
    EXPECT_EQ(std::filesystem::status(path).permissions() & all, std::filesystem::perms(0644));
    manifest::MachineConfig read;
    manifest::apply_machine_document(read, *read_file(path), path);
    EXPECT_EQ(to_text(read.diagnostics), "");
    EXPECT_EQ(read.hostname, "two");
    EXPECT_EQ(read.gate_port, 444);
}

TEST(Power, VarIsUnmountedFirstAndTheRestInReverse) {
    auto mount = [](const char* target) { return MountedAt{.target = target}; };
    EXPECT_EQ(
        unmount_order({mount("/"), mount("/dev"), mount("/proc"), mount("/sys"), mount("/run"), mount("/tmp"),
                       mount("/var"), mount("/var/deep"), mount("/sys/fs/cgroup"), mount("/mnt")}),
        (std::vector<std::string>{"/var/deep", "/var", "/mnt", "/tmp", "/run"}));
}

TEST(RandomSeed, IsNewEachTimeAndPrivate) {
    Folder folder;
    std::string path = folder.path + "/seed";
    ASSERT_TRUE(save_random_seed(path));
    auto first = *read_file(path);
    EXPECT_EQ(first.size(), 512u);
    ASSERT_TRUE(save_random_seed(path));
    EXPECT_NE(*read_file(path), first);
    EXPECT_EQ(std::filesystem::status(path).permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST(ClockFloor, AClockThatIsRightIsLeftAlone) { EXPECT_FALSE(raise_clock(1'000'000'000).has_value()); }

} // namespace nullbox::nulld
