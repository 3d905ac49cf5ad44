// The tests' eyes inside the machine: a service of the test image only (tests/image proves that the
// production image has none). It answers lines on a virtio-serial port, so that tests ask the services over
// their own sockets and look at /proc themselves; the machine has no shell and no network to do it with.
//
// One request a line: ID VERB ARGUMENT...; what is answered: lines of "ID JSON", then "ID." or "ID! REASON".
// - varlink SOCKET MESSAGE: sends MESSAGE there; each answer is a line, until the last ("continues" no more)
// - varlink-as UID SOCKET MESSAGE: the same as another user
// - read PATH: the file's bytes, as a JSON text (bytes above 127 as \u00XX)
// - write PATH TEXT: one write call to an existing or new file
// - copy FROM TO: a file, made executable
// - list PATH: names in a folder, a line each
// - stat PATH: {"mode","uid","gid","size","type"} of the path itself
// - link PATH: where a symbolic link leads
// - mkdir PATH, remove PATH, open r|w PATH, kill PID SIGNAL: only whether it works
// - exec PROGRAM ARGUMENT...: runs to its end: {"status": exit status or -signal, "output": "..."}
// - spawn PROGRAM ARGUMENT...: starts it and leaves it: {"pid": N}
// Each request has its own thread: a stream does not hold up the others.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <mutex>
#include <span>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/service.h"
#include "base/text.h"

