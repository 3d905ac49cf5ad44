#include "peer_vm.h"

#include <cerrno>
#include <csignal>
#include <filesystem>
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

// A number of /proc/PID/status or of a thread's.
static Result<int64_t> status_number(const std::string& path, std::string_view field) {
    for (const auto& line : split(TRY(read_file(path)), '\n')) {
        std::string_view rest = line;
        if (!rest.starts_with(field)) continue;
        rest.remove_prefix(field.size());
        if (rest.ends_with(" kB")) rest.remove_suffix(3);
        if (auto value = parse_number(trim(rest), 0, INT64_MAX)) return *value;
    }
    return error(cat(path, " has no ", field));
}

Result<int64_t> resident_kb(int64_t pid) { return status_number(cat("/proc/", pid, "/status"), "VmRSS:"); }

Result<double> cpu_ms(int64_t pid) {
    auto text = TRY(read_file(cat("/proc/", pid, "/stat")));
    // proc_pid_stat(5): the name may hold anything, its bracket is the last one; 14 and 15 are the times.
    auto fields = split(std::string_view(text).substr(text.rfind(')') + 1), ' ');
    if (text.rfind(')') == text.npos || fields.size() < 14) return error(cat("process ", pid, ": no times"));
    auto user = parse_number(fields[12], 0, INT64_MAX), system = parse_number(fields[13], 0, INT64_MAX);
    if (!user || !system) return error(cat("process ", pid, ": no times"));
    return 1000.0 * static_cast<double>(*user + *system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Result<Activity> activity(int64_t pid) {
    Activity all{.cpu_ms = TRY(cpu_ms(pid))};
    std::error_code wrong;
    for (const auto& thread : std::filesystem::directory_iterator(cat("/proc/", pid, "/task"), wrong))
        all.wakeups += static_cast<double>(
            TRY(status_number(thread.path().string() + "/status", "voluntary_ctxt_switches:")));
    if (wrong) return errno_error(wrong.value(), cat("the threads of process ", pid));
    return all;
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
