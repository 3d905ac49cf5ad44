// agent-init: PID 1 of an agent's VM. Sets up the guest, runs the agent's command, tells the host how it
// went, and ends the machine. Everything about the agent comes over the link; nothing stands on the kernel's
// command line.
#include <csignal>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_init/guest.h"
#include "agent_init/image_defaults.h"
#include "agent_init/session.h"
#include "base/file.h"
#include "base/text.h"
#include "cage/vmm_channel.h"

namespace nullbox::agent_init {
namespace {

// How long the host may take to close the link after the last frame.
constexpr auto kFarewell = std::chrono::seconds(5);

// Sends the error of a step to the host as the last frame, and fails with it.
Result<> report(Link& link, std::string_view stage, Result<> step) {
    if (step) return {};
    auto message = step.error().message.substr(0, guest_link::kMaxMessageText);
    TRY(link.send(guest_link::Failure{.stage = std::string(stage), .message = message}));
    return std::move(step).context(stage);
}

Result<> serve(Link& link) {
    TRY(link.send(guest_link::Hello{.uptime_ns = uptime_ns()}));
    // While these run, the host answers Hello with Start.
    auto changes = enter_image();
    if (!changes) return report(link, "image", std::move(changes).error());
    TRY(report(link, "mounts", mount_api_filesystems(*changes)));
    TRY(report(link, "kernel settings", let_kernel_rest()));
    auto frame = TRY(link.wait_for_frame());
    if (!frame) return error("the host closed the link before Start");
    auto* start = std::get_if<guest_link::Start>(&*frame);
    if (start == nullptr) return {}; // Stop: there is nothing to stop yet
    TRY(report(link, "start", fill_in_from_root(*start)));
    TRY(report(link, "machine", apply(*start)));
    return run_session(link, *start,
                       {.kill_rest = [] { ::kill(-1, SIGKILL); },
                        .connect_memory = [] { return begin_to_connect_host(guest_link::kMemoryPort); },
                        .set_clock =
                            [](uint64_t clock_ns) {
                                if (auto set = set_clock(clock_ns); !set)
                                    (void)write_all(2, cat("agent-init: ", set.error().message, "\n"));
                            },
                        .listen_exec =
                            [](Loop& loop, std::function<void(Fd)> adopt) {
                                return listen_to_host(loop, guest_link::kExecPort, std::move(adopt));
                            },
                        .watch_for_thrashing = watch_for_thrashing});
}

Result<> run() {
    ::umask(022);
    TRY(mount_devices());
    Link link(TRY(connect_host(cage::kGuestLinkPort)));
    auto served = serve(link);
    link.finish(kFarewell);
    return served;
}

} // namespace
} // namespace nullbox::agent_init

int main() {
    using namespace nullbox;
    if (::getpid() != 1) {
        [[maybe_unused]] auto said =
            write_all(2, "agent-init is PID 1 of an agent's VM; it does nothing elsewhere\n");
        return 2;
    }
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, nullptr);
    if (auto result = agent_init::run(); !result) {
        // Descriptor 2 is the initramfs's /dev/console, which the host shows as a "vm" line.
        [[maybe_unused]] auto said = write_all(2, cat("agent-init: ", result.error().message, "\n"));
    }
    agent_init::end_machine();
}
