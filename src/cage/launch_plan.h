// From a manifest, and what other services granted for it, to everything a VM process is given: images found
// and checked, memory and KVM there, folders made, descriptors open. Nothing is started here; each refusal is
// one line with the remedy.
#pragma once

#include "cage/catalogue.h"
#include "cage/health_watch.h"
#include "cage/life_cycle.h"
#include "cage/needs.h"
#include "cage/shares.h"
#include "cage/uploads.h"
#include "cage/vm_process.h"
#include "guest_link/frames.h"

namespace nullbox::cage {

// Where things are on this machine, the same for every agent. Unit tests point it elsewhere.
struct HostSetup {
    std::vector<std::string> image_folders{"/agent/images", "/var/images"};
    std::string guest_kernel = "/system/guest/vmlinux";
    std::string guest_initramfs = "/system/guest/initramfs.cpio";
    std::string kvm = "/dev/kvm"; // empty: the VM process under test needs none
    std::vector<std::string> vmm_argv{"/proc/self/exe", "vmm"};
    uint64_t vm_namespaces = 0;
    std::string cgroup_root;           // agents' groups are made below; empty: no groups
    uint32_t first_jail_uid = 200'000; // 0: VM processes stay what we are (unit tests)
    std::string survivors_file;        // empty: nothing is kept for after a crash
    bool kernel_log = false;           // guests' kernels log to stderr, hence to the agents' logs
    std::string share_root = "/var/shared";
    ServiceSockets sockets;
    UploadPlaces uploads;
    LifeCycleLimits limits;
    HealthWatch::Limits health;
};

struct Admission {
    uint32_t number = 0; // of the agent, unique on this machine: its uid and its guest's CID follow from it
    uint64_t promised_bytes = 0; // what running agents may still take
};

// What a VM of it may take in all: the guest's memory and what its monitor needs.
uint64_t vm_memory_limit(const manifest::AgentManifest& manifest);

struct LaunchPlan {
    VmPlan vm;
    guest_link::Start start; // for agent-init; its clock is set when it goes
};

// Takes the tap and the variables out of granted.
Result<LaunchPlan> plan_launch(const CatalogueEntry& agent, const HostSetup& host, const Admission& admission,
                               Granted granted);

} // namespace nullbox::cage
