#include "egress/net/sockets.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/text.h"

namespace nullbox::egress {

constexpr Ip4 kLoopbackAddress{0x7f000001};
constexpr int kBacklog = 256;

static Result<Fd> open_socket(int type, std::string_view what) {
    Fd fd(::socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) return errno_error(cat("open a socket for ", what));
    int on = 1;
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return errno_error(cat("prepare a socket for ", what));
    return fd;
}

static Result<> bind_to(int fd, Ip4 address, uint16_t port) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(address.value);
    if (::bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) < 0)
        return errno_error(cat("bind to ", address.text(), " port ", port));
    return {};
}

static Result<> listen_on(int fd, std::string_view what) {
    if (::listen(fd, kBacklog) < 0) return errno_error(cat("listen for ", what));
    return {};
}

Result<Fd> open_proxy_listener(uint16_t port) {
    auto fd = TRY(open_socket(SOCK_STREAM, "the proxy"));
    int on = 1;
    if (::setsockopt(fd.get(), SOL_IP, IP_TRANSPARENT, &on, sizeof on) < 0)
        return errno_error("take connections to other addresses (IP_TRANSPARENT needs CAP_NET_ADMIN)");
    TRY(bind_to(fd.get(), kLoopbackAddress, port));
    TRY(listen_on(fd.get(), "the proxy"));
    return fd;
}

static Result<Fd> open_dns(const TapLink& link, int type) {
    auto what = cat("DNS on ", link.name);
    auto fd = TRY(open_socket(type, what));
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, link.name.c_str(),
                     static_cast<socklen_t>(link.name.size())) < 0)
        return errno_error(cat("bind the socket for ", what, " to its tap"));
    TRY(bind_to(fd.get(), link.gateway, 53));
    return fd;
}

Result<Fd> open_dns_datagram_socket(const TapLink& link) { return open_dns(link, SOCK_DGRAM); }

Result<Fd> open_dns_listener(const TapLink& link) {
    auto fd = TRY(open_dns(link, SOCK_STREAM));
    TRY(listen_on(fd.get(), cat("DNS on ", link.name)));
    return fd;
}

} // namespace nullbox::egress
