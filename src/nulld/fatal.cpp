#include "nulld/fatal.h"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace nullbox::nulld {

constexpr unsigned kSyncSeconds = 5;
constexpr unsigned kReadingSeconds = 10; // for the person at the console

// Everything from here on is async-signal-safe: memory may be in any state. Lines end as Console leaves it to
// whoever prints.
static void say(std::string_view text) {
    int fd = ::open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    (void)!::write(fd >= 0 ? fd : STDERR_FILENO, text.data(), text.size());
    if (fd >= 0) ::close(fd);
}

[[noreturn]] static void start_again() {
    // sync() may wait for a dead disk, so a child does it. A raw fork: glibc's runs handlers.
    long child = ::syscall(SYS_fork);
    if (child == 0) {
        ::sync();
        ::_exit(0);
    }
    for (unsigned tenths = 0; child > 0 && tenths < kSyncSeconds * 10; tenths++) {
        if (::waitpid(static_cast<pid_t>(child), nullptr, WNOHANG) == child) break;
        ::usleep(100'000);
    }
    ::sleep(kReadingSeconds);
    if (::getpid() == 1) ::reboot(RB_AUTOBOOT);
    ::_exit(134);
}

static void on_crash(int signal) {
    char text[] =
        "\r\nnulld: PID 1 crashed (signal 00). This is a bug in NullBox. The machine starts again.\r\n";
    char* digits = std::strstr(text, "00");
    digits[0] = static_cast<char>('0' + signal / 10), digits[1] = static_cast<char>('0' + signal % 10);
    say({text, sizeof text - 1});
    start_again();
}

void install_fatal_handlers() {
    alignas(16) static char stack[16384];
    stack_t alternate{.ss_sp = stack, .ss_flags = 0, .ss_size = sizeof stack};
    ::sigaltstack(&alternate, nullptr);
    struct sigaction action{};
    action.sa_handler = on_crash;
    action.sa_flags = static_cast<int>(SA_ONSTACK | SA_RESETHAND);
    for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS})
        ::sigaction(signal, &action, nullptr);
}

void fatal(std::string_view why) {
    say("\r\nnulld: ");
    say(why);
    say(". The machine starts again.\r\n");
    start_again();
}

} // namespace nullbox::nulld