namespace nullbox {
namespace {

constexpr size_t kReadLimit = size_t{4} << 20;

std::string json_text(std::string_view bytes) {
    static const char digits[] = "0123456789abcdef";
    std::string out = "\"";
    for (char character : bytes) {
        auto byte = static_cast<unsigned char>(character);
        if (byte == '"' || byte == '\\') {
            out += '\\';
            out += static_cast<char>(byte);
        } else if (byte < 0x20 || byte > 0x7e) {
            out += "\\u00";
            out += digits[byte >> 4];
            out += digits[byte & 15];
        } else {
            out += static_cast<char>(byte);
        }
    }
    return out + '"';
}

// The host's end of the port. A line is written whole.
class Port {
public:
    explicit Port(int fd) : fd_(fd) {}
    void line(std::string_view id, std::string_view separator, std::string_view text) {
        std::lock_guard lock(mutex_);
        (void)write_all(fd_, cat(id, separator, text, '\n')); // the host is gone: nobody to tell
    }

private:
    int fd_;
    std::mutex mutex_;
};

struct Request {
    std::string id, verb, rest; // rest: all after the verb
    std::vector<std::string> words() const {
        std::vector<std::string> out;
        for (auto word : split(rest, ' '))
            if (!word.empty()) out.emplace_back(word);
        return out;
    }
};

using Answer = std::function<void(std::string_view json)>;

Result<Fd> connect_to(const std::string& path) {
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return errno_error("socket");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return error("the socket's path is too long");
    std::memcpy(address.sun_path, path.data(), path.size());
    if (connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        return errno_error(cat("connect ", path));
    return socket;
}

Result<> varlink(const Request& request, const Answer& answer) {
    auto space = request.rest.find(' ');
    if (space == std::string::npos) return error("varlink SOCKET MESSAGE");
    auto socket = TRY(connect_to(request.rest.substr(0, space)));
    std::string message = request.rest.substr(space + 1);
    message += '\0';
    TRY(write_all(socket.get(), message));
    std::string received;
    char buffer[65536];
    for (;;) {
        ssize_t count = read(socket.get(), buffer, sizeof buffer);
        if (count < 0) return errno_error("read the answer");
        if (count == 0) return error("the service closed the connection");
        received.append(buffer, static_cast<size_t>(count));
        for (size_t end; (end = received.find('\0')) != std::string::npos; received.erase(0, end + 1)) {
            std::string_view reply(received.data(), end);
            answer(reply);
            // Boost.JSON writes "continues":true with no space; it cannot stand inside a JSON text unescaped.
            if (reply.find("\"continues\":true") == std::string_view::npos) return {};
        }
    }
}

// The calling thread alone becomes the other user, by the bare system calls, and is not used again.
Result<> varlink_as(const Request& request, const Answer& answer) {
    auto space = request.rest.find(' ');
    auto uid = parse_number(std::string_view(request.rest).substr(0, space), 0, 1 << 30);
    if (!uid || space == std::string::npos) return error("varlink-as UID SOCKET MESSAGE");
    if (::syscall(SYS_setresgid, *uid, *uid, *uid) != 0 || ::syscall(SYS_setresuid, *uid, *uid, *uid) != 0)
        return errno_error(cat("become uid ", *uid));
    return varlink({.id = request.id, .verb = request.verb, .rest = request.rest.substr(space + 1)}, answer);
}

Result<> list(const std::string& path, const Answer& answer) {
    DIR* folder = opendir(path.c_str());
    if (folder == nullptr) return errno_error(cat("open ", path));
    while (const dirent* entry = readdir(folder)) {
        std::string_view name = entry->d_name;
        if (name != "." && name != "..") answer(json_text(name));
    }
    closedir(folder);
    return {};
}

Result<> stat_path(const std::string& path, const Answer& answer) {
    struct stat facts{};
    if (lstat(path.c_str(), &facts) != 0) return errno_error(cat("stat ", path));
    const char* type = S_ISREG(facts.st_mode)   ? "file"
                       : S_ISDIR(facts.st_mode) ? "folder"
                       : S_ISCHR(facts.st_mode) ? "character device"
                       : S_ISBLK(facts.st_mode) ? "block device"
                       : S_ISLNK(facts.st_mode) ? "link"
                                                : "other";
    answer(cat("{\"mode\":", facts.st_mode & 07777U, ",\"uid\":", facts.st_uid, ",\"gid\":", facts.st_gid,
               ",\"size\":", facts.st_size, ",\"type\":\"", type, "\"}"));
    return {};
}

Result<> write_text(const Request& request) {
    auto space = request.rest.find(' ');
    if (space == std::string::npos) return error("write PATH TEXT");
    std::string path = request.rest.substr(0, space);
    Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    if (!file) return errno_error(cat("open ", path));
    return write_all(file.get(), request.rest.substr(space + 1)).context(cat("write ", path));
}

Result<> copy_file(const Request& request) {
    auto words = request.words();
    if (words.size() != 2) return error("copy FROM TO");
    auto content = TRY(read_file(words[0], kReadLimit));
    Fd file(open(words[1].c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755));
    if (!file) return errno_error(cat("open ", words[1]));
    return write_all(file.get(), content);
}

Result<pid_t> start(const std::vector<std::string>& words, int output) {
    std::vector<char*> argv;
    for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    pid_t child = fork();
    if (child < 0) return errno_error("fork");
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, nullptr);
        if (output >= 0) {
            dup2(output, 1);
            dup2(output, 2);
        }
        execv(argv[0], argv.data());
        const char* why = std::strerror(errno);
        (void)!::write(1, why, std::strlen(why));
        _exit(127);
    }
    return child;
}

Result<> execute(const Request& request, const Answer& answer) {
    auto pipe = TRY(make_pipe());
    pid_t child = TRY(start(request.words(), pipe.write.get()));
    pipe.write.reset();
    auto output = read_fd(pipe.read.get(), kReadLimit);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    answer(
        cat("{\"status\":", code, ",\"output\":", json_text(output ? *output : output.error().message), "}"));
    return {};
}

Result<> spawn(const Request& request, const Answer& answer) {
    pid_t child = TRY(start(request.words(), -1));
    answer(cat("{\"pid\":", child, "}"));
    return {};
}

Result<> signal_process(const Request& request) {
    auto words = request.words();
    if (words.size() != 2) return error("kill PID SIGNAL");
    auto pid = parse_number(words[0], 1, 1 << 30), signal = parse_number(words[1], 0, 64);
    if (!pid || !signal) return error("kill PID SIGNAL");
    if (kill(static_cast<pid_t>(*pid), static_cast<int>(*signal)) != 0) return errno_error("kill");
    return {};
}

Result<> open_path(const Request& request) {
    if (request.rest.size() < 3) return error("open r|w PATH");
    std::string path = request.rest.substr(2);
    int mode = request.rest[0] == 'w' ? O_WRONLY | O_CREAT : O_RDONLY;
    Fd file(open(path.c_str(), mode | O_CLOEXEC | O_NONBLOCK, 0600));
    if (!file) return errno_error(cat("open ", path));
    return {};
}

Result<> posix(int outcome, const Request& request) {
    if (outcome != 0) return errno_error(cat(request.verb, ' ', request.rest));
    return {};
}

Result<> serve(const Request& request, const Answer& answer) {
    const std::string& path = request.rest;
    if (request.verb == "varlink") return varlink(request, answer);
    if (request.verb == "varlink-as") return varlink_as(request, answer);
    if (request.verb == "read") return answer(json_text(TRY(read_file(path, kReadLimit)))), Result<>();
    if (request.verb == "write") return write_text(request);
    if (request.verb == "copy") return copy_file(request);
    if (request.verb == "list") return list(path, answer);
    if (request.verb == "stat") return stat_path(path, answer);
    if (request.verb == "mkdir") return posix(mkdir(path.c_str(), 0755), request);
    if (request.verb == "remove") return posix(::remove(path.c_str()), request);
    if (request.verb == "open") return open_path(request);
    if (request.verb == "kill") return signal_process(request);
    if (request.verb == "exec") return execute(request, answer);
    if (request.verb == "spawn") return spawn(request, answer);
    if (request.verb == "link") {
        char target[4096];
        ssize_t count = readlink(path.c_str(), target, sizeof target);
        if (count < 0) return errno_error(cat("readlink ", path));
        answer(json_text({target, static_cast<size_t>(count)}));
        return {};
    }
    return error(cat("no verb ", request.verb));
}

void take_line(Port& port, std::string_view line) {
    auto first = line.find(' ');
    if (first == std::string_view::npos) return;
    auto second = line.find(' ', first + 1);
    Request request{std::string(line.substr(0, first)),
                    std::string(line.substr(first + 1, second - first - 1)),
                    second == std::string_view::npos ? "" : std::string(line.substr(second + 1))};
    std::thread([&port, request] {
        auto done = serve(request, [&](std::string_view json) { port.line(request.id, " ", json); });
        if (done)
            port.line(request.id, ".", "");
        else
            port.line(request.id, "! ", done.error().message);
    }).detach();
}

Result<> run(const std::string& path) {
    Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return errno_error(cat("open ", path));
    static Port port(fd.get()); // outlives the threads
    notify_ready();
    std::string received;
    char buffer[65536];
    for (;;) {
        ssize_t count = read(fd.get(), buffer, sizeof buffer);
        if (count <= 0) { // 0: the host's end is not connected now
            usleep(20'000);
            continue;
        }
        received.append(buffer, static_cast<size_t>(count));
        for (size_t end; (end = received.find('\n')) != std::string::npos; received.erase(0, end + 1))
            take_line(port, std::string_view(received).substr(0, end));
    }
}

} // namespace
} // namespace nullbox

int main(int count, char** words) {
    if (count != 2) {
        std::fputs("usage: probe /dev/vportNpM\n", stderr);
        return 2;
    }
    std::signal(SIGPIPE, SIG_IGN);
    auto ended = nullbox::run(words[1]);
    nullbox::log_error(ended.error().message);
    return 1;
}
