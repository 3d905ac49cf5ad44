#include "cage/vm_process.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/passing.h"
#include "base/text.h"

namespace nullbox::cage {

constexpr size_t kMaxPrintedLine = 1024;
constexpr int kMaxMessagesPerRound = 16; // so that one VM's chatter does not hold up the others

namespace {
// Everything the child needs, made before the clone: it allocates nothing.
struct ChildPlan {
    const char* path;
    char* const* argv;
    char* const* environment;
    int in, channel, output;
    int mapped; // says when our user namespace knows a user; -1: there is none to wait for
};
} // namespace

// In a fresh user namespace: waits until cage has mapped the VM's uid, and keeps for the jail what it needs
// to become it. These capabilities count in the namespace only; outside, the process has none, and cage needs
// no CAP_SYS_ADMIN.
static bool enter_user_namespace(int mapped) {
    char byte = 0;
    if (::read(mapped, &byte, 1) != 1) return false;
    constexpr uint32_t kKept = 1U << CAP_SETUID | 1U << CAP_SETGID | 1U << CAP_SETPCAP;
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2] = {{kKept, kKept, kKept}, {0, 0, 0}};
    if (::syscall(SYS_capset, &header, data) < 0) return false;
    for (int capability : {CAP_SETUID, CAP_SETGID, CAP_SETPCAP})
        if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, static_cast<unsigned long>(capability), 0, 0) < 0)
            return false;
    return true;
}

// Between clone and exec. The descriptors it places are >= 10, so no dup2 overwrites one still needed.
static void become_vm(const ChildPlan& plan) {
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    // The VM does not outlive us. (The jail changes uid, which clears this; after that the control group is
    // what a new cage kills by.)
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (plan.mapped >= 0 && !enter_user_namespace(plan.mapped)) return;
    if (::setsid() < 0 || ::dup2(plan.in, 0) < 0 || ::dup2(plan.output, 1) < 0 ||
        ::dup2(plan.output, 2) < 0 || ::dup2(plan.channel, kVmmChannelFd) < 0)
        return;
    // Everything is CLOEXEC already; this is the second lock on the same door.
    ::syscall(SYS_close_range, kVmmChannelFd + 1, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */);
    ::execve(plan.path, plan.argv, plan.environment);
}

static Result<Fd> above_ten(const Fd& fd) {
    Fd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 10));
    if (!copy) return errno_error("duplicate descriptor");
    return copy;
}

Result<std::unique_ptr<VmProcess>> VmProcess::spawn(Loop& loop, const VmPlan& plan, VmEvents events) {
    std::unique_ptr<VmProcess> vm(new VmProcess(loop, std::move(events)));
    TRY(vm->prepare(plan).context("VM process"));
    return vm;
}

Result<> VmProcess::prepare(const VmPlan& plan) {
    if (!plan.cgroup_path.empty()) {
        cgroup_ = TRY(sandbox::Cgroup::create(plan.cgroup_path));
        TRY(cgroup_->limit(plan.limits));
        oom_kills_before_ = cgroup_->oom_kills();
        cpu_before_ = cgroup_->cpu_time();
    }
    auto channel = TRY(make_socket_pair(SOCK_SEQPACKET));
    auto output = TRY(make_pipe());
    Fd child_channel = TRY(above_ten(channel.second));
    Fd child_output = TRY(above_ten(output.write));
    TRY(launch(plan, child_channel.get(), child_output.get()));
    channel_ = std::move(channel.first);
    printed_ = std::move(output.read);
    TRY(set_nonblocking(channel_.get()));
    TRY(set_nonblocking(printed_.get()));
    TRY(send_start(plan));
    return watch();
}

Result<> VmProcess::launch(const VmPlan& plan, int channel, int output) {
    Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!null) return errno_error("open /dev/null");
    Fd in = TRY(above_ten(null));
    std::vector<char*> argv;
    argv.reserve(plan.argv.size() + 1);
    for (const auto& text : plan.argv) argv.push_back(const_cast<char*>(text.c_str()));
    argv.push_back(nullptr);
    char* no_environment[] = {nullptr}; // nothing of ours is the VM's business
    ChildPlan child{.path = plan.argv.front().c_str(),
                    .argv = argv.data(),
                    .environment = no_environment,
                    .in = in.get(),
                    .channel = channel,
                    .output = output,
                    .mapped = -1};
    auto mapped = TRY(make_pipe());
    bool own_user = (plan.namespaces & CLONE_NEWUSER) != 0;
    if (own_user) child.mapped = mapped.read.get();
    int process = -1;
    clone_args how{};
    how.flags = CLONE_PIDFD | plan.namespaces;
    how.pidfd = reinterpret_cast<uint64_t>(&process);
    how.exit_signal = SIGCHLD;
    if (cgroup_) {
        how.flags |= CLONE_INTO_CGROUP;
        how.cgroup = static_cast<uint64_t>(cgroup_->directory_fd());
    }
    long pid = ::syscall(SYS_clone3, &how, sizeof how);
    if (pid < 0) return errno_error("clone");
    if (pid == 0) {
        become_vm(child);
        ::_exit(127);
    }
    pid_ = static_cast<pid_t>(pid);
    process_ = Fd(process);
    if (!own_user) return {};
    TRY(map_user(plan.start.jail_uid));
    return write_all(mapped.write.get(), "m").context("let the VM process go on");
}

