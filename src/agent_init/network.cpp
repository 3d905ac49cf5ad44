#include "agent_init/network.h"

#include <arpa/inet.h>
#include <cstring>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {

constexpr const char* kCard = "eth0";

static Result<Fd> control_socket() {
    Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) return errno_error("make a socket");
    return socket;
}

static ifreq request_for(const char* card) {
    ifreq request{};
    std::strncpy(request.ifr_name, card, sizeof request.ifr_name - 1);
    return request;
}

static Result<sockaddr_in> address_of(const std::string& text) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (::inet_pton(AF_INET, text.c_str(), &address.sin_addr) != 1)
        return error(cat("\"", printable(text, 64), "\" is no IPv4 address"));
    return address;
}

// ifr_addr, rt_gateway and their like are sockaddrs that hold an IPv4 one.
static sockaddr generic(const sockaddr_in& address) {
    sockaddr out{};
    static_assert(sizeof out == sizeof address);
    std::memcpy(&out, &address, sizeof out);
    return out;
}

static Result<> control(const Fd& socket, unsigned long what, void* request, std::string_view doing) {
    if (::ioctl(socket.get(), what, request) < 0) return errno_error(doing);
    return {};
}

Result<> bring_up_loopback() {
    auto socket = TRY(control_socket());
    auto request = request_for("lo");
    request.ifr_flags = IFF_UP;
    // The kernel gives it 127.0.0.1 and ::1 by itself.
    return control(socket, SIOCSIFFLAGS, &request, "bring up loopback");
}

Result<> bring_up_card(const guest_link::Network& network) {
    auto socket = TRY(control_socket());
    auto request = request_for(kCard);
    request.ifr_mtu = network.mtu;
    TRY(control(socket, SIOCSIFMTU, &request, cat("set the MTU of ", kCard, " to ", network.mtu)));
    request.ifr_addr = generic(TRY(address_of(network.address)));
    TRY(control(socket, SIOCSIFADDR, &request, cat("give ", kCard, " the address ", network.address)));
    sockaddr_in mask{};
    mask.sin_family = AF_INET;
    uint32_t bits = network.prefix_length == 0 ? 0 : ~uint32_t{0} << (32 - network.prefix_length);
    mask.sin_addr.s_addr = htonl(bits);
    request.ifr_netmask = generic(mask);
    TRY(control(socket, SIOCSIFNETMASK, &request, cat("set the netmask of ", kCard)));
    request.ifr_flags = IFF_UP;
    TRY(control(socket, SIOCSIFFLAGS, &request, cat("bring up ", kCard)));
    char card[IFNAMSIZ] = {};
    std::strncpy(card, kCard, sizeof card - 1);
    rtentry route{};
    route.rt_dst.sa_family = route.rt_genmask.sa_family = AF_INET;
    route.rt_gateway = generic(TRY(address_of(network.gateway)));
    route.rt_flags = RTF_UP | RTF_GATEWAY;
    route.rt_dev = card;
    return control(socket, SIOCADDRT, &route, cat("set the default route to ", network.gateway));
}

Result<> write_resolver_configuration(std::string_view dns) {
    // In many images it is a link to where a service would write it.
    ::unlink("/etc/resolv.conf");
    return write_file_atomic("/etc/resolv.conf", cat("nameserver ", dns, "\n"), 0644);
}

} // namespace nullbox::agent_init
