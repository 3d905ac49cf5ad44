// The guest's card as a real one: a tap called eth0 in a network namespace of a child's own.
#include "agent_init/network.h"

#include <cstring>
#include <fcntl.h>
#include <functional>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {
namespace {

constexpr int kNotAllowed = 77;

Result<Fd> make_card() {
    Fd tap(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    if (!tap) return errno_error("open /dev/net/tun");
    ifreq request{};
    std::strcpy(request.ifr_name, "eth0");
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (::ioctl(tap.get(), TUNSETIFF, &request) < 0) return errno_error("make eth0");
    return tap;
}

// What is told of a child in a fresh network: "skip", or what the body returns.
std::string in_own_network(const std::function<std::string()>& body) {
    auto pipe = *make_pipe();
    pid_t pid = ::fork();
    if (pid == 0) {
        auto user = ::geteuid() == 0 ? 0 : CLONE_NEWUSER;
        if (::unshare(CLONE_NEWNET | user) < 0) ::_exit(kNotAllowed);
        auto text = body();
        (void)write_all(pipe.write.get(), text);
        ::_exit(0);
    }
    pipe.write.reset();
    auto text = read_fd(pipe.read.get(), 1 << 16).value_or("");
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == kNotAllowed ? "skip" : text;
}

TEST(Network, TheCardGetsAddressRouteAndMtu) {
    auto told = in_own_network([]() -> std::string {
        auto tap = make_card();
        if (!tap) return "skip";
        auto up = bring_up_card({.address = "10.88.3.2",
                                 .prefix_length = 30,
                                 .gateway = "10.88.3.1",
                                 .dns = "10.88.3.1",
                                 .mtu = 1400});
        if (!up) return up.error().message;
        auto table = read_file("/proc/net/route").value_or("");
        std::string routes;
        for (auto line : split(table, '\n')) {
            auto fields = split(line, '\t');
            if (fields.size() > 7 && fields[0] == "eth0")
                routes += cat(fields[1], " via ", fields[2], " mask ", fields[7], "; ");
        }
        Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        ifreq request{};
        std::strcpy(request.ifr_name, "eth0");
        ::ioctl(socket.get(), SIOCGIFMTU, &request);
        return cat(routes, "mtu ", request.ifr_mtu);
    });
    if (told == "skip") GTEST_SKIP() << "needs to be allowed to make a network namespace and a tap";
    EXPECT_EQ(told, "00000000 via 0103580A mask 00000000; 0003580A via 00000000 mask FCFFFFFF; mtu 1400");
}

TEST(Network, EachStepSaysWhatFailed) {
    auto told = in_own_network([]() -> std::string {
        auto no_card = bring_up_card({.address = "10.88.3.2", .gateway = "10.88.3.1"});
        auto tap = make_card();
        if (!tap) return "skip";
        auto address = bring_up_card({.address = "10.88.3", .gateway = "10.88.3.1"});
        auto gateway = bring_up_card({.address = "10.88.3.2", .prefix_length = 30, .gateway = "192.0.2.1"});
        auto loopback = bring_up_loopback();
        return cat(no_card.error().message, "\n", address.error().message, "\n", gateway.error().message,
                   "\n", loopback.has_value());
    });
    if (told == "skip") GTEST_SKIP() << "needs to be allowed to make a network namespace and a tap";
    EXPECT_EQ(told, "set the MTU of eth0 to 1500: No such device\n"
                    "\"10.88.3\" is no IPv4 address\n"
                    "set the default route to 192.0.2.1: Network is unreachable\ntrue");
}

} // namespace
} // namespace nullbox::agent_init
