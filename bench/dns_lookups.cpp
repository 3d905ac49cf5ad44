// Look-ups by egress's Upstream, for bench/dns.py: bench_dns_lookups COUNT NAMES AT_A_TIME
//
// COUNT look-ups of NAMES names in rotation, AT_A_TIME at once, of a server on loopback (a process of its
// own) that answers each with an address that is the name's number and a time to live of one second. Each
// answer is compared. Prints {"dns_lost": N, "dns_lookups": N a second, "dns_memory": MB} as one JSON object.
#include <cstdio>
#include <cstring>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "egress/upstream.h"

namespace nullbox::bench {
namespace {

using namespace nullbox::egress;

constexpr Ip4 kServer{0x7f000001}; // 127.0.0.1
constexpr uint32_t kFirstAddress = 0x0b000000;
constexpr size_t kHeaderBytes = 12;

std::string name_text(uint32_t number) { return cat("h", number, ".example.org"); }
IpAddress address_of(uint32_t number) { return IpAddress::of(Ip4{kFirstAddress + number}); }

// The question comes back with one A record; its first label says which.
size_t answer(char* message, size_t size) {
    uint32_t number = 0;
    size_t label = static_cast<unsigned char>(message[kHeaderBytes]);
    for (size_t i = 1; i < label; i++)
        number = number * 10 + static_cast<uint32_t>(message[kHeaderBytes + 1 + i] - '0');
    size_t end = kHeaderBytes + std::strlen(message + kHeaderBytes) + 1 + 4; // and its type and class
    message[2] = static_cast<char>(0x84), message[3] = 0;
    std::memset(message + 4, 0, 8);
    message[5] = message[7] = 1;
    uint32_t address = htonl(kFirstAddress + number);
    constexpr char kRecord[] = "\xc0\x0c\0\1\0\1\0\0\0\1\0\4";
    std::memcpy(message + end, kRecord, sizeof kRecord - 1);
    std::memcpy(message + end + sizeof kRecord - 1, &address, sizeof address);
    (void)size; // what OPT record there was is left away
    return end + sizeof kRecord - 1 + sizeof address;
}

[[noreturn]] void serve(int fd) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    char message[1024] = {};
    for (;;) {
        sockaddr_in from{};
        socklen_t length = sizeof from;
        auto* address = reinterpret_cast<sockaddr*>(&from);
        ssize_t size = ::recvfrom(fd, message, 512, 0, address, &length);
        if (size > ssize_t{kHeaderBytes})
            ::sendto(fd, message, answer(message, static_cast<size_t>(size)), 0, address, length);
    }
}

struct Work {
    uint32_t count, names, at_a_time, next = 0, lost = 0;
};

Task<void> look_up(Upstream& upstream, Work& work) {
    while (work.next < work.count) {
        uint32_t number = work.next++ % work.names;
        auto found = co_await upstream.lookup(*HostName::parse(name_text(number)));
        if (!found || *found != std::vector{address_of(number)}) work.lost++;
    }
}

Result<> measure(Work work) {
    Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in here{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(kServer.value)}};
    socklen_t length = sizeof here;
    auto* address = reinterpret_cast<sockaddr*>(&here);
    if (!fd || ::bind(fd.get(), address, length) < 0 || ::getsockname(fd.get(), address, &length) < 0)
        return errno_error("bind the server's socket");
    pid_t server = ::fork();
    if (server < 0) return errno_error("fork");
    if (server == 0) serve(fd.get());
    auto loop = TRY(Loop::make());
    Tasks tasks(*loop);
    Upstream upstream(*loop, [] { return std::vector{IpAddress::of(kServer)}; },
                      {.port = ntohs(here.sin_port)});
    auto begin = Clock::now();
    for (uint32_t i = 0; i < work.at_a_time; i++) tasks.spawn(look_up(upstream, work));
    TRY(tasks.run());
    auto seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    ::kill(server, SIGKILL);
    auto status = TRY(read_file("/proc/self/status"));
    auto high = status.substr(status.find("VmHWM:") + 6);
    auto kilobytes = parse_number(trim(high.substr(0, high.find("kB"))), 1, INT32_MAX).value_or(0);
    std::printf("{\"dns_lost\": %u, \"dns_lookups\": %.0f, \"dns_memory\": %.2f}\n", work.lost,
                work.count / seconds, static_cast<double>(kilobytes) / 1024);
    return {};
}

} // namespace
} // namespace nullbox::bench

int main(int count, char** arguments) {
    using namespace nullbox;
    auto number = [&](int at) {
        return count == 4 ? static_cast<uint32_t>(parse_number(arguments[at], 1, 10'000'000).value_or(0)) : 0;
    };
    bench::Work work{.count = number(1), .names = number(2), .at_a_time = number(3)};
    if (work.count == 0 || work.names == 0 || work.at_a_time == 0) {
        log_error("usage: bench_dns_lookups COUNT NAMES AT_A_TIME");
        return 2;
    }
    auto done = bench::measure(work);
    if (!done) log_error(done.error().message);
    return done ? 0 : 1;
}
