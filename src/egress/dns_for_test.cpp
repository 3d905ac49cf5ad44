#include "egress/dns_for_test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/check.h"

namespace nullbox::egress {

using namespace std::string_literals;

// A port that is free for both: the kernel's choice for TCP, where connections that are over hold ports too.
bool TestDns::bind_both() {
    socket_ = Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    listener_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    auto* name = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof address;
    if (::bind(listener_.get(), name, size) < 0 || ::getsockname(listener_.get(), name, &size) < 0)
        return false;
    port_ = ntohs(address.sin_port);
    return ::bind(socket_.get(), name, size) == 0 && ::listen(listener_.get(), 8) == 0;
}

TestDns::TestDns() {
    for (int tries = 1; !bind_both(); tries++) CHECK(tries < 20);
    timeval limit{.tv_sec = 0, .tv_usec = 20'000};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    thread_ = std::thread([this] { serve(); });
}

TestDns::~TestDns() {
    over_ = true;
    thread_.join();
}

void TestDns::set(std::string name, std::vector<std::string> addresses) {
    std::lock_guard lock(mutex_);
    addresses_[std::move(name)] = std::move(addresses);
}

std::string TestDns::answer(std::string query) {
    std::string name;
    size_t at = 12;
    for (; at < query.size() && query[at]; at += static_cast<size_t>(query[at]) + 1) {
        auto label = query.substr(at + 1, static_cast<size_t>(query[at]));
        for (auto& c : label) c = static_cast<char>(std::tolower(c));
        name += (name.empty() ? "" : ".") + label;
        if (lower_case) query.replace(at + 1, label.size(), label);
    }
    bool v6 = query[at + 2] == 28;
    auto question = query.substr(12, at + 5 - 12);
    std::lock_guard lock(mutex_);
    auto found = addresses_.find(name);
    std::string records;
    char count = 0;
    if (found != addresses_.end())
        for (const auto& text : found->second) {
            in6_addr bytes{};
            if (text.contains(':') != v6 || ::inet_pton(v6 ? AF_INET6 : AF_INET, text.c_str(), &bytes) != 1)
                continue;
            char size = v6 ? 16 : 4;
            records += "\xc0\x0c\x00"s + (v6 ? '\x1c' : '\x01') + "\x00\x01\x00\x00\x00\x3c\x00"s + size +
                       std::string(reinterpret_cast<char*>(&bytes), static_cast<size_t>(size));
            count++;
        }
    char rcode = found == addresses_.end() ? '\x83' : '\x80';
    if (fail_first.exchange(false)) rcode = '\x82';
    return query.substr(0, 2) + "\x81"s + rcode + "\x00\x01\x00"s + count + "\x00\x00\x00\x00"s + question +
           records;
}

// One question; without by_tcp the connection is closed at once.
void TestDns::serve_stream() {
    Fd stream(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!stream || !by_tcp) return;
    std::string bytes(514, '\0');
    auto count = ::recv(stream.get(), bytes.data(), bytes.size(), 0);
    if (count < 19) return;
    queries_++;
    streams_++;
    auto out = answer(bytes.substr(2, static_cast<size_t>(count) - 2));
    out = std::string{static_cast<char>(out.size() >> 8), static_cast<char>(out.size())} + out;
    ::send(stream.get(), out.data(), out.size(), MSG_NOSIGNAL);
}

void TestDns::serve() {
    char bytes[2048];
    while (!over_) {
        pollfd ready[] = {{socket_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
        if (::poll(ready, 2, 20) <= 0) continue;
        if (ready[1].revents) serve_stream();
        if (!ready[0].revents) continue;
        sockaddr_in from{};
        socklen_t size = sizeof from;
        auto count =
            ::recvfrom(socket_.get(), bytes, sizeof bytes, 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (count < 17) continue;
        queries_++;
        auto out = answer({bytes, static_cast<size_t>(count)});
        auto send = [&](const std::string& text) {
            ::sendto(socket_.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
        };
        if (forge_first.exchange(false)) {
            auto forged = out;
            forged[0] = static_cast<char>(forged[0] ^ 1);
            forged.back() = '\x66';
            send(forged);
        }
        send(out);
    }
}

} // namespace nullbox::egress
