#include "peer_vm.h"

#include <cerrno>
#include <csignal>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/loop.h" // Clock
#include "base/text.h"

namespace nullbox::bench {

constexpr auto kLimit = std::chrono::seconds(120);
constexpr size_t kMaxOutputBytes = 1 << 20;
constexpr std::string_view kResident = "VmRSS:";
constexpr size_t kShownBytes = 1500;

// Moved onto the root, and not only chroot(): that forbids user namespaces, which a jail needs.
static bool enter(const std::string& root) {
    return ::unshare(CLONE_NEWNS) == 0 && ::chdir(root.c_str()) == 0 &&
           ::mount(".", "/", nullptr, MS_MOVE, nullptr) == 0 && ::chroot(".") == 0 && ::chdir("/") == 0;
}

static Result<pid_t> spawn(const std::string& root, const std::vector<std::string>& argv, int output) {
    std::vector<char*> words;
    words.reserve(argv.size() + 1);
    for (const auto& word : argv) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    pid_t pid = ::fork();
    if (pid < 0) return errno_error("fork");
    if (pid > 0) {
        ::setpgid(pid, pid); // as the child does itself: whoever comes first
        return pid;
    }
    ::setpgid(0, 0);
    ::dup2(output, 1);
    ::dup2(output, 2);
    if (enter(root)) ::execv(words[0], words.data());
    ::perror(words[0]);
    ::_exit(127);
}

Result<int64_t> resident_kb(int64_t pid) {
    for (const auto& line : split(TRY(read_file(cat("/proc/", pid, "/status"))), '\n')) {
        std::string_view rest = line;
        if (!rest.starts_with(kResident)) continue;
        rest.remove_prefix(kResident.size());
        if (rest.ends_with(" kB")) rest.remove_suffix(3);
        if (auto kb = parse_number(trim(rest), 0, INT64_MAX)) return *kb;
    }
    return error(cat("process ", pid, " has no ", kResident, " in /proc"));
}

Result<double> cpu_ms(int64_t pid) {
    auto text = TRY(read_file(cat("/proc/", pid, "/stat")));
    // proc_pid_stat(5): the name may hold anything, its bracket is the last one; 14 and 15 are the times.
    auto fields = split(std::string_view(text).substr(text.rfind(')') + 1), ' ');
    if (text.rfind(')') == text.npos || fields.size() < 14) return error(cat("process ", pid, ": no times"));
    auto user = parse_number(fields[12], 0, INT64_MAX), system = parse_number(fields[13], 0, INT64_MAX);
    if (!user || !system) return error(cat("process ", pid, ": no times"));
    return 1000.0 * static_cast<double>(*user + *system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

namespace {
// The line of `output` that holds `until`, once it is whole.
std::string whole_line(std::string_view output, std::string_view until) {
    auto found = output.find(until);
    if (found == output.npos) return {};
    auto end = output.find('\n', found);
    if (end == output.npos) return {};
    auto before = output.rfind('\n', found);
    auto begin = before == output.npos ? 0 : before + 1;
    return std::string(trim(output.substr(begin, end - begin)));
}
} // namespace

static Result<std::string> wait_for_line(int fd, const std::string& until, Clock::time_point begin) {
    std::string output;
    auto failed = [&](std::string_view why) {
        auto shown = output.size() > kShownBytes ? output.substr(output.size() - kShownBytes) : output;
        return error(cat(why, "; its output ends with: ", printable(shown)));
    };
    while (output.size() < kMaxOutputBytes) {
        auto left = std::chrono::ceil<std::chrono::milliseconds>(begin + kLimit - Clock::now()).count();
        if (left <= 0) return failed("the line did not come in time");
        pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
        if (::poll(&ready, 1, static_cast<int>(left)) <= 0) continue;
        char bytes[4096];
        ssize_t count = ::read(fd, bytes, sizeof bytes);
        if (count <= 0) return failed("the program ended before the line");
        output.append(bytes, static_cast<size_t>(count));
        if (auto line = whole_line(output, until); !line.empty()) return line;
    }
    return failed("too much output");
}

Result<FirstLine> run_until_line(const std::string& root, const std::vector<std::string>& argv,
                                 const std::string& until) {
    auto output = TRY(make_pipe());
    auto begin = Clock::now();
    pid_t pid = TRY(spawn(root, argv, output.write.get()));
    output.write.reset();
    auto line = wait_for_line(output.read.get(), until, begin);
    auto end = Clock::now();
    auto resident = resident_kb(pid);
    auto cpu = cpu_ms(pid);
    ::kill(-pid, SIGKILL); // its group: what it started, too
    ::waitpid(pid, nullptr, 0);
    if (!line) return line.error();
    return FirstLine{.after_ms = std::chrono::duration<double, std::milli>(end - begin).count(),
                     .process_kb = TRY(std::move(resident)),
                     .cpu_ms = TRY(std::move(cpu)),
                     .line = *std::move(line)};
}

} // namespace nullbox::bench
