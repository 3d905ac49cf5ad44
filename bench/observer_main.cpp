// The benches' eyes in a machine that runs the unmodified boot file: started by the kernel in nulld's place
// (rdinit=), it leaves a process of its own behind and becomes nulld. That process has its own mounts, so
// nothing of it shows in nulld's world, and serves requests from a virtio-serial port: one JSON object a
// line, one answer a line.
//
//   {"do": "memory"}                               MemTotal, MemAvailable
//   {"do": "call", "socket", "method", "parameters"}   a Varlink call; sockets lie below /run of nulld's
//   world
//   {"do": "agent", "name"}                        starts it through cage, stops it at its first line
//   {"do": "agents", "names", "order"}             starts them all, "at once" or "in a row"; stops them at
//   the last first line
//   {"do": "idle", "names", "settle_s", "watch_s"}  starts them all, and watches what they do while they do
//   nothing
//   {"do": "run", "argv", "until"}                 a peer's VM on the bench disk, killed at that line
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "agent_start.h"
#include "base/file.h"
#include "base/text.h"
#include "peer_vm.h"
#include "varlink/client.h"

namespace nullbox::bench {
namespace {

namespace json = boost::json;

constexpr const char* kPort = "/dev/vport0p1";
constexpr const char* kPeerDisk = "/dev/vda";
constexpr const char* kPeerRoot = "/peer";
constexpr size_t kMaxLineBytes = size_t{64} << 10;

Result<> mount_at(const char* source, const char* target, const char* type, unsigned long flags) {
    if (::mkdir(target, 0755) < 0 && errno != EEXIST && errno != EROFS)
        return errno_error(cat("make ", target));
    if (::mount(source, target, type, flags, nullptr) < 0 && errno != EBUSY)
        return errno_error(cat("mount ", type, " at ", target));
    return {};
}

Result<> set_up_mounts() {
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return errno_error("own mounts");
    TRY(mount_at("devtmpfs", "/dev", "devtmpfs", 0));
    return mount_at("proc", "/proc", "proc", 0);
}

// The peers' programs. Only when they are asked for: another run has the data disk there.
Result<> mount_peer_disk() {
    static bool mounted = false;
    if (std::exchange(mounted, true)) return {};
    TRY(mount_at(kPeerDisk, kPeerRoot, "squashfs", MS_RDONLY));
    TRY(mount_at("devtmpfs", "/peer/dev", "devtmpfs", 0));
    TRY(mount_at("proc", "/peer/proc", "proc", 0));
    return mount_at("tmpfs", "/peer/tmp", "tmpfs", 0);
}

Result<std::string> text(const json::object& request, std::string_view key) {
    const auto* value = request.if_contains(key);
    if (value == nullptr || !value->is_string()) return error(cat("the request needs a text \"", key, "\""));
    return std::string(value->get_string());
}

Result<json::object> memory() {
    json::object answer;
    for (const auto& line : split(TRY(read_file("/proc/meminfo")), '\n'))
        for (std::string_view field : {"MemTotal", "MemAvailable"})
            if (line.starts_with(cat(field, ":"))) {
                auto rest = trim(std::string_view(line).substr(field.size() + 1));
                answer[field] = parse_number(rest.substr(0, rest.find(' ')), 0, INT64_MAX).value_or(-1);
            }
    return answer;
}

// nulld's root is another than ours: the way leads through PID 1.
std::string in_nullds_world(const std::string& path) { return cat("/proc/1/root", path); }

Result<json::object> call(const json::object& request) {
    auto socket = TRY(text(request, "socket"));
    auto method = TRY(text(request, "method"));
    auto client = TRY(varlink::Client::connect(in_nullds_world(socket)));
    const auto* parameters = request.if_contains("parameters");
    return client.call(
        method, parameters != nullptr && parameters->is_object() ? parameters->get_object() : json::object(),
        std::chrono::seconds(30));
}

json::object answer_of(const FirstLine& first) {
    return {{"ms", first.after_ms},
            {"process_kb", first.process_kb},
            {"cpu_ms", first.cpu_ms},
            {"line", printable(first.line)}};
}

Result<json::object> agent(const json::object& request) {
    auto name = TRY(text(request, "name"));
    auto start = TRY(start_agent(in_nullds_world("/run/cage/cage.sock"), name));
    auto answer = answer_of(start.first);
    answer["status"] = std::move(start.status);
    return answer;
}

Result<std::vector<std::string>> list(const json::object& request, std::string_view key) {
    const auto* words = request.if_contains(key);
    if (words == nullptr || !words->is_array() || words->get_array().empty())
        return error(cat("the request needs a list \"", key, "\""));
    std::vector<std::string> list;
    for (const auto& word : words->get_array())
        if (word.is_string()) list.emplace_back(word.get_string());
    return list;
}

Result<json::object> agents(const json::object& request) {
    auto names = TRY(list(request, "names"));
    auto order = TRY(text(request, "order")) == "in a row" ? Order::InARow : Order::AtOnce;
    return json::object{{"ms", TRY(start_agents(in_nullds_world("/run/cage/cage.sock"), names, order))}};
}

Result<std::chrono::seconds> seconds(const json::object& request, std::string_view key) {
    const auto* value = request.if_contains(key);
    if (value == nullptr || !value->is_int64()) return error(cat("the request needs a number \"", key, "\""));
    return std::chrono::seconds(value->get_int64());
}

Result<json::object> idle(const json::object& request) {
    auto names = TRY(list(request, "names"));
    auto settle = TRY(seconds(request, "settle_s"));
    auto watch = TRY(seconds(request, "watch_s"));
    auto one = TRY(idle_agents(in_nullds_world("/run/cage/cage.sock"), names, settle, watch));
    return json::object{{"wakeups", one.wakeups}, {"cpu_ms", one.cpu_ms}};
}

Result<json::object> run(const json::object& request) {
    auto argv = TRY(list(request, "argv"));
    auto until = TRY(text(request, "until"));
    TRY(mount_peer_disk());
    return answer_of(TRY(run_until_line(kPeerRoot, argv, until)));
}

Result<json::object> handle(const std::string& line) {
    boost::system::error_code wrong;
    auto request = json::parse(line, wrong);
    if (wrong || !request.is_object()) return error("the request is not a JSON object");
    const auto& object = request.get_object();
    auto what = TRY(text(object, "do"));
    if (what == "memory") return memory();
    if (what == "call") return call(object);
    if (what == "agent") return agent(object);
    if (what == "agents") return agents(object);
    if (what == "idle") return idle(object);
    if (what == "run") return run(object);
    return error(cat("unknown request ", what));
}

Result<std::string> read_line(int fd) {
    std::string line;
    for (char byte = 0; line.size() < kMaxLineBytes;) {
        ssize_t count = ::read(fd, &byte, 1);
        if (count < 0 && errno != EINTR) return errno_error(cat("read ", kPort));
        // 0: nobody has opened the host's end yet.
        if (count == 0) ::usleep(20'000);
        if (count == 1 && byte == '\n') return line;
        if (count == 1) line += byte;
    }
    return error("a request is too long");
}

Result<Fd> open_port() {
    for (int attempt = 0; attempt < 500; attempt++) {
        Fd port(::open(kPort, O_RDWR | O_CLOEXEC));
        if (port) return port;
        ::usleep(20'000);
    }
    return errno_error(cat("open ", kPort));
}

Result<> serve() {
    Fd port = TRY(open_port());
    for (;;) {
        auto line = TRY(read_line(port.get()));
        auto answer = handle(line);
        json::object out;
        if (answer)
            out["answer"] = *std::move(answer);
        else
            out["error"] = answer.error().message;
        TRY(write_all(port.get(), cat(json::serialize(out), "\n")));
    }
}

[[noreturn]] void observe(int ready) {
    ::setsid();
    Result<> done = ::unshare(CLONE_NEWNS) == 0 ? set_up_mounts() : errno_error("own mount namespace");
    ::close(ready); // nulld may start: what it mounts from now on is its own
    if (done) done = serve();
    (void)write_all(2, cat("bench observer: ", done.error().message, "\n"));
    ::_exit(1);
}

// An emulated machine has one CPU more than programs may use, the first (SPARE_CPUS in tools/qemu.py); nulld
// keeps itself to the others, and so must the VMs that are started here.
void leave_spare_cpu() {
    cpu_set_t cpus;
    if (::sched_getaffinity(0, sizeof cpus, &cpus) < 0 || CPU_COUNT(&cpus) < 3) return;
    CPU_CLR(0, &cpus);
    (void)::sched_setaffinity(0, sizeof cpus, &cpus);
}

} // namespace
} // namespace nullbox::bench

int main() {
    using namespace nullbox;
    ::signal(SIGPIPE, SIG_IGN);
    bench::leave_spare_cpu();
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) == 0) {
        if (::fork() == 0) {
            ::close(ready[0]);
            bench::observe(ready[1]);
        }
        ::close(ready[1]);
        char nothing = 0;
        (void)!::read(ready[0], &nothing, 1);
        ::close(ready[0]);
    }
    ::signal(SIGPIPE, SIG_DFL);
    ::unlink("/bench-observer"); // its pages go when it ends
    char program[] = "/init";
    char* arguments[] = {program, nullptr};
    ::execv(program, arguments);
    ::perror("execute /init");
    return 1;
}
