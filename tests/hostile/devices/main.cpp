// A guest that misbehaves on purpose, against each real device: every case in a process of its own.
// hostile_devices [part of a case's text]
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "cases.h"

namespace nullbox::hostile {

constexpr unsigned kLimitS =
    60; // a hang is a failure too; the longest case takes a second, unless the machine is busy

void fail(std::string_view why) {
    (void)!::write(STDERR_FILENO, why.data(), why.size());
    ::_exit(1);
}

// What the child wrote to its stderr, up to a bound: why it failed, or a sanitizer's report.
static std::string output_of(int pipe) {
    std::string text;
    char chunk[4096];
    ssize_t count = 0;
    while ((count = ::read(pipe, chunk, sizeof chunk)) > 0)
        if (text.size() < 6000) text.append(chunk, static_cast<size_t>(count));
    return text;
}

static std::string verdict(int status, const std::string& output) {
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        return cat("it hangs: no end within ", kLimitS, " s");
    if (WIFSIGNALED(status)) return cat("died by signal ", WTERMSIG(status), " ", output);
    return WEXITSTATUS(status) == 0 ? "" : cat(output.empty() ? "no word" : output);
}

// Empty if it held.
static std::string run(const Case& one) {
    auto pipe = make_pipe();
    if (!pipe) return pipe.error().message;
    pid_t child = ::fork();
    if (child < 0) return "cannot fork";
    if (child == 0) {
        ::dup2(pipe->write.get(), STDERR_FILENO);
        ::alarm(kLimitS);
        one.run();
        std::exit(0); // NOLINT: one thread again; the leak checker looks at this moment
    }
    pipe->write.reset();
    auto output = output_of(pipe->read.get());
    int status = 0;
    ::waitpid(child, &status, 0);
    return verdict(status, output);
}

static int run_all(std::string_view wanted) {
    int passed = 0, failed = 0;
    for (auto cases : {queue_cases(), transport_cases(), bus_cases(), block_cases(), net_cases(),
                       vsock_cases(), fs_cases(), small_device_cases(), link_cases()}) {
        for (const Case& one : cases) {
            if (!one.what.contains(wanted)) continue;
            auto why = run(one);
            ++(why.empty() ? passed : failed);
            auto line = why.empty() ? cat("ok ", passed + failed, " - ", one.what, "\n")
                                    : cat("not ok ", passed + failed, " - ", one.what, ": ", why, "\n");
            std::fputs(line.c_str(), stdout);
            std::fflush(stdout);
        }
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

} // namespace nullbox::hostile

int main(int count, char** arguments) {
    ::signal(SIGPIPE, SIG_IGN); // as the VM process has it
    return nullbox::hostile::run_all(count > 1 ? arguments[1] : "");
}
