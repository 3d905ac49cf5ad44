#include "cage/launch_plan.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/text.h"
#include "cage/host_facts.h"
#include "cage/image_check.h"
#include "cage/memory_door.h"

namespace nullbox::cage {

constexpr uint64_t kMb = uint64_t{1} << 20;
constexpr uint32_t kFirstGuestCid = 3; // 0 to 2 mean any, the machine itself, the host
constexpr uint64_t kVmPids = 64;       // one thread a vCPU, the device thread, KVM's own

static Result<Fd> open_image(const std::string& path) {
    Fd fd = TRY(open_readonly(path));
    struct stat info{};
    if (::fstat(fd.get(), &info) < 0) return errno_error(cat("look at ", path));
    if (!S_ISREG(info.st_mode)) return error(cat(path, " is not a regular file"));
    std::byte head[kImageHeadBytes];
    ssize_t count = ::pread(fd.get(), head, sizeof head, 0);
    if (count < 0) return errno_error(cat("read ", path));
    TRY(check_image(std::span(head).first(static_cast<size_t>(count)), static_cast<uint64_t>(info.st_size))
            .context(cat("image ", path)));
    return fd;
}

static Result<Fd> find_image(const std::string& name, const std::vector<std::string>& folders) {
    std::string tried;
    for (const auto& folder : folders) {
        auto path = cat(folder, "/", name, ".img");
        if (::access(path.c_str(), F_OK) == 0) return open_image(path);
        tried += cat(tried.empty() ? "" : " nor ", path);
    }
    return error(cat("image \"", name, "\" is missing: neither ", tried, " exists"));
}

// The guest's kernel maps its memory by pages of 2 MiB.
static uint64_t guest_memory(const manifest::AgentManifest& manifest) {
    return ((uint64_t{manifest.max_memory_mb} * kMb) + 2 * kMb - 1) & ~(2 * kMb - 1);
}

uint64_t vm_memory_limit(const manifest::AgentManifest& manifest) {
    bool has_shares = !manifest.read_paths.empty() || !manifest.write_paths.empty();
    return guest_memory(manifest) + kVmOverheadBytes + (has_shares ? kSharesOverheadBytes : 0);
}

// Kernel, initramfs and disks, in the order of the channel.
static Result<> add_files(const CatalogueEntry& agent, const HostSetup& host, Fd image, VmPlan& plan) {
    plan.descriptors.push_back(TRY(open_readonly(host.guest_kernel).context("guest kernel")));
    plan.descriptors.push_back(TRY(open_readonly(host.guest_initramfs).context("guest initramfs")));
    plan.descriptors.push_back(std::move(image));
    plan.start.block_devices = 1;
    if (agent.app_image_path.empty()) return {};
    plan.descriptors.push_back(TRY(open_image(agent.app_image_path)));
    plan.start.block_devices = 2;
    return {};
}

static void add_network(std::optional<NetworkGrant> network, LaunchPlan& plan) {
    if (!network) return;
    plan.vm.descriptors.push_back(std::move(network->tap));
    plan.vm.start.has_net = 1;
    plan.vm.start.mtu = network->network.mtu;
    std::ranges::copy(network->mac, plan.vm.start.mac);
    plan.start.network = std::move(network->network);
    plan.start.authority_pem = std::move(network->authority_pem);
}

static void add_shares(std::vector<OpenShare> shares, LaunchPlan& plan) {
    for (auto& share : shares) {
        plan.vm.start.share[plan.vm.start.shares++] = share.vm;
        plan.vm.descriptors.push_back(std::move(share.folder));
        plan.start.shares.push_back(std::move(share.guest));
    }
}

// What the manifest leaves out the image says, and the host does not look into images: agent-init does. Only
// where the host must know whose files a shared folder's are, the user is the manifest's or its default.
static void leave_to_image(const manifest::AgentManifest& manifest, guest_link::Start& start) {
    bool has_shares = !manifest.read_paths.empty() || !manifest.write_paths.empty();
    if (!manifest.has_user && !has_shares) {
        start.uid = guest_link::kImageDecides;
        if (!manifest.has_group) start.gid = guest_link::kImageDecides;
    }
    if (!manifest.has_working_directory) start.working_directory.clear();
}

static guest_link::Start start_frame(const CatalogueEntry& agent, const Variables& granted) {
    const auto& manifest = *agent.manifest;
    guest_link::Start start{.command = manifest.command,
                            .uid = manifest.uid,
                            .gid = manifest.gid,
                            .working_directory = manifest.working_directory,
                            .hostname = manifest.name,
                            .has_app_image = !agent.app_image_path.empty(),
                            .has_memory = MemoryDoor::is_wanted(manifest)};
    leave_to_image(manifest, start);
    auto variables = manifest.environment;
    if (start.has_memory)
        variables.emplace("NULLBOX_MEMORY_URL", cat("http://127.0.0.1:", guest_link::kMemoryPort));
    for (const auto& [name, value] : granted.all()) variables.erase(name);
    for (const auto& [name, value] : variables) start.environment.push_back(cat(name, "=", value));
    for (const auto& [name, value] : granted.all()) start.environment.push_back(cat(name, "=", value));
    return start;
}

Result<LaunchPlan> plan_launch(const CatalogueEntry& agent, const HostSetup& host, const Admission& admission,
                               Granted granted) {
    CHECK(agent.manifest);
    const auto& manifest = *agent.manifest;
    LaunchPlan plan{.vm = {.argv = host.vmm_argv, .namespaces = host.vm_namespaces},
                    .start = start_frame(agent, granted.variables)};
    Fd image = TRY(find_image(manifest.image, host.image_folders));
    auto meminfo = TRY(read_file("/proc/meminfo"));
    auto available = TRY(available_memory(meminfo));
    uint64_t limit = vm_memory_limit(manifest);
    TRY(check_memory(limit - kVmOverheadBytes, available, admission.promised_bytes));
    if (!host.kvm.empty()) plan.vm.descriptors.push_back(TRY(open_kvm(host.kvm.c_str())));
    TRY(add_files(agent, host, std::move(image), plan.vm));
    add_network(std::move(granted.network), plan);
    add_shares(TRY(open_shares(host.share_root, manifest)), plan);
    plan.vm.start.vcpus = manifest.vcpus();
    plan.vm.start.memory_bytes = guest_memory(manifest);
    plan.vm.start.guest_cid = kFirstGuestCid + admission.number;
    plan.vm.start.jail_uid = host.first_jail_uid == 0 ? 0 : host.first_jail_uid + admission.number;
    plan.vm.start.flags = host.kernel_log ? kStartKernelLog : 0;
    if (!host.cgroup_root.empty()) plan.vm.cgroup_path = cat(host.cgroup_root, "/", manifest.name);
    plan.vm.limits = {.memory_max_bytes = limit,
                      .pids_max = kVmPids + manifest.vcpus(),
                      .cpu_max_percent = manifest.max_cpu_percent};
    return plan;
}

} // namespace nullbox::cage
