#include "nulld/reaper.h"

#include <csignal>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

namespace nullbox::nulld {

Result<std::unique_ptr<Reaper>> Reaper::make(Loop& loop, Callbacks callbacks) {
    std::unique_ptr<Reaper> reaper(new Reaper(loop));
    reaper->callbacks_ = std::move(callbacks);
    sigset_t set;
    ::sigemptyset(&set);
    for (int signal : {SIGCHLD, SIGTERM, SIGINT, SIGPWR}) ::sigaddset(&set, signal);
    if (::sigprocmask(SIG_BLOCK, &set, nullptr) < 0) return errno_error("block signals");
    for (int signal : {SIGPIPE, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT}) ::signal(signal, SIG_IGN);
    reaper->signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!reaper->signals_) return errno_error("take signals through a descriptor");
    auto read = [self = reaper.get()](uint32_t) { self->read_signals(); };
    reaper->watch_ = TRY(loop.watch(reaper->signals_.get(), EPOLLIN, read, kReapPriority));
    return reaper;
}

void Reaper::read_signals() {
    signalfd_siginfo info{};
    bool children = false;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            children = true;
        else
            callbacks_.signaled(static_cast<int>(info.ssi_signo), static_cast<pid_t>(info.ssi_pid));
    }
    // Signals of one kind merge, so a SIGCHLD stands for any number of children.
    if (children) reap();
}

void Reaper::reap() {
    int batch = 0;
    for (; batch < kReapBatch; batch++) {
        siginfo_t info{};
        if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0) break;
        counts_.total++;
        Exit exit{.by_signal = info.si_code != CLD_EXITED, .value = info.si_status};
        if (!callbacks_.ended(info.si_pid, exit)) counts_.orphans++;
    }
    if (batch == kReapBatch) more_ = loop_.after(std::chrono::seconds(0), [this] { reap(); });
    if (batch) callbacks_.all_reaped();
}

} // namespace nullbox::nulld
