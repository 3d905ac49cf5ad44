// The host's side of a VM whose devices are measured, for our monitor and for a peer's alike: a file to read,
// a tap with a TCP sink and an echo behind it. In a network namespace of its own, so that no firewall of the
// box's is in between.
//
//   bench_host_lab FILE_MIB [WAIT_FOR COMMAND... --] COMMAND...
//
// Makes /tmp/lab/share/file (in memory, where /tmp is) and the tap, starts the first command if there are two
// and waits until the path WAIT_FOR exists, then runs the last one and ends with it.
#include <arpa/inet.h>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "host_ports.h"

namespace nullbox::bench {
namespace {

constexpr const char* kFile = "/tmp/lab/share/file";

Result<> make_file(uint64_t bytes) {
    ::mkdir("/tmp/lab", 0755);
    ::mkdir("/tmp/lab/share", 0755);
    Fd file(::open(kFile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file) return errno_error(cat("make ", kFile));
    std::vector<char> block(kFileBlockBytes, 'n');
    for (uint64_t number = 0; number < bytes / kFileBlockBytes; number++) {
        std::memcpy(block.data(), &number, sizeof number);
        TRY(write_all(file.get(), std::string_view(block.data(), block.size())));
    }
    return {};
}

sockaddr_in address_of(const char* text, uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    ::inet_pton(AF_INET, text, &address.sin_addr);
    return address;
}

Result<> make_tap() {
    if (::unshare(CLONE_NEWNET) < 0) return errno_error("make a network namespace");
    Fd tap(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    if (!tap) return errno_error("open /dev/net/tun");
    ifreq request{};
    std::strncpy(request.ifr_name, kTapName, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (::ioctl(tap.get(), TUNSETIFF, &request) < 0 || ::ioctl(tap.get(), TUNSETPERSIST, 1) < 0)
        return errno_error("make the tap");
    Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    auto address = address_of(kHostAddress, 0);
    std::memcpy(&request.ifr_addr, &address, sizeof address);
    if (::ioctl(socket.get(), SIOCSIFADDR, &request) < 0) return errno_error("give the tap its address");
    address = address_of("255.255.255.0", 0);
    static_assert(kPrefixLength == 24);
    std::memcpy(&request.ifr_netmask, &address, sizeof address);
    if (::ioctl(socket.get(), SIOCSIFNETMASK, &request) < 0) return errno_error("give the tap its netmask");
    request.ifr_flags = IFF_UP;
    if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) < 0) return errno_error("bring up the tap");
    return {};
}

void echo(const Fd& stream) {
    char bytes[4096];
    for (ssize_t count; (count = ::read(stream.get(), bytes, sizeof bytes)) > 0;)
        if (!write_all(stream.get(), std::string_view(bytes, static_cast<size_t>(count)))) return;
}

void sink(const Fd& stream) {
    std::vector<char> bytes(size_t{256} << 10);
    uint64_t total = 0;
    for (ssize_t count; (count = ::read(stream.get(), bytes.data(), bytes.size())) > 0;)
        total += static_cast<uint64_t>(count);
    (void)write_all(stream.get(), std::as_bytes(std::span(&total, 1)));
}

// One connection after the other.
Result<> serve(uint16_t port, void (*with)(const Fd&)) {
    Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto address = address_of("0.0.0.0", port);
    if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
        ::listen(listener.get(), 4) < 0)
        return errno_error(cat("listen at port ", port));
    std::thread([listener = std::move(listener), with] {
        for (;;) {
            Fd stream(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            int on = 1;
            ::setsockopt(stream.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            if (stream) with(stream);
        }
    }).detach();
    return {};
}

Result<pid_t> start(char** command) {
    pid_t pid = ::fork();
    if (pid < 0) return errno_error("fork");
    if (pid > 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::execv(command[0], command);
    ::perror(command[0]);
    ::_exit(127);
}

Result<> wait_for(const char* path) {
    for (int attempt = 0; attempt < 1000; attempt++) {
        if (::access(path, F_OK) == 0) return {};
        ::usleep(10'000);
    }
    return error(cat(path, " did not appear"));
}

Result<int> run(int count, char** words) {
    auto mib = parse_number(words[1], 1, 512);
    if (!mib) return error("FILE_MIB: 1 to 512");
    TRY(make_file(static_cast<uint64_t>(*mib) << 20));
    TRY(make_tap());
    TRY(serve(kEchoPort, echo));
    TRY(serve(kSinkPort, sink));
    int last = 2;
    for (int i = 3; i < count; i++)
        if (std::string_view(words[i]) == "--") {
            words[i] = nullptr;
            ::unlink(words[2]);
            TRY(start(words + 3));
            TRY(wait_for(words[2]));
            last = i + 1;
            break;
        }
    if (last >= count) return error("there is no command");
    pid_t pid = TRY(start(words + last));
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

} // namespace
} // namespace nullbox::bench

int main(int count, char** words) {
    using namespace nullbox;
    ::signal(SIGPIPE, SIG_IGN);
    auto done = count < 3
                    ? Result<int>(error("usage: bench_host_lab FILE_MIB [WAIT_FOR COMMAND... --] COMMAND..."))
                    : bench::run(count, words);
    if (done) return *done;
    (void)write_all(2, cat("bench_host_lab: ", done.error().message, "\n"));
    return 1;
}
