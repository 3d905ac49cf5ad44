// One VM process as cage sees it: spawned into its control group with one channel (vmm_channel.h), heard,
// killed, reaped. Everything that comes over the channel is guest-controlled.
//
// Invariant: `gone` is called once, after the process is reaped, its last messages are delivered and its
// control group is empty; nothing is called after it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "cage/end_reason.h"
#include "cage/vmm_channel.h"
#include "sandbox/cgroup.h"

namespace nullbox::cage {

struct VmPlan {
    std::vector<std::string> argv; // {"/proc/self/exe", "vmm"}
    uint64_t namespaces =
        0; // CLONE_NEW* for the process; with CLONE_NEWUSER only start.jail_uid exists in it
    StartMessage start;
    std::vector<Fd> descriptors; // kvm, kernel, initramfs, block devices in their order, tap, folders
    std::string cgroup_path;     // empty: none (unit tests as an ordinary user)
    sandbox::CgroupLimits limits;
};

struct VmEvents {
    std::function<void()> started;                           // the monitor runs its guest
    std::function<void(uint32_t port, Fd stream)> connected; // the guest opened a stream to this host port
    std::function<void(std::string_view line)> printed;      // the guest's console and the monitor's stderr
    std::function<void(EndCause cause)> gone;
    std::function<void()> paused = [] {}; // no vCPU runs any more; says the VM process
};

class VmProcess {
public:
    static Result<std::unique_ptr<VmProcess>> spawn(Loop& loop, const VmPlan& plan, VmEvents events);
    ~VmProcess(); // kills what is left

    pid_t pid() const { return pid_; }
    // A stream to a port of the guest; where nobody listens, it ends.
    Result<> connect_guest(uint32_t port, Fd stream);
    void kill();
    uint64_t memory_bytes() const { return cgroup_ ? cgroup_->memory_current_bytes() : 0; }
    std::chrono::microseconds cpu_time() const; // of all its threads; 0 without a control group
    // One that cannot be told is stuck or gone, and is killed.
    void pause();
    void resume();

private:
    VmProcess(Loop& loop, VmEvents events) : loop_(loop), events_(std::move(events)) {}
    Result<> prepare(const VmPlan& plan);
    Result<> launch(const VmPlan& plan, int channel, int output);
    Result<> map_user(uint32_t uid);
    Result<> send_start(const VmPlan& plan);
    Result<> watch();
    bool receive_message(); // false when there is none
    void handle_message(std::span<const std::byte> bytes, Fd descriptor);
    bool read_printed(); // false at the end, or when there is nothing now
    void on_exit();
    void finish_when_empty();
    void tell(VmmMessageKind kind);
    EndCause cause(int status) const;

    Loop& loop_;
    VmEvents events_;
    pid_t pid_ = -1;
    std::optional<sandbox::Cgroup> cgroup_;
    uint64_t oom_kills_before_ = 0;
    Fd process_, channel_, printed_;
    Watch process_watch_, channel_watch_, printed_watch_, empty_timer_;
    std::string line_;                  // an unfinished printed line
    std::optional<EndedMessage> ended_; // the monitor's own last word
    EndCause cause_;
    bool killed_ = false;
    bool pausing_ = false;
    uint32_t pause_number_ = 0; // of the last Pause
    std::optional<std::chrono::microseconds> cpu_at_end_;
    std::chrono::microseconds cpu_before_{}; // what a control group that is used again had counted
};

} // namespace nullbox::cage