// One uid and one gid, the same inside as outside.
Result<> VmProcess::map_user(uint32_t uid) {
    auto map = cat(uid, " ", uid, " 1");
    TRY(write_existing(cat("/proc/", pid_, "/uid_map"), map));
    return write_existing(cat("/proc/", pid_, "/gid_map"), map);
}

Result<> VmProcess::send_start(const VmPlan& plan) {
    iovec data{.iov_base = const_cast<StartMessage*>(&plan.start), .iov_len = sizeof plan.start};
    if (plan.descriptors.size() > kMaxStartDescriptors)
        return error("more descriptors than the channel takes");
    size_t bytes = plan.descriptors.size() * sizeof(int);
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxStartDescriptors * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    std::vector<int> numbers;
    numbers.reserve(plan.descriptors.size());
    for (const auto& fd : plan.descriptors) numbers.push_back(fd.get());
    std::memcpy(CMSG_DATA(header), numbers.data(), bytes);
    if (::sendmsg(channel_.get(), &message, MSG_NOSIGNAL) < 0) return errno_error("send Start");
    return {};
}

Result<> VmProcess::connect_guest(uint32_t port, Fd stream) {
    PortMessage what{.kind = VmmMessageKind::ConnectGuest, .port = port};
    std::vector<Fd> fds;
    fds.push_back(std::move(stream));
    auto bytes = std::span(reinterpret_cast<const char*>(&what), sizeof what);
    if (send_with_fds(channel_.get(), bytes, fds) < 0) return errno_error("ask the VM for a stream");
    return {};
}

Result<> VmProcess::watch() {
    process_watch_ = TRY(loop_.watch(process_.get(), EPOLLIN, [this](uint32_t) { on_exit(); }));
    channel_watch_ = TRY(loop_.watch(channel_.get(), EPOLLIN, [this](uint32_t) {
        for (int i = 0; i < kMaxMessagesPerRound; i++)
            if (!receive_message()) return;
    }));
    printed_watch_ = TRY(loop_.watch(printed_.get(), EPOLLIN, [this](uint32_t) { read_printed(); }));
    return {};
}

bool VmProcess::receive_message() {
    std::byte bytes[sizeof(EndedMessage) + 1]; // one more than the largest, to see a message that is too long
    iovec data{.iov_base = bytes, .iov_len = sizeof bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t count = ::recvmsg(channel_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (count < 0) return errno == EINTR;
    if (count == 0) {
        channel_watch_.drop(); // closed; the process's end is seen by its pidfd
        return false;
    }
    Fd descriptor; // closes what a message brings that has no use for it
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (header != nullptr && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int))) {
        int number = -1;
        std::memcpy(&number, CMSG_DATA(header), sizeof number);
        descriptor = Fd(number);
    }
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        log_error(cat("VM process ", pid_, ": a message beyond the protocol; killing it"));
        kill();
        return false;
    }
    handle_message(std::span(bytes).first(static_cast<size_t>(count)), std::move(descriptor));
    return true;
}

template <typename T>
static std::optional<T> as_message(std::span<const std::byte> bytes) {
    if (bytes.size() != sizeof(T)) return std::nullopt;
    T message;
    std::memcpy(&message, bytes.data(), sizeof message);
    return message;
}

void VmProcess::handle_message(std::span<const std::byte> bytes, Fd descriptor) {
    uint32_t kind = 0;
    if (bytes.size() >= sizeof kind) std::memcpy(&kind, bytes.data(), sizeof kind);
    if (kind == static_cast<uint32_t>(VmmMessageKind::Started) && !descriptor) return events_.started();
    if (kind == static_cast<uint32_t>(VmmMessageKind::GuestConnected) && descriptor)
        if (auto message = as_message<PortMessage>(bytes))
            return events_.connected(message->port, std::move(descriptor));
    if (kind == static_cast<uint32_t>(VmmMessageKind::Paused) && !descriptor)
        if (auto message = as_message<PauseMessage>(bytes)) {
            // One of a pause that was taken back is late, and no more than that.
            if (pausing_ && message->number == pause_number_) events_.paused();
            return;
        }
    if (kind == static_cast<uint32_t>(VmmMessageKind::Ended))
        if (auto message = as_message<EndedMessage>(bytes)) {
            message->text[sizeof message->text - 1] = '\0';
            ended_ = *message;
            return;
        }
    log_error(cat("VM process ", pid_, ": nonsense on its channel (kind ", kind, ", ", bytes.size(),
                  " bytes); killing it"));
    kill();
}

