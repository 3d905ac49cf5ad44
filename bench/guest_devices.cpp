#include "guest_devices.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "agent_init/guest.h"
#include "agent_init/network.h"
#include "base/file.h"
#include "base/loop.h" // Clock
#include "base/text.h"
#include "host_ports.h"

namespace nullbox::bench {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;
// How long each of them goes on, and a little more: a slow machine does less in it, and takes no longer.
constexpr auto kDuration = std::chrono::seconds(3);
constexpr size_t kSendPieceBytes = size_t{128} << 10;
constexpr size_t kMessageBytes = 64;

struct Measured {
    uint64_t amount = 0;
    Clock::duration time{};
};

// All of the file, and that each block is the one of its place.
Result<uint64_t> read_through(int file, std::span<char> buffer) {
    uint64_t total = 0;
    for (;;) {
        ssize_t count = ::read(file, buffer.data(), buffer.size());
        if (count < 0) return errno_error("read");
        if (count == 0) return total;
        if (count % static_cast<ssize_t>(kFileBlockBytes) != 0) return error("a read ended within a block");
        for (size_t at = 0; at < static_cast<size_t>(count); at += kFileBlockBytes) {
            uint64_t number = 0;
            std::memcpy(&number, buffer.data() + at, sizeof number);
            if (number != (total + at) / kFileBlockBytes) return error("a block is not the one of its place");
        }
        total += static_cast<uint64_t>(count);
    }
}

// Through the page cache, as an agent reads; what a pass has left there is dropped before the next.
Result<Measured> read_sequentially(const char* path) {
    Fd file = TRY(open_readonly(path));
    std::vector<char> buffer(kReadBytes);
    Measured measured;
    while (measured.time < kDuration) {
        (void)::ioctl(file.get(), BLKFLSBUF, 0); // a block device's
        ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
        if (::lseek(file.get(), 0, SEEK_SET) < 0) return errno_error("go to the start");
        auto begin = Clock::now();
        measured.amount += TRY(read_through(file.get(), buffer));
        measured.time += Clock::now() - begin;
    }
    return measured;
}

Result<Measured> read_block() { return read_sequentially("/dev/vda"); }

Result<Measured> read_share() {
    ::mkdir("/share", 0755);
    if (::mount("share", "/share", "virtiofs", MS_RDONLY, nullptr) < 0) return errno_error("mount the share");
    return read_sequentially("/share/file");
}

Result<> bring_up_network() {
    static bool up = false;
    if (up) return {};
    TRY(agent_init::bring_up_loopback());
    TRY(agent_init::bring_up_card(
        {.address = kGuestAddress, .prefix_length = kPrefixLength, .gateway = kHostAddress}));
    up = true;
    return {};
}

Result<Fd> connect_tcp(uint16_t port) {
    TRY(bring_up_network());
    Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return errno_error("make a socket");
    sockaddr_in host{};
    host.sin_family = AF_INET;
    host.sin_port = htons(port);
    ::inet_pton(AF_INET, kHostAddress, &host.sin_addr);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&host), sizeof host) < 0)
        return errno_error(cat("connect to port ", port));
    int on = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return socket;
}

// Until the host says that all of it has arrived.
Result<Measured> send_to_host() {
    Fd socket = TRY(connect_tcp(kSinkPort));
    std::vector<char> piece(kSendPieceBytes, 'x');
    auto begin = Clock::now();
    uint64_t sent = 0;
    for (; Clock::now() - begin < kDuration; sent += piece.size())
        TRY(write_all(socket.get(), std::string_view(piece.data(), piece.size())));
    ::shutdown(socket.get(), SHUT_WR);
    uint64_t arrived = 0;
    TRY(read_exact(socket.get(), std::as_writable_bytes(std::span(&arrived, 1))));
    Measured measured{.amount = arrived, .time = Clock::now() - begin};
    if (arrived != sent) return error(cat(arrived, " of ", sent, " bytes arrived"));
    return measured;
}

// One small message at a time, there and back.
Result<Measured> round_trips(const Fd& socket) {
    std::array<std::byte, kMessageBytes> message{}, answer{};
    Measured measured;
    for (auto begin = Clock::now(); measured.time < kDuration; measured.time = Clock::now() - begin) {
        message[0] = static_cast<std::byte>(++measured.amount);
        TRY(write_all(socket.get(), message));
        TRY(read_exact(socket.get(), answer));
        if (answer != message) return error("the answer is not the message");
    }
    return measured;
}

Result<Measured> network_round_trips() { return round_trips(TRY(connect_tcp(kEchoPort))); }
Result<Measured> vsock_round_trips() { return round_trips(TRY(agent_init::connect_host(kEchoPort))); }

struct Measurement {
    std::string_view name;
    Result<Measured> (*measure)();
};
constexpr Measurement kTable[] = {
    {"blk_read", read_block},
    {"fs_read", read_share},
    {"net_to_host", send_to_host},
    {"net_round_trip", network_round_trips},
    {"vsock_round_trip", vsock_round_trips},
};

std::string measure_one(std::string_view name) {
    const auto* found = std::ranges::find(kTable, name, &Measurement::name);
    if (found == std::end(kTable)) return cat(name, " failed: there is no such measurement");
    auto measured = found->measure();
    if (!measured) return cat(name, " failed: ", measured.error().message);
    return cat(name, " ", measured->amount, " ",
               std::chrono::duration_cast<std::chrono::nanoseconds>(measured->time).count());
}

} // namespace

std::string measure_devices(std::string_view names) {
    std::string line;
    for (auto name : split(names, ',')) line += cat(line.empty() ? "" : "; ", measure_one(name));
    return line;
}

} // namespace nullbox::bench
