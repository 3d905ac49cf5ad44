// cage: runs agents, one microVM each. `cage vmm` is the other half of this binary, one VM's monitor,
// executed afresh for each VM (docs/decisions/0004).
#include <algorithm>
#include <cerrno>
#include <linux/sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/service.h"
#include "base/text.h"
#include "cage/interface.h"
#include "cage/vmm/vmm.h"

namespace nullbox::cage {
namespace {

constexpr auto kOthersFirst = std::chrono::milliseconds(5000);
// nulld gives us its stop_timeout; agents get most of it.
constexpr auto kShutdownGrace = std::chrono::milliseconds(3000);
constexpr auto kShutdownLimit = std::chrono::milliseconds(4500);

struct Options {
    std::vector<uid_t> allowed; // beside those of the interface's table
    bool kernel_log = false;    // the guests' kernels log to their agents' logs
};

Result<Options> parse(std::span<char*> arguments) {
    Options options;
    for (size_t i = 0; i < arguments.size(); i++) {
        std::string_view argument = arguments[i];
        if (argument == "--kernel-log") {
            options.kernel_log = true;
        } else if (argument == "--allow-uid" && i + 1 < arguments.size()) {
            auto uid = parse_number(arguments[++i], 0, UINT32_MAX - 1);
            if (!uid) return error(cat("--allow-uid ", arguments[i], ": must be a number"));
            options.allowed.push_back(static_cast<uid_t>(*uid));
        } else {
            return error(cat("unknown argument ", argument, "; use [--allow-uid N]... [--kernel-log]"));
        }
    }
    return options;
}

Result<HostSetup> look_at_host(const Options& options) {
    HostSetup host;
    host.kernel_log = options.kernel_log;
    host.survivors_file = "/run/cage/wanted";
    host.cgroup_root = TRY(take_over_own_cgroup().context("agents' control group"));
    host.vm_namespaces = CLONE_NEWUSER | CLONE_NEWPID;
    return host;
}

Result<> serve(Service& service, const Options& options) {
    (void)set_nonblocking(STDOUT_FILENO); // the console's copy of agents' output is never waited for
    auto host = TRY(look_at_host(options));
    auto cage = TRY(Cage::make(service.loop(), std::move(host), {"/agent", "/var/agents"}));
    auto server = TRY(serve_interface(service.loop(), *cage, "/run/cage/cage.sock", options.allowed));
    Watch limit;
    service.on_stop([&] {
        limit = service.loop().after(kShutdownLimit, [&] { service.loop().stop(); });
        cage->stop_all(kShutdownGrace, [&] { service.loop().stop(); });
    });
    service.ready();
    cage->read_agents();
    cage->start_at_boot(kOthersFirst);
    return service.serve();
}

} // namespace
} // namespace nullbox::cage

int main(int count, char** arguments) {
    using namespace nullbox;
    auto given = std::span(arguments, static_cast<size_t>(count)).subspan(1);
    if (given.size() == 1 && std::string_view(given[0]) == "vmm") return cage::vmm_main();
    auto options = cage::parse(given);
    if (!options) {
        log_error(cat("cage: ", options.error().message));
        return 2;
    }
    return run_service("cage", [&](Service& service) { return cage::serve(service, *options); });
}
