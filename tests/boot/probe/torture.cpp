// What a PID 1 must survive, each as a mode of one program of the test image.
//   torture orphans N     leaves N orphans behind, a hundred at a time, and says how many it made
//   torture fork-bomb     waits for SIGUSR1, then forks without end, every child too
//   torture stuck         is ready, and ignores SIGTERM
//   torture crash FILE    ends with status 3 at once while FILE exists; is ready and stays otherwise
//   torture talk          is ready, and prints lines without end
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/service.h"

namespace {

constexpr long kBatch = 100;

void wait_for_ever() {
    for (;;) pause();
}

int orphan_ends(void* status) { _exit(static_cast<int>(reinterpret_cast<intptr_t>(status) & 63)); }

// Makes children that share its memory (a copy of it for each would be most of the work), and ends before it
// could reap one: they are orphans, and PID 1 is the only one that can.
[[noreturn]] void orphan_maker(long count, int report) {
    constexpr size_t kStackBytes = 4096;
    alignas(16) static char stacks[kBatch][kStackBytes];
    long done = 0;
    for (long i = 0; i < count; ++i)
        done +=
            clone(orphan_ends, stacks[i] + kStackBytes, CLONE_VM | SIGCHLD, reinterpret_cast<void*>(i)) > 0;
    (void)!write(report, &done, sizeof done);
    _exit(0);
}

int orphans(long total) {
    for (long made = 0; made < total;) {
        int report[2];
        long count = std::min(kBatch, total - made), done = 0;
        if (pipe(report) != 0) return 1;
        pid_t maker = fork();
        if (maker < 0) return 1;
        if (maker == 0) orphan_maker(count, report[1]);
        close(report[1]);
        if (read(report[0], &done, sizeof done) != sizeof done) return 1;
        close(report[0]);
        waitpid(maker, nullptr, 0);
        made += done;
        if (done < count) usleep(1000); // at the limit of processes: give the reaper a moment
    }
    std::printf("%ld\n", total);
    return 0;
}

[[noreturn]] void fork_bomb() {
    std::signal(SIGUSR1, [](int) {});
    nullbox::notify_ready();
    pause();
    std::signal(SIGTERM, SIG_IGN);
    for (;;)
        if (fork() < 0) usleep(1000); // child and parent both go on
}

} // namespace

int main(int count, char** words) {
    const char* mode = count > 1 ? words[1] : "";
    const char* argument = count > 2 ? words[2] : "";
    if (std::strcmp(mode, "orphans") == 0) return orphans(std::atol(argument));
    if (std::strcmp(mode, "fork-bomb") == 0) fork_bomb();
    if (std::strcmp(mode, "stuck") == 0) {
        std::signal(SIGTERM, SIG_IGN);
        nullbox::notify_ready();
        wait_for_ever();
    }
    if (std::strcmp(mode, "crash") == 0) {
        if (access(argument, F_OK) == 0) return 3;
        nullbox::notify_ready();
        wait_for_ever();
    }
    if (std::strcmp(mode, "talk") == 0) {
        nullbox::notify_ready();
        for (long i = 1;; ++i) std::printf("line %ld\n", i);
    }
    std::fputs("usage: torture orphans N | fork-bomb | stuck | crash FILE | talk\n", stderr);
    return 2;
}