bool VmProcess::read_printed() {
    char chunk[4096];
    ssize_t count = ::read(printed_.get(), chunk, sizeof chunk);
    if (count < 0) return errno == EINTR;
    if (count == 0) {
        printed_watch_.drop();
        if (!line_.empty()) events_.printed(std::exchange(line_, {}));
        return false;
    }
    for (char character : std::string_view(chunk, static_cast<size_t>(count))) {
        if (character != '\n') line_ += character;
        if (character == '\n' || line_.size() == kMaxPrintedLine) events_.printed(std::exchange(line_, {}));
    }
    return true;
}

std::chrono::microseconds VmProcess::cpu_time() const {
    if (cpu_at_end_) return *cpu_at_end_;
    return cgroup_ ? cgroup_->cpu_time() - cpu_before_ : std::chrono::microseconds(0);
}

void VmProcess::tell(VmmMessageKind kind) {
    PauseMessage message{.kind = kind, .number = pause_number_};
    if (::send(channel_.get(), &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) kill();
}

void VmProcess::pause() {
    pausing_ = true;
    pause_number_++;
    tell(VmmMessageKind::Pause);
}

void VmProcess::resume() {
    pausing_ = false;
    tell(VmmMessageKind::Resume);
}

void VmProcess::kill() {
    killed_ = true;
    if (cgroup_) {
        if (auto done = cgroup_->kill(); done) return;
    }
    if (process_) ::syscall(SYS_pidfd_send_signal, process_.get(), SIGKILL, nullptr, 0);
}

// The words of Linux's panic when no process is left that could be killed for memory.
static bool is_out_of_memory(std::string_view panic) {
    return panic.contains("deadlocked on memory") || panic.contains("Out of memory");
}

EndCause VmProcess::cause(int status) const {
    if (ended_) {
        auto text = printable(ended_->text);
        switch (ended_->reason) {
        case VmEnd::Shutdown:
            return {EndReason::GuestFailed, cat("the guest ended without a report from agent-init: ", text)};
        case VmEnd::GuestFault:
            return {EndReason::VmFault, cat("the guest was stopped: ", text)};
        case VmEnd::GuestPanic:
            return {is_out_of_memory(text) ? EndReason::GuestOutOfMemory : EndReason::GuestPanic,
                    cat("the guest was stopped: ", text)};
        case VmEnd::HostFailure:
            return {EndReason::HostFailure, text};
        }
    }
    if (cgroup_ && cgroup_->oom_kills() > oom_kills_before_)
        return {EndReason::HostOutOfMemory,
                "its VM process passed the memory limit of its control group and was killed"};
    if (killed_) return {EndReason::VmEnded, "its VM process was killed"};
    if (WIFSIGNALED(status))
        return {EndReason::VmEnded, cat("its VM process died by signal ", WTERMSIG(status))};
    return {EndReason::VmEnded,
            cat("its VM process ended with code ", WEXITSTATUS(status), "; see the agent's log")};
}

void VmProcess::on_exit() {
    siginfo_t info{};
    if (::waitid(P_PIDFD, static_cast<id_t>(process_.get()), &info, WEXITED | WNOHANG) == 0 &&
        info.si_pid == 0)
        return;
    process_watch_.drop();
    while (channel_watch_ && receive_message()) {
    }
    while (printed_watch_ && read_printed()) {
    }
    channel_watch_.drop();
    printed_watch_.drop();
    int status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
    cause_ = cause(status);
    if (cgroup_) (void)cgroup_->kill(); // it has no children; if it had, they would be here
    finish_when_empty();
}

// A killed group empties within moments; a process that hangs in the kernel may hold it longer, and until it
// is empty the agent is not gone.
void VmProcess::finish_when_empty() {
    if (cgroup_ && cgroup_->populated()) {
        empty_timer_ = loop_.after(std::chrono::milliseconds(20), [this] { finish_when_empty(); });
        return;
    }
    cpu_at_end_ = cpu_time(); // it goes with the group
    if (cgroup_) (void)cgroup_->remove();
    process_.reset();
    auto gone = std::move(events_.gone);
    gone(std::move(cause_)); // may destroy us
}

VmProcess::~VmProcess() {
    if (process_) kill();
}

} // namespace nullbox::cage
