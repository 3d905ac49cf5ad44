// PID 1 of a peer's guest: what agent-init does for the same agent, with the same code, in a VM of QEMU's.
// The one difference is the way out: the agent's lines go to the console named on the command line, since the
// peer has no host end for agent-init's link. Ends the VM once the agent's first line is out: nothing later
// is measured.
//
// A kernel whose drivers are modules (Debian's) finds them in /modules, loaded in the order of
// /modules/order.
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent_init/command.h"
#include "agent_init/guest.h"
#include "base/file.h"
#include "base/text.h"
#include "guest_devices.h"

namespace nullbox::agent_init {
namespace {

constexpr uint32_t kResultPort = 1; // of the host, in a VM of ours, which shows no console

Result<> load_modules() {
    auto order = read_file("/modules/order");
    if (!order) return {}; // everything is built in
    for (const auto& name : split(trim(*order), '\n')) {
        auto path = cat("/modules/", name);
        Fd module = TRY(open_readonly(path));
        if (::syscall(SYS_finit_module, module.get(), "", 0) < 0 && errno != EEXIST)
            return errno_error(cat("load ", path));
    }
    return {};
}

// What agents/hello/AGENT.toml asks for.
guest_link::Start hello() {
    guest_link::Start start;
    start.hostname = "hello";
    start.command = {"/hello"};
    start.environment = {"HELLO_SECONDS=10"};
    start.working_directory = "/";
    start.uid = 1000;
    start.gid = 1000;
    return start;
}

Result<> forward_first_line(int from, int to) {
    std::string line;
    while (!line.contains('\n')) {
        pollfd ready{.fd = from, .events = POLLIN, .revents = 0};
        if (::poll(&ready, 1, -1) < 0) return errno_error("wait for the agent's output");
        char buffer[4096];
        ssize_t count = ::read(from, buffer, sizeof buffer);
        if (count <= 0) return error("the agent ended without a line");
        line.append(buffer, static_cast<size_t>(count));
    }
    return write_all(to, line);
}

Result<> measure_devices(const char* names) {
    TRY(mount_devices());
    auto line = cat("bench: ", bench::measure_devices(names), "\n");
    auto host = connect_host(kResultPort);
    if (host) {
        TRY(write_all(host->get(), line));
        ::shutdown(host->get(), SHUT_WR);
        char end = 0;
        (void)!::read(host->get(), &end, 1); // or it would be lost with the VM
        return {};
    }
    Fd console(::open("/dev/hvc0", O_WRONLY | O_NOCTTY | O_CLOEXEC));
    if (!console) return errno_error("open /dev/hvc0");
    return write_all(console.get(), line);
}

Result<> run() {
    ::umask(022);
    if (const char* names = ::getenv("bench")) return measure_devices(names);
    TRY(mount_devices());
    TRY(load_modules());
    // Opened here and not taken from the kernel, whose /dev/console needs a driver that may be one of the
    // modules.
    Fd console(::open("/dev/hvc0", O_WRONLY | O_NOCTTY | O_CLOEXEC));
    if (!console) return errno_error("open /dev/hvc0");
    ::dup2(console.get(), 2); // for the reason of a failure
    auto changes = TRY(enter_image());
    TRY(mount_api_filesystems(changes));
    auto start = hello();
    TRY(apply(start));
    auto command = TRY(start_command(start));
    return forward_first_line(command.out.get(), console.get());
}

} // namespace
} // namespace nullbox::agent_init

int main() {
    using namespace nullbox;
    if (::getpid() != 1) return 2;
    if (auto result = agent_init::run(); !result) {
        [[maybe_unused]] auto said = write_all(2, cat("guest-init: ", result.error().message, "\n"));
    }
    agent_init::end_machine();
}
